"""One output tensor: what it is computed from, and how."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..hub.source import Source
from .dtypes import DTYPES

FLOAT32_BYTES = 4

TensorId = tuple[int, str]
"""A stored tensor: the index of its source in the plan, and its name there."""


def stored_by(sources: Sequence[Source]) -> Callable[[TensorId], TensorId]:
    """Where a tensor's bytes are: a model that is there with and without a LoRA is read once."""
    places = [source.place for source in sources]
    first = [places.index(place) for place in places]
    return lambda one: (first[one[0]], one[1])


@dataclass(frozen=True)
class TensorPlan:
    """Everything needed to compute ONE output tensor.

    `dtype` is a safetensors name ("BF16"). `inputs` are the tensors to merge, `base` the one that task vectors start
    from (None where the method takes none). `per_model` has one mapping an input. `copied`: the tensor is no float,
    so it is taken from the base or the first input, and all must be equal.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    inputs: tuple[TensorId, ...]
    base: TensorId | None = None
    per_model: tuple[Mapping[str, float], ...] = ()
    shared: Mapping[str, float] = field(default_factory=dict)

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
        """Whether the tensor is copied, not merged."""
        return not DTYPES[self.dtype].is_float

    @property
    def reads(self) -> tuple[TensorId, ...]:
        """All stored tensors that it needs, base first."""
        return (() if self.base is None else (self.base,)) + self.inputs
