"""The tokenizer of a model as keys of a GGUF header (`tokenizer.ggml.*`).

What llama.cpp makes of the keys is a tokenizer again (../hub/gguf/vocabulary.py); both have to cut and number texts
alike, or the model is refused: a model that is given other tokens than it learnt answers nonsense, and nothing says so.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from ..documents import parse_object
from ..errors import SourceError
from ..hub.gguf.header import Header
from ..hub.gguf.splits import DISTINCT, name_of
from ..hub.gguf.vocabulary import (
    BYTE,
    CONTROL,
    ENDS,
    NORMAL,
    PHI_3,
    SPACE,
    UNKNOWN,
    UNSTRIPPED,
    UNUSED,
    USER_DEFINED,
    files_of,
    strips_by,
)
from ..stream import tokens as texts_of
from ..stream.carried import Carried
from . import sentencepiece
from .sentencepiece import object_of
from .texts import TEXTS, around, drawn

_GGML = "tokenizer.ggml."
_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "sep": "seperator", "mask": "mask"}
"""Roles of tokens, as transformers names them and llama.cpp does."""

_WHY = {
    "Unigram": ". llama.cpp's, for T5, has no bytes for characters that are no tokens",
    "WordPiece": ". llama.cpp's is for encoders such as BERT",
}
"""What llama.cpp has of other kinds."""

Keys = dict[str, Any]


class Vocabulary(NamedTuple):
    """Keys of the header, the tokenizer.json that they stand for, and what llama.cpp does otherwise in rare cases."""

    keys: Keys
    file: bytes
    remarks: tuple[str, ...] = ()


def keys_of(carried: Carried, config: Mapping[str, Any], rows: int, what: str, name: str = "") -> Vocabulary:
    """The tokenizer of a model of so many `rows` in its embedding; `name`: what the header calls the model.

    Raises `SourceError` for one of a kind that llama.cpp lacks, and where llama.cpp would number a text otherwise.
    """
    files = carried.files()
    if "tokenizer.json" not in files and sentencepiece.FILE in files:
        files["tokenizer.json"] = sentencepiece.tokenizer_of(files, config, what)
    if "tokenizer.json" not in files:
        instead = (
            "put that of the model that it was made from beside it"
            if what.endswith(".gguf")
            else "save the tokenizer again with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
        raise SourceError(f"{what} has no tokenizer.json, which a GGUF file's tokenizer is made of; {instead}.")
    document = parse_object(files["tokenizer.json"], f"tokenizer.json of {what}", SourceError, finite=False)
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        kind = model.get("type") if isinstance(model, dict) else None
        why = _WHY.get(str(kind), "")
        raise SourceError(f"{what} has a tokenizer of the kind {kind}, which is not written as GGUF; BPE is{why}.")
    told, remark = _told_alike(document)
    own = _loaded(files["tokenizer.json"] if told is document else json.dumps(told).encode(), what)
    names = _names(own, rows, what)
    keys = _shared(document, files, config, names)
    if carried.chat_template:
        keys["tokenizer.chat_template"] = carried.chat_template
    composed = own.normalizer.normalize_str if told.get("normalizer") == _NFC else str
    added = own.get_added_tokens_decoder()
    sample = [*TEXTS, *drawn([n for n in sorted(names) if not names[n][1]], lambda number: own.decode([number]))]
    sample = [composed(text) for text in (*sample, *(around(one.content) for one in added.values()))]
    culprits: list[AddedToken | None] = [*[None] * (len(sample) - len(added)), *added.values()]
    expected = [one.ids for one in own.encode_batch(sample, add_special_tokens=False)]
    fewest: list[tuple[str, AddedToken | None]] | None = None
    nearest = ""
    for way in _ways(told, names, rows, name):
        made = files_of(Header({**keys, **way}, {}, ()), config, what).get("tokenizer.json")
        assert made is not None
        found = [one.ids for one in _loaded(made, what).encode_batch(sample, add_special_tokens=False)]
        compared = zip(sample, culprits, expected, found, strict=True)
        apart = [(text, culprit) for text, culprit, wanted, ids in compared if wanted != ids]
        if not apart:
            return Vocabulary({**keys, **way}, made, (remark,) if remark else ())
        if fewest is None or len(apart) < len(fewest):
            fewest, nearest = apart, way[f"{_GGML}pre"]
    assert fewest is not None
    text, culprit = min(fewest, key=lambda one: (one[1] is not None, len(one[0])))
    if culprit is not None:
        raise SourceError(_told_otherwise([one for _, one in fewest if one is not None], told, what))
    raise SourceError(
        f"{what} has a tokenizer that llama.cpp has no pre-tokenizer for: by the nearest of those it has ({nearest}), "
        f"{len(fewest)} of {len(sample)} texts come out otherwise, such as {text[:40]!r}."
    )


_NFC = {"type": "NFC"}


def _told_alike(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The tokenizer.json as far as llama.cpp goes along with it, and the remark on what it does otherwise."""
    if document.get("normalizer") == _NFC:
        return document, "llama.cpp leaves letters and accents apart, which the model's own tokenizer composes (NFC)."
    cut = document.get("pre_tokenizer")
    if not isinstance(cut, Mapping) or cut.get("type") != "Metaspace" or document.get("normalizer") is not None:
        return document, ""
    if (scheme := cut.get("prepend_scheme")) == "never":
        return document, ""
    told = {
        **document,
        "normalizer": {"type": "Prepend", "prepend": SPACE},
        "pre_tokenizer": {**cut, "prepend_scheme": "never"},
        "added_tokens": [{**one, "normalized": False} for one in document.get("added_tokens") or ()],
    }
    where = "a text that begins with a space" + " and after each special token" * (scheme == "first")
    return told, f"Before {where} llama.cpp puts one more, which the model's own tokenizer does not."


def _told_otherwise(tokens: Sequence[AddedToken], told: Mapping[str, Any], what: str) -> str:
    flags = [flag for flag in ("lstrip", "rstrip", "single_word") if any(getattr(one, flag) for one in tokens)]
    if told.get("normalizer") is not None and any(one.normalized for one in tokens):
        flags.append("normalized")
    more = f" and {len(tokens) - 1:,} more" if len(tokens) > 1 else ""
    return (
        f"{what} has the added token {tokens[0].content!r}{more}, which llama.cpp cuts out of texts otherwise: of an "
        f"added token it knows no {' and no '.join(flags) or 'more than its text'}. Where the model was not taught so, "
        "set that to false in tokenizer.json; else there is no GGUF of it."
    )


def _loaded(content: bytes, what: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as exc:  # the library raises a plain Exception for whatever it cannot read
        raise SourceError(f"tokenizer.json of {what} cannot be read: {str(exc).splitlines()[0]}.") from exc


Names = Mapping[int, tuple[str, int]]
"""Text and kind (0: an ordinary token) of each number."""


def _names(own: Tokenizer, rows: int, what: str) -> Names:
    added = own.get_added_tokens_decoder()
    found = {number: (text, 0) for text, number in own.get_vocab(with_added_tokens=True).items()}
    found |= {n: (one.content, CONTROL if one.special else USER_DEFINED) for n, one in added.items()}
    if (highest := max(found, default=-1)) >= rows:
        raise SourceError(f"{what} has a token with the number {highest:,}, and {rows:,} rows in its embedding.")
    return found


def _shared(document: Mapping[str, Any], files: Mapping[str, bytes], config: Mapping[str, Any], names: Names) -> Keys:
    """What is told alike of all kinds of tokenizers: special tokens, and what is put before and after a text."""
    settings = object_of(files, texts_of.SETTINGS_FILE) | object_of(files, texts_of.SPECIAL_FILE)
    generation = object_of(files, texts_of.GENERATION_FILE)
    ids = {text: number for number, (text, _) in names.items()}
    keys: Keys = {}
    for role, theirs in _SPECIAL.items():
        text = settings.get(f"{role}_token")
        text = text.get("content") if isinstance(text, Mapping) else text
        number = ids.get(text) if isinstance(text, str) else config.get(f"{role}_token_id")
        if isinstance(number, list):
            number = number[0] if number else None
        if isinstance(number, int) and number in names:
            keys[f"{_GGML}{theirs}_token_id"] = number
    ends = [one for one in _list(generation.get("eos_token_id", config.get("eos_token_id"))) if one in names]
    keys.setdefault(f"{_GGML}eos_token_id", next(iter(ends), None))
    more = [one for one in ends if one != keys[f"{_GGML}eos_token_id"] and names[one][0] not in ENDS]
    keys |= {f"{_GGML}{role}_token_id": one for role, one in zip(("eot", "eom"), more, strict=False)}
    before, after = _around(document.get("post_processor"))
    keys[f"{_GGML}add_bos_token"] = before
    keys[f"{_GGML}add_eos_token"] = after
    return {key: value for key, value in keys.items() if value is not None}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _around(processor: Any) -> tuple[bool, bool]:
    """Whether a token is put before each text, and after it."""
    steps = processor.get("processors", [processor]) if isinstance(processor, Mapping) else []
    for step in steps:
        single = step.get("single") if isinstance(step, Mapping) and step.get("type") == "TemplateProcessing" else None
        if isinstance(single, list) and single:
            return "SpecialToken" in single[0], "SpecialToken" in single[-1]
    return False, False


def _ways(document: Mapping[str, Any], names: Names, rows: int, name: str) -> Iterator[Keys]:
    """Keys of the tokenizer in each of the ways that llama.cpp may have it, the likeliest first."""
    # What llama.cpp strips after tokens goes by the model's name, and is the same for all but three.
    added = {one["content"]: one.get("rstrip") for one in document.get("added_tokens") or ()}
    strips = added.keys() >= PHI_3 and all(told == (one not in UNSTRIPPED) for one, told in added.items())
    called = _named(name, strips)
    model = document["model"]
    pieces = bool(model.get("byte_fallback"))
    tokens, kinds = [], []
    for number in range(rows):
        text, kind = names.get(number, (f"[PAD{number}]", UNUSED))
        is_byte = pieces and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
        unknown = pieces and text == model.get("unk_token")
        tokens.append(text)
        kinds.append(UNKNOWN if unknown else BYTE if is_byte and kind in (0, USER_DEFINED) else kind or NORMAL)
    keys = {f"{_GGML}tokens": tokens, f"{_GGML}token_type": kinds, "general.name": called}
    pairs = [tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model.get("merges") or ()]
    if pieces:
        keys |= {f"{_GGML}model": "llama", f"{_GGML}pre": "default", f"{_GGML}scores": _scores(tokens, pairs)}
        prefixed = '"Prepend"' in json.dumps(document.get("normalizer"))
        for one in (prefixed, not prefixed):
            yield keys | {f"{_GGML}add_space_prefix": one}
        return
    keys |= {f"{_GGML}model": "gpt2", f"{_GGML}merges": [" ".join(pair) for pair in pairs]}
    named = name_of(document.get("pre_tokenizer"), bool(model.get("ignore_merges")))
    # One that is written otherwise may cut alike.
    for cut in DISTINCT if named is None else [named]:
        yield keys | {f"{_GGML}pre": cut}


def _named(name: str, strips: bool) -> str:
    """A name by which llama.cpp strips what follows tokens, or does not."""
    if strips == strips_by(name):
        return name
    return f"{name} (Phi-3)" if strips else re.sub("phi-?3", "Phi 3", name, flags=re.IGNORECASE)


def _scores(tokens: Sequence[str], pairs: Sequence[tuple[str, ...]]) -> list[float]:
    """A score for each token: the earlier it is made, the higher, as SentencePiece has them."""
    ranks: dict[str, int] = {}
    for pair in pairs:
        ranks.setdefault("".join(pair), len(ranks))
    return [-float(ranks.get(token, len(ranks))) for token in tokens]
