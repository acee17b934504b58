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
from .sparsify import deltas, draws, highest_dropped, kept_draws

Bits = NDArray[np.uint8]

_HALVES = (0, 1) if sys.byteorder == "little" else (1, 0)

_AT_ONCE = 1 << 16
"""Entries that are ordered at a time: what that takes fits into a core's cache."""


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
    drawn = [model for model in models if density[model] < 1]
    for block in each(blocks) if drawn else ():
        vectors, mask, limits = deltas(block), block.empty(), block.empty()
        for model in drawn:
            magnitudes = vectors[model].abs_()
            _limits(magnitudes.view(-1, block.columns), density[model], epsilon[model], limits)
            kept_draws(draws(seeds[model], block.number, out=mask), limits)
            whole[model] += float(magnitudes.sum())
            left[model] += float(torch.dot(magnitudes, mask))
            bits[model].append(np.packbits(mask.to(torch.bool).cpu().numpy()))
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


def _limits(magnitudes: Tensor, density: float, epsilon: float, out: Tensor) -> None:
    """The highest draw that drops each entry of these rows; of equal entries the first is smaller."""
    rows, columns = magnitudes.shape
    spread = 2 * epsilon / max(1, columns - 1) * torch.arange(columns, dtype=torch.float64)
    by_rank = highest_dropped((density - epsilon + spread if columns > 1 else spread + density).to(out))
    if columns == 1 or epsilon == 0:
        out.view(rows, columns).copy_(by_rank)
        return
    at_once = max(1, _AT_ONCE // columns)
    for some, limits in zip(magnitudes.split(at_once), out.view(rows, columns).split(at_once), strict=True):
        limits.scatter_(1, _ascending(some.cpu()).to(out.device), by_rank.expand_as(limits))


def _ascending(magnitudes: Tensor) -> Tensor:
    """The places of the entries of each row, the smallest first, of equal ones the first."""
    # The bits of a float that is not negative are in the order of floats. numpy sorts numbers of 16 bits by radix,
    # several times faster than longer ones: first by the lower half, then by the upper.
    halves = magnitudes.view(torch.int16).view(*magnitudes.shape, 2)
    lower, upper = (halves[..., half].contiguous() for half in _HALVES)
    places = _sorted(lower)
    return places.gather(1, _sorted(upper.gather(1, places)))


def _sorted(numbers: Tensor) -> Tensor:
    return torch.from_numpy(np.argsort(numbers.numpy().view(np.uint16), axis=1, kind="stable"))
