"""One tokenizer out of several: the first as it is, with the tokens that only the others have after its own.

A token keeps the number that it has in the first. What joins pieces to a token, the merges of BPE, comes after those of
the first, so that text which the first knows is mostly split as before.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ..documents import parse_object
from ..errors import SourceError
from ..hub.listing import Listing
from .numbering import Numbering, numbering_of
from .tokens import SETTINGS_FILE, VOCABULARY_FILE

_MARK = "▁"
"""What stands for a space in the vocabularies of SentencePiece."""

_READING = {
    "BPE": ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix"),
    "Unigram": ("byte_fallback",),
    "WordPiece": ("continuing_subword_prefix",),
    "WordLevel": (),
}
"""The kinds of tokenizer, and the settings of each that say what its tokens stand for."""

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True, eq=False)
class United:
    """A tokenizer made of several.

    `numbering`: its tokens; `document`: its tokenizer.json; `new`: the added tokens that the first does not have;
    `remarks`: what people should know of it.
    """

    numbering: Numbering
    document: Mapping[str, Any] = field(repr=False)
    new: Sequence[Mapping[str, Any]]
    remarks: tuple[str, ...]

    def files(self, settings: Mapping[str, Any]) -> dict[str, bytes]:
        """Its files, by name. `settings`: tokenizer_config.json of the first."""
        files = {VOCABULARY_FILE: json.dumps(self.document, ensure_ascii=False).encode()}
        if settings:
            settings = dict(settings)
            if isinstance(known := settings.get("added_tokens_decoder"), dict):
                more = {str(one["id"]): {key: one[key] for key in one if key != "id"} for one in self.new}
                settings["added_tokens_decoder"] = known | more
            files[SETTINGS_FILE] = (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()
        return files


_known: dict[tuple[object, ...], United] = {}
_REMEMBERED = 4


def unite(
    first: "Listing | United",
    others: Sequence["Listing | United"],
    more: Iterable[str] = (),
    rows: Sequence[int] | None = None,
) -> United | None:
    """The tokens of `first`, of `others` and `more`; None where that is what `first` has.

    `rows`: how many rows the embedding of each of `others` has: what stands behind them was never trained, and no token
    of the result. Without it all count.

    Raises `SourceError` with the reason where they cannot be one: no tokenizer.json, or another kind of tokenizer.
    """
    numberings = [_numbering(listing) for listing in (first, *others)]
    own, more = numberings[0].ids, tuple(more)
    limits = (
        [None] * len(others)
        if rows is None
        else [
            count if numbering.highest >= count else None for numbering, count in zip(numberings[1:], rows, strict=True)
        ]
    )
    theirs = [_within(numbering.ids, limit) for numbering, limit in zip(numberings[1:], limits, strict=True)]
    if all(ids.keys() <= own.keys() for ids in theirs) and own.keys() >= set(more):
        return None
    key = ("united", more, *limits, *(numbering.key for numbering in numberings))
    if key not in _known:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[key] = _unite(first, list(zip(others, theirs, strict=True)), more, key)
    return _known[key]


def _within(ids: Mapping[str, int], rows: int | None) -> Mapping[str, int]:
    """The tokens that have a row; all where `rows` is None."""
    return ids if rows is None else {text: number for text, number in ids.items() if number < rows}


def _numbering(one: Listing | United) -> Numbering:
    if isinstance(one, United):
        return one.numbering
    if (found := numbering_of(one)) is None:
        raise SourceError(no_tokens(one))
    return found


def no_tokens(listing: Listing) -> str:
    """Why the tokens of a model without tokenizer.json cannot be told, and what to do."""
    other = next((name for name in ("tokenizer.model", "tekken.json", "vocab.json") if name in listing.files), None)
    has = f"has {other} and no {VOCABULARY_FILE}" if other else f"has no {VOCABULARY_FILE}"
    return (
        f"{listing.name} {has}, so its tokens cannot be told; load its tokenizer with transformers, save it, and put "
        f"the {VOCABULARY_FILE} beside the model."
    )


def _unite(
    first: Listing | United,
    others: Sequence[tuple[Listing | United, Mapping[str, int]]],
    more: Sequence[str],
    key: tuple[object, ...],
) -> United:
    """`others`: each with the tokens of it that count."""
    document, ids = _document(first), dict(_numbering(first).ids)
    new = list(first.new) if isinstance(first, United) else []
    known_new = len(new)
    pieces: dict[str, float] = {}
    joins: list[tuple[str, str]] = []
    remarks: list[str] = []
    following = _numbering(first).highest + 1
    for other, their_ids in others:
        theirs = _document(other)
        if their_ids.keys() <= ids.keys():
            continue
        _require_alike(_name(first), document, _name(other), theirs)
        if _splitting(theirs) != _splitting(document):
            remarks.append(f"The tokenizer of {_name(other)} splits text otherwise; the result does as {_name(first)}.")
        flagged = {token["content"]: token for token in theirs["added_tokens"]}
        scores = dict(theirs["model"]["vocab"]) if _kind(theirs) == "Unigram" else {}
        for text in sorted(their_ids.keys() - ids.keys(), key=lambda text: their_ids[text]):
            if text in flagged:
                new.append(_added(following, text, flagged[text]))
            else:
                pieces[text] = scores.get(text, 0.0)
            ids[text] = following
            following += 1
        joins += _joins(theirs)
    for text in dict.fromkeys(more):
        if text not in ids:
            new.append(_added(following, text, {}))
            ids[text] = following
            following += 1
    if pieces:
        _grow(document, ids, pieces, joins)
    document["added_tokens"] = [*document["added_tokens"], *new[known_new:]]
    return United(Numbering("the union of all tokenizers", key, ids), document, new, tuple(remarks))


def _added(number: int, text: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": number, "content": text, **{flag: given.get(flag) is True for flag in _FLAGS}}


def _grow(
    document: dict[str, Any], ids: Mapping[str, int], pieces: Mapping[str, float], joins: Iterable[tuple[str, str]]
) -> None:
    """Gives the model of a tokenizer.json all tokens: added ones too, for the library numbers what is not in the model
    from its end on."""
    model = document["model"] = dict(document["model"])
    if _kind(document) == "Unigram":
        scores = {**dict(model["vocab"]), **pieces}
        least = min(scores.values(), default=0.0)
        texts = {number: text for text, number in ids.items()}
        listed = [texts.get(number, f"<unused {number}>") for number in range(max(texts) + 1)]
        model["vocab"] = [[text, scores.get(text, least)] for text in listed]
        return
    model["vocab"] = dict(sorted(ids.items(), key=lambda pair: pair[1]))
    if _kind(document) == "BPE":
        prefix = len(model.get("continuing_subword_prefix") or "")
        known = dict.fromkeys(_joins(document))
        for left, right in joins:
            if left in ids and right in ids and left + right[prefix:] in ids:
                known.setdefault((left, right))
        model["merges"] = [list(pair) for pair in known]


def _joins(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of BPE in their order; a file may write a pair as one text."""
    merges = document["model"].get("merges") or []
    pairs = (pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges)
    return [(left, right) for left, right in pairs]


def _name(one: Listing | United) -> str:
    return one.numbering.name if isinstance(one, United) else one.name


def _document(listing: Listing | United) -> dict[str, Any]:
    if isinstance(listing, United):
        return dict(listing.document)
    what = f"{VOCABULARY_FILE} of {listing.name}"
    document = parse_object(listing.read_text(VOCABULARY_FILE) or "", what, SourceError, finite=False)
    document["added_tokens"] = document.get("added_tokens") or []
    joined = document["model"].get("merges")
    if joined is not None and not _are_joins(joined):
        raise SourceError(f"{what} cannot be read: its merges should be pairs of texts; save the tokenizer again.")
    return document


def _are_joins(joined: Any) -> bool:
    """Whether this is a list of pairs of texts, or of texts with a space: all are looked at together."""
    if not isinstance(joined, list):
        return False
    texts = [pair for pair in joined if isinstance(pair, str)]
    pairs = [pair for pair in joined if isinstance(pair, list)]
    return (
        len(texts) + len(pairs) == len(joined)
        and all(" " in text for text in texts)
        and set(map(len, pairs)) <= {2}
        and set(map(type, chain.from_iterable(pairs))) <= {str}
    )


def _kind(document: Mapping[str, Any]) -> str:
    model = document["model"]
    if isinstance(model.get("type"), str):
        return str(model["type"])
    # Old files do not say it.
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _require_alike(first: str, ours: Mapping[str, Any], other: str, theirs: Mapping[str, Any]) -> None:
    """Raises `SourceError` where the same text would be other tokens in two tokenizers."""

    def require(what: str, one: object, two: object) -> None:
        if one != two:
            raise SourceError(
                f"The tokenizers of {other} and {first} cannot be one: {what} {_shown(two)} and {_shown(one)}; write "
                f"`tokenizer_source: {first}` to keep one of them."
            )

    kind = _kind(ours)
    require("they are of the kinds", kind, _kind(theirs))
    if kind not in _READING:
        raise SourceError(
            f"The tokenizer of {first} is of the kind {_shown(kind)}, which cannot be united with others."
        )
    require("their tokens are", _letters(ours), _letters(theirs))
    for setting in _READING[kind]:
        mine, other_one = (document["model"].get(setting) or None for document in (ours, theirs))
        require(f"their {setting} is", mine, other_one)
    require("their normalizer is", _normalising(ours), _normalising(theirs))


def _letters(document: Mapping[str, Any]) -> str:
    """What the texts of tokens are written in."""
    steps = [step for key in ("normalizer", "pre_tokenizer", "decoder") for step in _steps(document.get(key))]
    if any(step.get("type") == "ByteLevel" for step in steps):
        return "bytes"
    if any(step.get("type") == "Metaspace" or _MARK in str(step) for step in steps):
        return f"words with {_MARK}"
    return "words"


def _normalising(document: Mapping[str, Any]) -> list[str]:
    # A space becomes the mark in the normalizer, or by a Metaspace of the pre_tokenizer: the same in two generations.
    return [_shown(step) for step in _steps(document.get("normalizer")) if _MARK not in str(step)]


def _splitting(document: Mapping[str, Any]) -> list[str]:
    return [_shown(step) for step in _steps(document.get("pre_tokenizer")) if step.get("type") != "Metaspace"]


def _steps(given: Any) -> list[dict[str, Any]]:
    """The steps of a part of tokenizer.json, those in a Sequence one by one."""
    if not isinstance(given, dict):
        return []
    if given.get("type") != "Sequence":
        return [given]
    inner = next((value for value in given.values() if isinstance(value, list)), [])
    return [step for part in inner for step in _steps(part)]


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 160 else f"{text[:157]}..."
