"""The dtypes of safetensors files: their sizes and their names in torch."""

from collections.abc import Iterable
from typing import NamedTuple

from ..late import torch


class Dtype(NamedTuple):
    """A dtype that can be merged or copied. `nbytes` is the size of one element, `word` its name in torch."""

    name: str
    nbytes: int
    word: str

    @property
    def torch(self) -> "torch.dtype":
        """The same in torch."""
        return getattr(torch, self.word)

    @property
    def is_float(self) -> bool:
        """Whether tensors of this dtype are merged; the others are copied."""
        return "float" in self.word


DTYPES = {
    dtype.name: dtype
    for dtype in (
        Dtype("F64", 8, "float64"),
        Dtype("F32", 4, "float32"),
        Dtype("F16", 2, "float16"),
        Dtype("BF16", 2, "bfloat16"),
        Dtype("I64", 8, "int64"),
        Dtype("I32", 4, "int32"),
        Dtype("I16", 2, "int16"),
        Dtype("I8", 1, "int8"),
        Dtype("U8", 1, "uint8"),
        Dtype("BOOL", 1, "bool"),
    )
}
"""By safetensors name. FP8 and FP4 are left out: their scales lie in other tensors, so that their values alone mean
nothing."""

STORED = DTYPES | {
    dtype.name: dtype
    for dtype in (
        Dtype("F8_E4M3", 1, "float8_e4m3fn"),
        Dtype("F8_E5M2", 1, "float8_e5m2"),
        Dtype("F8_E8M0", 1, "float8_e8m0fnu"),
    )
}
"""These, and what can be read of a file to be scaled (see dequantised.py)."""

RECIPE_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
"""A recipe's name of a dtype to that of safetensors."""


def config_name(dtype: str) -> str:
    """The name that config.json uses: "BF16" is "bfloat16"."""
    return DTYPES[dtype].word


def widest(names: Iterable[str]) -> str:
    """The narrowest dtype of floats that holds the values of all these, in any order.

    >>> widest(["F16", "BF16"])
    'F32'
    """
    distinct = set(names)
    if len(distinct) == 1:
        return distinct.pop()
    return "F64" if "F64" in distinct else "F32"
