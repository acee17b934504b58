"""Tensors a block at a time: what a merge holds in memory does not depend on how large they are.

>>> blocks = Whole([torch.ones(600, 500)], torch.zeros(600, 500))
>>> [block.base.shape for block in each(blocks)]
[torch.Size([262144]), torch.Size([37856])]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

BLOCK = 1 << 18
"""Elements: a float32 block fits into a core's cache, and is large enough for its operations to outweigh their calls.

Sums, the last bits of vector operations and random masks depend on where blocks begin, so this number is part of
every result; the number of threads and the way that tensors are read are not.
"""


class Workspace:
    """Memory of a few blocks that is used again for every block: new memory costs more time than the arithmetic.

    One thread uses it at a time. `elements`: how many its blocks have, where it is for one small tensor only.
    """

    def __init__(self, device: torch.device | None = None, elements: int = BLOCK) -> None:
        self._device = device
        self._elements = min(BLOCK, elements)
        self._buffers: list[Tensor] = []
        self._taken = 0

    def clear(self) -> None:
        """Takes everything back that was handed out."""
        self._taken = 0

    def take(self, elements: int) -> Tensor:
        """A flat float32 tensor of at most BLOCK elements, of any content, good until `clear`."""
        if self._taken == len(self._buffers):
            self._buffers.append(torch.empty(self._elements, device=self._device))
        self._taken += 1
        return self._buffers[self._taken - 1][:elements]


@dataclass(frozen=True)
class Block:
    """The elements from `start` on of each model's tensor and of the base's: flat, float32, of one length.

    All of it may be overwritten, and is good only until the next block is read. `base` is None where the method takes
    none.
    """

    start: int
    tensors: list[Tensor]
    base: Tensor | None
    workspace: Workspace

    @property
    def number(self) -> int:
        """Its place among the blocks of its tensor."""
        return self.start // BLOCK

    def empty(self) -> Tensor:
        """One more tensor of this length, of any content."""
        return self.workspace.take(self.tensors[0].numel())


class Blocks(Protocol):
    """The tensors that one output tensor is merged from, which can be read in parts, in any order and repeatedly."""

    @property
    def elements(self) -> int:
        """Elements of each of the tensors."""

    def read(self, start: int, stop: int) -> Block:
        """The elements `start` up to but not including `stop`, all within one of the blocks that `each` gives."""


def each(blocks: Blocks) -> Iterator[Block]:
    """All blocks in order, each of BLOCK elements but the last."""
    for start in range(0, blocks.elements, BLOCK):
        yield blocks.read(start, min(start + BLOCK, blocks.elements))


class Whole:
    """Blocks of tensors in memory, which are not changed."""

    def __init__(self, tensors: Sequence[Tensor], base: Tensor | None = None) -> None:
        self._tensors = [tensor.reshape(-1) for tensor in tensors]
        self._base = None if base is None else base.reshape(-1)
        self._workspace = Workspace(tensors[0].device, self.elements)

    @property
    def elements(self) -> int:
        """Elements of each of the tensors."""
        return self._tensors[0].numel()

    def read(self, start: int, stop: int) -> Block:
        """Copies of the elements `start` up to but not including `stop`."""
        self._workspace.clear()
        base = None if self._base is None else self._copy(self._base[start:stop])
        return Block(start, [self._copy(tensor[start:stop]) for tensor in self._tensors], base, self._workspace)

    def _copy(self, tensor: Tensor) -> Tensor:
        return self._workspace.take(tensor.numel()).copy_(tensor)
