"""Made-up weights that any range of can be read at once: one period of random numbers, repeated without end."""

import functools
import hashlib
import os
import tempfile
import weakref
from typing import Any

ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4}

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
def pattern(dtype: str, seed: int, base_seed: int | None) -> Pattern:
    """The weights of the model with this seed as BF16, F16 or F32: normal numbers of standard deviation `SPREAD`.

    With `base_seed` they are those of the model with that seed, changed a little.
    """
    values = _normal(seed if base_seed is None else base_seed, SPREAD)
    if base_seed is not None:
        values += _normal(seed, DRIFT)
    if dtype == "BF16":
        bits = values.view("<u4")
        values = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")  # rounded to the nearest, ties to even
    elif dtype == "F16":
        values = values.astype("<f2")
    return Pattern(values.tobytes())


def _normal(seed: int, deviation: float) -> Any:
    """`ELEMENTS` float32 numbers."""
    import numpy as np  # not before somebody generates a model

    # RandomState, not Generator: its numbers are the same in every version of numpy.
    key = np.frombuffer(hashlib.sha256(str(seed).encode()).digest(), "<u4")
    return (np.random.RandomState(key).standard_normal(ELEMENTS) * deviation).astype("<f4")


def phase(tensor: str) -> int:
    """The element of the period at which a tensor begins: of its name alone, so that siblings resemble each other."""
    return int.from_bytes(hashlib.sha256(tensor.encode()).digest()[:8], "little") % ELEMENTS
