"""One output tensor: what it is computed from, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..methods.method import FLOAT32_BYTES as FLOAT32_BYTES
from .dtypes import DTYPES

TensorId = tuple[int, str]
"""A tensor that is merged: the index of its weights in the stage, and its name there."""


@dataclass(frozen=True)
class TensorPlan:
    """Everything needed to compute ONE output tensor.

    `dtype` is a safetensors name ("BF16"). `inputs` are the tensors to merge, `base` the one that task vectors start
    from (None where the method takes none). `per_model` has one mapping an input. `carried`: it is what the one input
    is, byte for byte. `inner`: what the models that are merged call it, where the result calls it otherwise.
    `statistics`: what was measured of each input, where the method needs that and it was.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    inputs: tuple[TensorId, ...]
    base: TensorId | None = None
    per_model: tuple[Mapping[str, float], ...] = ()
    shared: Mapping[str, float] = field(default_factory=dict)
    carried: bool = False
    inner: str = ""
    statistics: tuple[TensorId, ...] = ()

    @property
    def key(self) -> str:
        """What the models that are merged call it; masks and filters go by this name."""
        return self.inner or self.name

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size on disk in bytes."""
        return self.parameters * DTYPES[self.dtype].nbytes

    @property
    def copied(self) -> bool:
        """Whether it is copied, not merged: carried, or no float, and then it must be equal in all models."""
        return self.carried or not DTYPES[self.dtype].is_float

    @property
    def reads(self) -> tuple[TensorId, ...]:
        """All stored tensors that it needs, base first."""
        return (() if self.base is None else (self.base,)) + self.inputs
