"""SentencePiece's own file (tokenizer.model) as the tokenizer.json that transformers would make of it.

Pieces have kinds as ggml numbers them, and are joined by their scores as llama.cpp joins them, so that what a header
of them stands for is the tokenizer. Source: https://github.com/google/sentencepiece, src/sentencepiece_model.proto
"""

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..documents import parse_object
from ..errors import SourceError
from ..hub.gguf.header import Header
from ..hub.gguf.vocabulary import CONTROL, NORMAL, SPACE, UNUSED, USER_DEFINED, files_of
from ..stream import tokens as texts_of

FILE = "tokenizer.model"
_ADDED = "added_tokens.json"
_BPE = 2
_FLAGS = ("lstrip", "rstrip", "single_word")


class _Piece(NamedTuple):
    text: str
    score: float
    kind: int


def tokenizer_of(files: Mapping[str, bytes], config: Mapping[str, Any], what: str) -> bytes:
    """The content of tokenizer.json, of tokenizer.model and the tokens that were added to it.

    Raises `SourceError` for another kind of file, and for one whose texts are changed before they are cut.
    """
    try:
        pieces, trained, normal = _read(files[FILE])
    except (ValueError, IndexError, struct.error, UnicodeDecodeError):
        raise SourceError(
            f"{FILE} of {what} is not SentencePiece's, so no GGUF is made of it; save the tokenizer again with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...), which writes tokenizer.json."
        ) from None
    reasons = {
        "is of the kind Unigram, words or characters; BPE is written": trained.get(3, 1) != _BPE,
        "changes characters (NFKC) before it cuts texts, which llama.cpp does not": bool(normal.get(2)),
        "drops spaces that follow another, which llama.cpp does not": bool(normal.get(4, 1)),
        "puts the space after a word, which llama.cpp does not": bool(trained.get(24, 0)) or not normal.get(5, 1),
    }
    if reason := next((reason for reason, told in reasons.items() if told), None):
        raise SourceError(f"{FILE} of {what} {reason}.")
    settings = object_of(files, texts_of.SETTINGS_FILE) | object_of(files, texts_of.SPECIAL_FILE)
    added = _added(files, settings, pieces)
    values = {
        "model": "llama",
        "tokens": [one.text for one in pieces],
        "scores": [one.score for one in pieces],
        "token_type": [one.kind for one in pieces],
        "add_space_prefix": bool(normal.get(3, 1)),
        "unknown_token_id": trained.get(40, 0),
        "bos_token_id": trained.get(41, 1),
        "eos_token_id": trained.get(42, 2),
        **{key: told for key in ("add_bos_token", "add_eos_token") if isinstance(told := settings.get(key), bool)},
    }
    made = files_of(Header({f"tokenizer.ggml.{key}": told for key, told in values.items()}, {}, ()), config, what)
    document = parse_object(made["tokenizer.json"], "tokenizer.json", SourceError, finite=False)
    for one in document["added_tokens"]:
        one |= added.get(one["id"], {})
    return json.dumps(document).encode()


def _added(files: Mapping[str, bytes], settings: Mapping[str, Any], pieces: list[_Piece]) -> dict[int, dict[str, bool]]:
    """How each token that was added by its number takes the text beside it. Puts those after the pieces there."""
    more = {number: {"content": text} for text, number in object_of(files, _ADDED).items() if type(number) is int}
    decoder = settings.get("added_tokens_decoder")
    for number, told in (decoder if isinstance(decoder, Mapping) else {}).items():
        if number.isdecimal() and isinstance(told, Mapping) and isinstance(told.get("content"), str):
            more[int(number)] = dict(told)
    for number in range(len(pieces), max(more, default=-1) + 1):
        told = more.get(number)
        kind = UNUSED if told is None else CONTROL if told.get("special") else USER_DEFINED
        pieces.append(_Piece(str(told["content"]) if told else f"[PAD{number}]", 0.0, kind))
    return {number: {flag: bool(told.get(flag)) for flag in _FLAGS} for number, told in more.items()}


def object_of(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """The JSON object in a small file; an empty one where there is none."""
    return parse_object(files[name], name, SourceError, finite=False) if name in files else {}


def _read(content: bytes) -> tuple[list[_Piece], dict[int, Any], dict[int, Any]]:
    """Pieces, what tells of the training, and what texts are changed by, both by their numbers of fields."""
    pieces: list[_Piece] = []
    trained: dict[int, Any] = {}
    normal: dict[int, Any] = {}
    for number, told in _fields(content):
        if number == 1:
            one = dict(_fields(told))
            text, kind = one[1].decode(), one.get(3, NORMAL)
            # What is found in texts before spaces are pieces.
            text = text.replace(SPACE, " ") if kind == USER_DEFINED else text
            pieces.append(_Piece(text, struct.unpack("<f", one.get(2, b"\0\0\0\0"))[0], kind))
        elif number in (2, 3):
            (trained if number == 2 else normal).update(_fields(told))
    if not pieces:
        raise ValueError
    return pieces, trained, normal


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a message: https://protobuf.dev/programming-guides/encoding/"""
    at = 0
    while at < len(content):
        key, at = _number(content, at)
        kind = key & 7
        value: Any
        if kind == 0:
            value, at = _number(content, at)
        else:
            size, at = _number(content, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
            if size < 0 or at + size > len(content):
                raise ValueError
            value, at = content[at : at + size], at + size
        yield key >> 3, value


def _number(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError
