"""Weights that are stored in FP8, as they are read: each number times the factor of its block."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..hub.headers import TensorHeader
from ..hub.scales import Scale, Scales
from ..methods.blocks import BLOCK
from .dtypes import DTYPES
from .tensors import FLOAT32_BYTES
from .weights import Extent, Over, Reads


@dataclass(frozen=True, eq=False)
class Dequantised(Over):
    """What `inner` stores in FP8, in float32, with the dtype that the model has otherwise; the rest as it is."""

    scales: Scales

    @cached_property
    def tensors(self) -> Mapping[str, TensorHeader]:
        """All but the scales."""
        stored = {name: one for name, one in self.inner.tensors.items() if name not in self.scales.beside}
        return {name: self._widened(one) if name in self.scales.by_name else one for name, one in stored.items()}  # type: ignore[arg-type, misc]

    def _widened(self, tensor: TensorHeader) -> TensorHeader:
        size = DTYPES[self.scales.dtype].nbytes
        return replace(tensor, dtype=self.scales.dtype, stop=tensor.start + tensor.parameters * size)

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """These elements, and all factors of the tensor."""
        if (scale := self.scales.by_name.get(name)) is not None:
            yield from self.inner.needs(scale.factors.name, 0, scale.factors.parameters)
        yield from self.inner.needs(name, start, stop)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements times their factors, in float32."""
        scale = self.scales.by_name.get(name)
        if scale is None:
            return self.inner.read(name, start, stop, reads)
        if (self, name) not in reads.kept:
            kept = self.inner.read(scale.factors.name, 0, scale.factors.parameters, reads).to(torch.float32)
            reads.kept[self, name] = kept.clone()
        width = self.inner.tensors[name].shape[-1] if self.inner.tensors[name].shape else 1
        factors = spread(reads.kept[self, name], scale, width, start, stop)
        return factors.mul_(self.inner.read(name, start, stop, reads).to(torch.float32))

    def is_stored(self, name: str) -> bool:
        """Whether it is not in FP8."""
        return name not in self.scales.by_name and self.inner.is_stored(name)

    def rounds(self, name: str) -> bool:
        """Whether it is in FP8."""
        return name in self.scales.by_name or self.inner.rounds(name)

    @property
    def memory(self) -> int:
        """The factors of a tensor, and those of a block, spread and in float32."""
        held = max(scale.factors.parameters for scale in self.scales.by_name.values())
        widest = max(self.inner.tensors[name].shape[-1:] or (1,) for name in self.scales.by_name)[0]
        return self.inner.memory + FLOAT32_BYTES * (2 * held + 3 * (BLOCK + 2 * widest))


def spread(factors: Tensor, scale: Scale, width: int, start: int, stop: int) -> Tensor:
    """The factor of each element `start` up to but not including `stop` of a tensor with rows of `width`."""
    if factors.numel() == 1:
        return factors.expand(stop - start).clone()
    high, wide = scale.block
    first, last = start // width, -(-stop // width)
    rows = torch.arange(first, last)
    lines = rows // scale.height * -(-scale.height // high) + rows % scale.height // high
    chosen = factors.view(-1, -(-width // wide))[lines]
    spread = chosen.repeat_interleave(wide, 1)[:, :width] if chosen.shape[1] > 1 else chosen.expand(-1, width)
    return spread.reshape(-1)[start - first * width : stop - first * width].clone()
