"""The formats that weights can be written in: those that llama.cpp's Python package packs.

Source: https://github.com/ggml-org/llama.cpp, gguf-py/gguf/quants.py
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import RecipeError
from ..guesses import guess

_FACTOR = 2.0**-11
"""By how much of itself a factor is rounded, in float16."""


class Format(NamedTuple):
    """`file_type`: llama.cpp's number for a file of it. `share`: how far a number may be off, as a share of the largest
    of its block; of numbers that are stored as they are, of itself. `others`: the format of embedding and head."""

    name: str
    file_type: int
    share: float
    others: str | None = None


FORMATS = {
    one.name: one
    for one in (
        Format("F32", 0, 0.0),
        Format("F16", 1, 2**-11),
        Format("BF16", 32, 2**-8),
        Format("Q8_0", 7, 0.5 / 127 + _FACTOR),
        Format("Q5_1", 9, 1 / 31 + 3 * _FACTOR, "Q8_0"),
        Format("Q5_0", 8, 1 / 16 + _FACTOR, "Q8_0"),
        Format("Q4_1", 3, 1 / 15 + 3 * _FACTOR, "Q8_0"),
        Format("Q4_0", 2, 1 / 8 + _FACTOR, "Q8_0"),
    )
}
"""From the finest to the smallest; numbers of the Q formats come in blocks of 32."""
BLOCK = 32
_BY_LLAMA_CPP = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ", "TQ", "MXFP4")


def find_format(name: str) -> Format:
    """The format of a name. Raises `RecipeError` for one that only llama.cpp itself writes, and for what is none."""
    known = name.upper()
    if known in FORMATS:
        return FORMATS[known]
    if known.startswith(_BY_LLAMA_CPP):
        raise RecipeError(
            f"{known} is written by llama.cpp's own program alone: write BF16, then run llama-quantize MODEL-BF16.gguf "
            f"MODEL-{known}.gguf {known}."
        )
    raise RecipeError(
        f"There is no format {name!r} of GGUF here{guess(known, FORMATS, few=True)}; it is one of {', '.join(FORMATS)}."
    )


def allowed(numbers: Tensor, kind: Format) -> Tensor:
    """How far each of `numbers` (float32, rows of whole blocks) may be from what is stored in a format."""
    if kind.name in ("F32", "F16", "BF16"):
        return numbers.abs() * kind.share + (2.0**-25 if kind.name == "F16" else 0.0)
    largest = numbers.view(-1, BLOCK).abs().amax(1, keepdim=True)
    # Below the least float16 a factor is off by half of the step between two, times the largest number of a block.
    return (largest * kind.share * 1.001 + 127 * 2.0**-25).expand(-1, BLOCK).reshape(numbers.shape)


def is_finite_in(numbers: Tensor, kind: Format) -> bool:
    """Whether all `numbers` can be stored: float16 ends at 65,504."""
    return kind.name != "F16" or bool((numbers.abs() <= torch.finfo(torch.float16).max).all())
