"""Ways of DELLA to keep part of a task vector: at random, large entries of a row more likely than small ones.

Deep et al. 2024, "DELLA-Merging: reducing interference in model merging through magnitude-based sampling",
https://arxiv.org/abs/2406.11617.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import Block, Blocks, each
from .sparsify import deltas, draws, highest_dropped

Bits = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Numbers = NDArray[np.int32]

_HALVES = (0, 1) if sys.byteorder == "little" else (1, 0)

_AT_ONCE = 1 << 16
"""Entries that are ordered at a time: what that takes fits into a core's cache."""

_DROPPED = 11
"""Bits of a magnitude that a first order leaves out: what 16 bits then hold spans 16 powers of two."""

_WORTH = 4
"""Numbers that may be counted for one that is ordered: ordering it again takes as long."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a model's task vector: a bit an entry, packed, of each block, and the factor on it.

    `blocks` None: all of it.
    """

    blocks: tuple[Bits, ...] | None
    factor: float


def magnitude_masks(
    blocks: Blocks, *, density: Sequence[float], epsilon: Sequence[float], rescale: bool, seeds: Sequence[int]
) -> list[Kept]:
    """Draws what is kept. "MagPrune", paper §3.1: in a row of n entries the one of rank k (the smallest 0) is kept with
    probability density - epsilon + 2 epsilon k / (n - 1).

    The factor brings what is kept to the sum of magnitudes of the whole.
    """
    models = range(len(density))
    whole, left, bits = [0.0 for _ in models], [0.0 for _ in models], [list[Bits]() for _ in models]
    columns = max(1, blocks.shape[-1]) if blocks.shape else 1
    drawn = {model: _Pruning(density[model], epsilon[model], columns) for model in models if density[model] < 1}
    for block in each(blocks) if drawn else ():
        vectors, mask = deltas(block), block.empty()
        for model, pruning in drawn.items():
            magnitudes = vectors[model].abs_()
            kept = pruning.kept(magnitudes.cpu().numpy(), draws(seeds[model], block.number, magnitudes.numel()))
            mask.copy_(torch.from_numpy(kept.view(np.uint8)))
            whole[model] += float(magnitudes.sum())
            left[model] += float(torch.dot(magnitudes, mask))
            bits[model].append(np.packbits(kept))
    factors = [whole[m] / left[m] if rescale and left[m] > 0 else 1.0 for m in models]
    return [Kept(tuple(bits[m]) if m in drawn else None, factors[m]) for m in models]


def keep_by_magnitude(block: Block, measured: Sequence[Kept]) -> list[Tensor]:
    """The task vectors of a block with what was not kept set to 0, and the rest scaled."""
    vectors = deltas(block)
    for vector, kept in zip(vectors, measured, strict=True):
        if kept.blocks is not None:
            bits = np.unpackbits(kept.blocks[block.number], count=vector.numel())
            vector.mul_(torch.from_numpy(bits).to(vector.device)).mul_(kept.factor)
    return vectors


class _Pruning:
    """Which entries of rows of so many `columns` are kept, of equal magnitudes the first taken for the smaller."""

    def __init__(self, density: float, epsilon: float, columns: int) -> None:
        spread = 2 * epsilon / max(1, columns - 1) * torch.arange(columns, dtype=torch.float64)
        chances = (density - epsilon + spread if columns > 1 else spread + density).to(torch.float32)
        # The highest draw that drops the entry of each rank, or what no draw is below or above.
        self._limits: Numbers = highest_dropped(chances).clamp_(-(1 << 15) - 1, (1 << 15) - 1).to(torch.int32).numpy()
        self._columns = columns
        self._highest, self._lowest = int(self._limits[0]), int(self._limits[-1])
        # Of each draw that keeps some entries of a row, but not all of them: the lowest rank of those.
        self._ranks = columns - np.searchsorted(self._limits[::-1], np.arange(self._lowest + 1, self._highest + 1))
        self._is_tied = False

    def kept(self, magnitudes: NDArray[np.float32], drawn: NDArray[np.int16]) -> Masks:
        """Whether each entry of these rows is, flat, by a draw for each."""
        kept = drawn > self._highest
        numbers = magnitudes.view(np.int32)  # bits of floats that are not negative are in the order of floats
        step = max(1, _AT_ONCE // self._columns) * self._columns
        for start in range(0, numbers.size if self._ranks.size else 0, step):
            some = slice(start, start + step)
            self._compare(numbers[some].reshape(-1, self._columns), drawn[some], kept[some])
        return kept

    def _compare(self, numbers: Numbers, drawn: NDArray[np.int16], kept: Masks) -> None:
        """Adds to what is `kept` of rows what their order decides."""
        if not self._is_tied:
            # Nearly always the first bits decide, and numpy orders 16 of them several times faster than all.
            least = max(0, int(numbers.max()) - (1 << 16 + _DROPPED) + 1)
            rough = ((np.maximum(numbers, least) - least) >> _DROPPED).astype(np.uint16)
            asked = np.flatnonzero((drawn > self._lowest) & ~kept)
            ranks = self._ranks[drawn[asked].astype(np.intp) - self._lowest - 1]
            there = np.sort(rough, axis=1, kind="stable").reshape(-1)[asked // self._columns * self._columns + ranks]
            own = rough.reshape(-1)[asked]
            kept[asked] = own > there
            level = np.flatnonzero(own == there)
            if level.size <= _WORTH * numbers.shape[0]:
                row, column = np.divmod(asked[level], self._columns)
                before = np.arange(self._columns) < column[:, None]
                smaller = numbers[row] < numbers[row, column][:, None] + before
                kept[asked[level]] = np.count_nonzero(smaller, axis=1) >= ranks[level]
                return
            self._is_tied = True  # as changes of weights of 16 bits are: so will the next ones be
        limits = torch.empty(numbers.shape, dtype=torch.int32)
        limits.scatter_(1, _ascending(torch.from_numpy(numbers)), torch.from_numpy(self._limits).expand_as(limits))
        np.greater(drawn, limits.view(-1).numpy(), out=kept)


def _ascending(numbers: Tensor) -> Tensor:
    """The places of the entries of each row, the smallest first, of equal ones the first."""
    # numpy sorts numbers of 16 bits by radix: first by the lower half, then by the upper.
    halves = numbers.view(torch.int16).view(*numbers.shape, 2)
    lower, upper = (halves[..., half].contiguous() for half in _HALVES)
    places = _sorted(lower)
    return places.gather(1, _sorted(upper.gather(1, places)))


def _sorted(numbers: Tensor) -> Tensor:
    return torch.from_numpy(np.argsort(numbers.numpy().view(np.uint16), axis=1, kind="stable"))
