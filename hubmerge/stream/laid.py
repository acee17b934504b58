"""Weights whose elements lie out of order in their file, as torch.save leaves a turned matrix: put in order as read.

A block of such a tensor is spread over its file, so all of it is held while one output tensor is made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..hub.headers import DTYPE_BITS, TensorHeader
from ..hub.source import Source
from ..late import Tensor, torch
from ..methods.blocks import BLOCK
from .dtypes import STORED
from .weights import Extent, Over, Reads, Stored


def is_laid_out(source: Source) -> bool:
    """Whether elements of some tensor do not lie one after another."""
    return any(header.strides is not None for header in source.tensors.values())


@dataclass(frozen=True, eq=False)
class Laid(Over):
    """What `inner` stores, each tensor with its elements in order."""

    inner: Stored

    @cached_property
    def _turned(self) -> Mapping[str, TensorHeader]:
        return {name: header for name, header in self.inner.tensors.items() if header.strides is not None}

    @cached_property
    def tensors(self) -> Mapping[str, TensorHeader]:
        """All of them, as large as they are in order."""
        return {**self.inner.tensors, **{name: _in_order(header) for name, header in self._turned.items()}}

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Of a tensor that lies out of order all, whatever is asked for."""
        if name not in self._turned:
            yield from self.inner.needs(name, start, stop)
            return
        for first, last in self._parts(name):
            yield from self.inner.needs(name, first, last)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements in order, in the dtype of the file."""
        if name not in self._turned:
            return self.inner.read(name, start, stop, reads)
        if (self, name) not in reads.kept:
            reads.kept[self, name] = self._put_in_order(name, reads)
        kept: Tensor = reads.kept[self, name]
        return kept[start:stop]

    def _put_in_order(self, name: str, reads: Reads) -> Tensor:
        header = self._turned[name]
        dtype = STORED[header.dtype]
        stored = torch.empty(header.nbytes // dtype.nbytes, dtype=dtype.torch)
        for first, last in self._parts(name):
            stored[first:last] = self.inner.read(name, first, last, reads)
        return in_order(stored, header).reshape(-1)

    def _parts(self, name: str) -> Iterator[tuple[int, int]]:
        header = self._turned[name]
        elements = header.nbytes // STORED[header.dtype].nbytes
        for first in range(0, elements, BLOCK):
            yield first, min(first + BLOCK, elements)

    def is_stored(self, name: str) -> bool:
        """Whether it lies in order."""
        return name not in self._turned

    def reads_again(self, name: str) -> bool:
        """Whether it lies out of order, and so is read otherwise than it is asked for."""
        return name in self._turned

    @property
    def memory(self) -> int:
        """The largest tensor that lies out of order, as it lies and in order."""
        return 2 * max((header.nbytes for header in self._turned.values()), default=0)


def in_order(stored: Tensor, header: TensorHeader) -> Tensor:
    """A tensor in its shape, of its elements as they lie in the file."""
    if header.strides is None:
        return stored.view(header.shape)
    return torch.as_strided(stored, header.shape, header.strides).contiguous()


def _in_order(header: TensorHeader) -> TensorHeader:
    return replace(header, strides=None, stop=header.start + header.parameters * DTYPE_BITS[header.dtype] // 8)
