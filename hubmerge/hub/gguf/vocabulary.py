"""The tokenizer in the header of a GGUF file, as the small files that other models have beside their weights.

Two of llama.cpp's kinds are read: "gpt2", pieces of bytes joined by a list of merges, and "llama", SentencePiece's,
joined by their scores. Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, src/llama-vocab.cpp
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SourceError
from .header import Header
from .splits import SPLITS, pre_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens, as ggml numbers them."""
SPACE = "\u2581"
ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "</s>")
"""Tokens that end an answer wherever a vocabulary has them, as llama.cpp takes it."""

_CUT_OUT = (UNKNOWN, CONTROL, USER_DEFINED)
"""Kinds of tokens that are found in a text before it is cut into words."""
UNSTRIPPED = frozenset({"<unk>", "<s>", "<|endoftext|>"})
"""Tokens of Phi-3 that leave the spaces after them."""
PHI_3 = UNSTRIPPED | {"</s>"}
"""Tokens without which llama.cpp does not open a model that is called so."""
_LONGEST = 128
"""Characters of a token that is made of others; SentencePiece's have 16 at most, unless somebody asked for more."""

Values = Mapping[str, Any]


def files_of(header: Header, config: Mapping[str, Any], what: str) -> dict[str, bytes]:
    """config.json, and the tokenizer's files where it is of a kind that is read. Raises `SourceError` for one that is
    damaged."""
    files: dict[str, Any] = {"config.json": {key: value for key, value in config.items() if value is not None}}
    values = {key.removeprefix("tokenizer.ggml."): value for key, value in header.values.items()}
    tokens, model, split = values.get("tokens"), values.get("model"), SPLITS.get(str(values.get("pre")))
    if model not in ("gpt2", "llama") or (model == "gpt2" and split is None):
        return _written(files)
    kinds = values.get("token_type") or [NORMAL] * len(tokens or ())
    if not tokens or not all(isinstance(token, str) for token in tokens) or len(kinds) != len(tokens):
        raise SourceError(f"{what} has a tokenizer without tokens, or without their kinds; fetch it again.")
    if len(set(tokens)) < len(tokens):
        raise SourceError(f"{what} has a tokenizer with two tokens that are the same; fetch it again.")
    ids = {role: _id(values, key, tokens) for role, key in _ROLES.items()}
    if split is not None and model == "gpt2":
        made, begins = _of_bytes(values, tokens, what), split.begins
        made["model"]["ignore_merges"] = split.whole
        made["pre_tokenizer"] = pre_tokenizer(split)
    else:
        made, begins = _of_pieces(values, tokens, kinds, ids["unk_token"], what), True
    # Rows without a token have a name for llama.cpp alone.
    vocabulary = {token: number for number, token in enumerate(tokens) if kinds[number] != UNUSED}
    strips = strips_by(str(header.values.get("general.name"))) and vocabulary.keys() >= PHI_3
    made["model"]["vocab"] = vocabulary
    before = [ids["bos_token"]] if values.get("add_bos_token", begins) else []
    after = [ids["eos_token"]] if values.get("add_eos_token", False) else []
    files["tokenizer.json"] = {
        "version": "1.0",
        "added_tokens": [_added(n, t, kinds[n], strips) for t, n in vocabulary.items() if kinds[n] in _CUT_OUT],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _around(before, after, tokens),
        **made,
    }
    files["tokenizer_config.json"] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **({"model_max_length": length} if isinstance(length := config.get("max_position_embeddings"), int) else {}),
        **{role: tokens[number] for role, number in ids.items() if number is not None and role in _NAMED},
    }
    ends = [
        ids["eos_token"],
        ids["eot_token"],
        *(n for t, n in vocabulary.items() if t in ENDS and kinds[n] == CONTROL),
    ]
    files["generation_config.json"] = {
        "bos_token_id": ids["bos_token"],
        "eos_token_id": list(dict.fromkeys(end for end in ends if end is not None)) or None,
        "pad_token_id": ids["pad_token"],
    }
    template = header.values.get("tokenizer.chat_template")
    return _written(files) | ({"chat_template.jinja": template.encode()} if isinstance(template, str) else {})


_ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "eot_token": "eot_token_id",
}
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")


def _written(files: Mapping[str, Any]) -> dict[str, bytes]:
    # In one line, which takes a tenth of the time: a vocabulary may have half a million.
    return {name: (json.dumps(one, ensure_ascii=False) + "\n").encode() for name, one in files.items()}


def _id(values: Values, key: str, tokens: Sequence[str]) -> int | None:
    number = values.get(key)
    return number if type(number) is int and 0 <= number < len(tokens) else None


def strips_by(name: str) -> bool:
    """Whether llama.cpp drops spaces after the tokens that it cuts out of texts, by what the header calls the model."""
    return any(one in name.lower() for one in ("phi-3", "phi3"))


def _added(number: int, token: str, kind: int, strips: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": strips and token not in UNSTRIPPED, "normalized": False}
    return {"id": number, "content": token, **plain, "special": kind != USER_DEFINED}


def _around(before: Sequence[int | None], after: Sequence[int | None], tokens: Sequence[str]) -> dict[str, Any] | None:
    """What puts tokens before and after a text."""
    first, last = ([tokens[n] for n in numbers if n is not None] for numbers in (before, after))
    if not first and not last:
        return None

    def special(token: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def text(name: str, kind: int) -> list[dict[str, Any]]:
        return [
            *(special(token, kind) for token in first),
            {"Sequence": {"id": name, "type_id": kind}},
            *(special(token, kind) for token in last),
        ]

    named = {t: {"id": t, "ids": [n], "tokens": [t]} for n, t in enumerate(tokens) if t in (*first, *last)}
    single, pair = text("A", 0), [*text("A", 0), *text("B", 1)]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": named}


_PLAIN = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


def _of_bytes(values: Values, tokens: Sequence[str], what: str) -> dict[str, Any]:
    known = set(tokens)
    if values.get("merges") is None:
        raise SourceError(
            f"{what} has a tokenizer of bytes without tokenizer.ggml.merges, so each would be a token; fetch or "
            "convert it again."
        )
    pairs = [(one[: (at := one.find(" ", 1))], one[at + 1 :]) for one in values["merges"]]
    if lost := [pair for pair in pairs if not {*pair, "".join(pair)} <= known]:
        raise SourceError(f"{what} has a tokenizer that joins {lost[0]}, which are no tokens of it; fetch it again.")
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"model": {**_PLAIN, "merges": pairs}, "decoder": bytewise}


def _of_pieces(
    values: Values, tokens: Sequence[str], kinds: Sequence[int], unknown: int | None, what: str
) -> dict[str, Any]:
    scores = values.get("scores") or [0.0] * len(tokens)
    if len(scores) != len(tokens):
        raise SourceError(f"{what} has a tokenizer with {len(scores):,} scores of {len(tokens):,} tokens.")
    prefixed = values.get("add_space_prefix", True)
    model = {
        **_PLAIN,
        "unk_token": None if unknown is None else tokens[unknown],
        "fuse_unk": True,
        "byte_fallback": any(kind == BYTE for kind in kinds),
        "merges": merges_of(tokens, kinds, scores),
    }
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    first = [{"type": "Prepend", "prepend": SPACE}] if prefixed else []
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefixed:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "model": model,
        "normalizer": {"type": "Sequence", "normalizers": [*first, replaced]},
        "decoder": {"type": "Sequence", "decoders": decoders},
    }


def merges_of(tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Pairs of tokens that make a token, in the order that llama.cpp joins them in: by the score of what they make."""
    numbers = {token: number for number, token in enumerate(tokens) if kinds[number] in (NORMAL, USER_DEFINED)}
    by_score = sorted(numbers.values(), key=lambda n: (-scores[n], n))
    return [
        (token[:at], token[at:])
        for token in (tokens[number] for number in by_score)
        if len(token) <= _LONGEST
        for at in range(1, len(token))
        if token[:at] in numbers and token[at:] in numbers
    ]
