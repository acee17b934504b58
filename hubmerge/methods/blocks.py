"""Tensors a block at a time: what a merge holds in memory does not depend on how large they are.

>>> blocks = Whole([torch.ones(600, 500)], torch.zeros(600, 500))
>>> [block.base.shape for block in each(blocks)]
[torch.Size([262144]), torch.Size([37856])]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..late import Tensor, torch
from .method import BLOCK, Unit, step_of

__all__ = ["BLOCK", "Block", "Blocks", "Whole", "Workspace", "each"]


class Workspace:
    """Memory of a few blocks that is used again for every block: new memory costs more time than the arithmetic.

    One thread uses it at a time. `elements`: how many its blocks have, where it is for one small tensor only.
    """

    def __init__(self, device: "torch.device | None" = None, elements: int = BLOCK) -> None:
        self.device = device
        self._elements = min(BLOCK, elements)
        self._buffers: list[Tensor] = []
        self._taken = 0

    def clear(self) -> None:
        """Takes everything back that was handed out."""
        self._taken = 0

    def take(self, elements: int) -> Tensor:
        """A flat float32 tensor of any content, good until `clear`."""
        size = max(self._elements, elements)
        if self._taken == len(self._buffers):
            self._buffers.append(torch.empty(size, device=self.device))
        elif self._buffers[self._taken].numel() < elements:
            self._buffers[self._taken] = torch.empty(size, device=self.device)
        self._taken += 1
        return self._buffers[self._taken - 1][:elements]


@dataclass(frozen=True)
class Block:
    """The elements from `start` on of each model's tensor and of the base's: flat, float32, of one length.

    All of it may be overwritten, and is good only until the next block is read. `base` is None where the method takes
    none, or there is none. `shape` is that of the whole tensors, `step` how many elements their blocks have.
    `statistics`: the same elements of what was measured of each model, where that is a number an element.
    """

    start: int
    tensors: list[Tensor]
    base: Tensor | None
    workspace: Workspace
    shape: tuple[int, ...]
    step: int = BLOCK
    statistics: list[Tensor] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Its place among the blocks of its tensor."""
        return self.start // self.step

    @property
    def columns(self) -> int:
        """Elements of a row: of the last dimension."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> slice:
        """Which rows of its tensor these are, where a block is whole rows."""
        return slice(
            self.start // max(1, self.columns), -(-(self.start + self.tensors[0].numel()) // max(1, self.columns))
        )

    def empty(self) -> Tensor:
        """One more tensor of this length, of any content."""
        return self.workspace.take(self.tensors[0].numel())


class Blocks(Protocol):
    """The tensors that one output tensor is merged from, which can be read in parts, in any order and repeatedly."""

    @property
    def elements(self) -> int:
        """Elements of each of the tensors."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Their shape."""

    @property
    def step(self) -> int:
        """Elements of a block: BLOCK, unless the method needs whole rows or the whole tensor."""

    def read(self, start: int, stop: int) -> Block:
        """The elements `start` up to but not including `stop`."""

    def statistic(self, model: int) -> Tensor | None:
        """What was measured of a model for this tensor, whole: float32, the caller's own; None where nothing was."""


def each(blocks: Blocks) -> Iterator[Block]:
    """All blocks in order, each of `step` elements but the last."""
    for start in range(0, blocks.elements, blocks.step):
        yield blocks.read(start, min(start + blocks.step, blocks.elements))


class Whole:
    """Blocks of tensors in memory, which are not changed; `statistics`: what was measured of each model."""

    def __init__(
        self,
        tensors: Sequence[Tensor],
        base: Tensor | None = None,
        unit: Unit = "block",
        statistics: Sequence[Tensor] = (),
    ) -> None:
        self.shape = tuple(tensors[0].shape)
        self.step = step_of(unit, self.shape)
        self._tensors = [tensor.reshape(-1) for tensor in tensors]
        self._base = None if base is None else base.reshape(-1)
        self._statistics = statistics
        self._beside = [one.reshape(-1) for one in statistics if one.shape == tensors[0].shape]
        self._workspace = Workspace(tensors[0].device, self.elements)

    @property
    def elements(self) -> int:
        """Elements of each of the tensors."""
        return self._tensors[0].numel()

    def read(self, start: int, stop: int) -> Block:
        """Copies of the elements `start` up to but not including `stop`."""
        self._workspace.clear()
        base = None if self._base is None else self._copy(self._base[start:stop])
        tensors = [self._copy(tensor[start:stop]) for tensor in self._tensors]
        beside = [self._copy(one[start:stop]) for one in self._beside]
        return Block(start, tensors, base, self._workspace, self.shape, self.step, beside)

    def statistic(self, model: int) -> Tensor | None:
        """A copy of what was given."""
        return self._statistics[model].to(torch.float32, copy=True) if self._statistics else None

    def _copy(self, tensor: Tensor) -> Tensor:
        return self._workspace.take(tensor.numel()).copy_(tensor)
