"""Which token of one tokenizer is which of another: by its text, by the bytes that it stands for, by its part.

>>> spelt("Ġthe", marks=False), spelt("▁the", marks=True), spelt("<0x0A>", marks=True)
(b' the', b' the', b'\\n')
"""

import re
from collections.abc import Mapping
from functools import cache

from ..hub.config import setting
from ..hub.fields import SPECIAL_TOKENS
from .numbering import Numbering
from .weights import Weights

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "▁"


def same_tokens(ours: Numbering, mine: Weights, theirs: Numbering, other: Weights) -> dict[int, int]:
    """Of the tokens `ours`, by number: the number that each has in `theirs`, where it is there.

    `mine` and `other` are the models that they are of: what begins and ends a text is the same to both, whatever its
    text. A space is a mark before the word to one kind of tokenizer, and a byte to the other.
    """
    found = {number: theirs.ids[text] for text, number in ours.ids.items() if text in theirs.ids}
    if (marks := _marks(ours)) != _marks(theirs):
        texts = ((text, number) for text, number in reversed(list(theirs.ids.items())) if not _special(text))
        places = {spelt(text, not marks): number for text, number in texts}
        for text, number in ours.ids.items():
            if number not in found and not _special(text) and (place := places.get(spelt(text, marks))) is not None:
                found[number] = place
    for key in SPECIAL_TOKENS:
        own, their = _role(mine.config, key), _role(other.config, key)
        if own is not None and their is not None and own in ours.texts and their in theirs.texts:
            found.setdefault(own, their)
    return found


def spelt(text: str, marks: bool) -> bytes:
    """The bytes that a token stands for, where spaces are `marks` or where each byte is written as a letter."""
    if (one := _BYTE.fullmatch(text)) is not None and marks:
        return bytes([int(one[1], 16)])
    table = _table()
    if not marks and all(character in table for character in text):
        return bytes(table[character] for character in text)
    return text.replace(_SPACE, " ").encode()


def _marks(numbering: Numbering) -> bool:
    """Whether words are marked with a space of its own, as SentencePiece does, and bytes are no letters."""
    texts = list(numbering.ids)
    return sum(text.startswith(_SPACE) for text in texts) > sum(text.startswith("Ġ") for text in texts)


def _special(text: str) -> bool:
    return text.startswith("<") and text.endswith(">") and len(text) > 2 and _BYTE.fullmatch(text) is None


def _role(config: Mapping[str, object], key: str) -> int | None:
    value = setting(config, key)
    first = value[0] if isinstance(value, list) and value else value
    return first if type(first) is int else None


@cache
def _table() -> Mapping[str, int]:
    """The letter that byte-level tokenizers write for each byte, the other way round (Radford et al. 2019)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
