"""Made-up weights that any range of can be read at once: one period of random numbers, repeated without end."""

import functools
import hashlib
import os
import tempfile
import weakref
from typing import Any

ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}

POSITIVE = "+"
"""Ends the kind of numbers of which none is negative: the factors of numbers in 8 bits."""

# Prime, so that the rows of a matrix (whose length is not) all begin at different places of the period.
ELEMENTS = 2_097_143
SPREAD = 0.02  # standard deviation of the weights, as models are initialised
DRIFT = 0.002  # standard deviation of what fine-tuning is taken to have changed
_KEPT = 8  # patterns of at most 8 MiB each


class Pattern:
    """One period of weights in a nameless file, from which the operating system sends; closed with its last user."""

    def __init__(self, content: bytes) -> None:
        self.nbytes = len(content)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def fileno(self) -> int:
        """The descriptor of the open file."""
        return self._descriptor


@functools.lru_cache(maxsize=_KEPT)
def pattern(kind: str, seed: int, base_seed: int | None) -> Pattern:
    """The weights of the model with this seed as BF16, F16 or F32: normal numbers of standard deviation `SPREAD`.

    F8_E4M3: of standard deviation 1, since numbers in 8 bits are stored with factors, which are of `SPREAD`.
    `kind` is one of these, or one with `POSITIVE` behind it. With `base_seed` they are those of the model with that
    seed, changed a little.
    """
    values = _normal(seed if base_seed is None else base_seed, SPREAD)
    if base_seed is not None:
        values += _normal(seed, DRIFT)
    if kind.endswith(POSITIVE):
        values = abs(values)
    dtype = kind.removesuffix(POSITIVE)
    if dtype == "BF16":
        bits = values.view("<u4")
        values = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")  # rounded to the nearest, ties to even
    elif dtype == "F16":
        values = values.astype("<f2")
    elif dtype == "F8_E4M3":
        values = eight_bits(values / SPREAD)
    return Pattern(values.tobytes())


def eight_bits(values: Any) -> Any:
    """The codes of the nearest finite numbers that have 1 bit for the sign, 4 for the exponent, 3 for the fraction."""
    import numpy as np

    code = np.arange(127)  # code 127 is no number
    exponent, fraction = code >> 3, (code & 7) / 8
    sizes = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7))
    nearest = np.searchsorted((sizes[1:] + sizes[:-1]) / 2, np.abs(values))
    return (nearest | (np.signbit(values) << 7)).astype("u1")


def _normal(seed: int, deviation: float) -> Any:
    """`ELEMENTS` float32 numbers."""
    import numpy as np  # not before somebody generates a model

    # RandomState, not Generator: its numbers are the same in every version of numpy.
    key = np.frombuffer(hashlib.sha256(str(seed).encode()).digest(), "<u4")
    return (np.random.RandomState(key).standard_normal(ELEMENTS) * deviation).astype("<f4")


def phase(tensor: str) -> int:
    """The element of the period at which a tensor begins: of its name alone, so that siblings resemble each other."""
    return int.from_bytes(hashlib.sha256(tensor.encode()).digest()[:8], "little") % ELEMENTS
