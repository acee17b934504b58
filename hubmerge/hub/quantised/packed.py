"""A weight that is unpacked from several stored tensors, and all such weights of a model."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import SourceError
from ..checkpoint import INSTEAD
from ..headers import DTYPE_BITS, TensorHeader

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# Layers of these store their matrices turned, and programs that quantise turn them back.
_TURNED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")

ReadSmall = Callable[[Sequence[TensorHeader]], Sequence[bytes]]
"""Reads stored tensors of a few bytes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stored tensor that a weight is unpacked from. `per_unit`: its elements that each unit takes; None: all of it is
    kept."""

    tensor: TensorHeader
    per_unit: int | None = None


@dataclass(frozen=True)
class Packed:
    """A weight: its `shape`, its `parts` by what they are, and how many elements are unpacked together (`unit`).

    What it is made of by which rule says the class that it is of.
    """

    shape: tuple[int, ...]
    parts: Mapping[str, Part]
    unit: int

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def at_once(self) -> int:
        """Elements that are unpacked together, whatever is asked for."""
        return 0

    @property
    def first(self) -> TensorHeader:
        """The part that holds the numbers."""
        return next(iter(self.parts.values())).tensor


@dataclass(frozen=True)
class Quantised:
    """How a model's weights in few bits are read.

    `kind`: what they are in, in words. `by_name`: each by the name that it has in a model that is not quantised.
    `beside`: stored tensors that are no weights by themselves. `dtype`: what the model is in when it is not quantised.
    """

    kind: str
    by_name: Mapping[str, Packed] = field(repr=False)
    beside: frozenset[str] = field(repr=False)
    dtype: str

    @property
    def parts(self) -> dict[str, TensorHeader]:
        """What they are unpacked from, by the names that it is stored under, as it is to be read."""
        return {part.tensor.name: part.tensor for one in self.by_name.values() for part in one.parts.values()}

    def weights(self, stored: Mapping[str, TensorHeader]) -> dict[str, TensorHeader]:
        """All weights of the model, each as it is read: in its own shape, and in `dtype` where it is unpacked."""
        places = {packed.first.name: name for name, packed in self.by_name.items()}
        found = {}
        for stored_name, tensor in stored.items():
            if (name := places.get(stored_name)) is not None:
                found[name] = self._unpacked(name, tensor)
            elif stored_name not in self.beside:
                found[stored_name] = tensor
        return found

    def _unpacked(self, name: str, tensor: TensorHeader) -> TensorHeader:
        packed = self.by_name[name]
        stop = tensor.start + packed.parameters * DTYPE_BITS[self.dtype] // 8
        return TensorHeader(name, self.dtype, packed.shape, tensor.file, tensor.start, stop)


@dataclass(frozen=True)
class Stored:
    """What a kind of quantised weights is told from: the `tensors`, what the model says of itself (`config`) and of
    how it is quantised (`how`), its name for messages, and a way to read a few bytes."""

    tensors: Mapping[str, TensorHeader]
    config: Mapping[str, Any]
    how: Mapping[str, Any]
    where: str
    read_small: ReadSmall

    @property
    def dtype(self) -> str:
        """What the model is in when it is not quantised."""
        return _DTYPES.get(str(self.config.get("dtype") or self.config.get("torch_dtype")), "BF16")

    def quantised(self, kind: str, by_name: Mapping[str, Packed], beside: Collection[str] = ()) -> Quantised | None:
        """The answer, where there are such weights. `beside`: more that is no weight, than what they are made of."""
        if not by_name:
            return None
        if self.config.get("model_type") in _TURNED:
            raise SourceError(
                f"{self.where} is quantised, and models of the kind {self.config['model_type']} store their matrices "
                f"turned; {INSTEAD}."
            )
        found = Quantised(kind, by_name, frozenset(beside), self.dtype)
        return replace(found, beside=(found.beside | found.parts.keys()) - by_name.keys())

    def odd(self, name: str, why: str) -> SourceError:
        """What to raise for a weight that is not laid out as it should be."""
        return SourceError(f"{self.where} stores {name} {why}; {INSTEAD}.")
