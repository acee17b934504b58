"""Which number each token of a tokenizer has, read once a model: a search plans every candidate."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..hub.listing import Listing
from . import tokens
from .tokens import VOCABULARY_FILE

_REMEMBERED = 32


@dataclass(frozen=True, eq=False)
class Numbering:
    """The tokens of a tokenizer. `name`: whose it is; `key`: equal for what was read from the same files; `ids`: the
    number of each token, by its text."""

    name: str
    key: tuple[object, ...]
    ids: Mapping[str, int]

    @cached_property
    def highest(self) -> int:
        """The highest number; -1 where there is none."""
        return max(self.ids.values(), default=-1)

    @cached_property
    def texts(self) -> Mapping[int, str]:
        """The text of each number."""
        return {number: text for text, number in self.ids.items()}

    def same(self, other: "Numbering") -> bool:
        """Whether both give the same tokens the same numbers."""
        return self.key == other.key or self.ids == other.ids


_known: dict[tuple[object, ...], Numbering] = {}


def numbering_of(listing: Listing) -> Numbering | None:
    """That of a model; None where it has no tokenizer.json. Raises `SourceError` where that is broken."""
    if VOCABULARY_FILE not in listing.files:
        return None
    key = listing.name, listing.identity
    if key not in _known:
        ids = tokens.vocabulary(listing.read_text(VOCABULARY_FILE), listing.name)
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[key] = Numbering(listing.name, key, ids)
    return _known[key]
