"""Weights as ggml stores them, in GGUF files: blocks of 32 or 256 numbers of a row, each with factors of its own."""

from dataclasses import dataclass
from typing import NamedTuple

from .packed import Packed


class Type(NamedTuple):
    """A format: its `number` and `name` in ggml, how many `elements` a block has, in how many bytes (`nbytes`)."""

    number: int
    name: str
    elements: int
    nbytes: int


TYPES = {
    one.number: one
    for one in (
        Type(0, "F32", 1, 4),
        Type(1, "F16", 1, 2),
        Type(2, "Q4_0", 32, 18),
        Type(3, "Q4_1", 32, 20),
        Type(6, "Q5_0", 32, 22),
        Type(7, "Q5_1", 32, 24),
        Type(8, "Q8_0", 32, 34),
        Type(10, "Q2_K", 256, 84),
        Type(11, "Q3_K", 256, 110),
        Type(12, "Q4_K", 256, 144),
        Type(13, "Q5_K", 256, 176),
        Type(14, "Q6_K", 256, 210),
        Type(16, "IQ2_XXS", 256, 66),
        Type(17, "IQ2_XS", 256, 74),
        Type(18, "IQ3_XXS", 256, 98),
        Type(19, "IQ1_S", 256, 50),
        Type(20, "IQ4_NL", 32, 18),
        Type(21, "IQ3_S", 256, 110),
        Type(22, "IQ2_S", 256, 82),
        Type(23, "IQ4_XS", 256, 136),
        Type(29, "IQ1_M", 256, 56),
        Type(30, "BF16", 1, 2),
    )
}
"""By ggml's numbers."""

FLOATS = ("F32", "F16", "BF16")
"""Those of numbers that are stored as they are."""


@dataclass(frozen=True)
class Ggml(Packed):
    """A part `numbers` of bytes, in blocks of `type`.

    `paired`: rows of each unit, a head, are stored by pairs, one of its first half and one of its second. `added`: what
    is added to each number.
    """

    type: Type
    paired: bool = False
    added: float = 0.0

    @property
    def at_once(self) -> int:
        """Two heads, where rows are in pairs."""
        return 2 * self.unit if self.paired else 0
