"""Ways of DELLA to keep part of a task vector: at random, large entries of a row more likely than small ones.

Deep et al. 2024, "DELLA-Merging: reducing interference in model merging through magnitude-based sampling",
https://arxiv.org/abs/2406.11617.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import Block, Blocks, each
from .sparsify import deltas, draws, kept_draws

Bits = NDArray[np.uint8]
Keys = NDArray[np.int64]


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
    if drawn:
        keys = np.empty(min(blocks.step, blocks.elements), dtype=np.int64)
        for block in each(blocks):
            vectors, mask, chance = deltas(block), block.empty(), block.empty()
            for model in drawn:
                magnitudes = vectors[model].abs_()
                rows = magnitudes.view(-1, block.columns)
                _chances(rows, density[model], epsilon[model], keys[: rows.numel()].reshape(rows.shape), chance)
                kept_draws(draws(seeds[model], block.number, out=mask), chance)
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


def _chances(magnitudes: Tensor, density: float, epsilon: float, keys: Keys, out: Tensor) -> None:
    """The probability of each entry of these rows; of equal ones the first is smaller. `keys`: as much memory."""
    rows, columns = magnitudes.shape
    if columns == 1 or epsilon == 0:
        out.fill_(density)
        return
    # The bits of a float that is not negative are in the order of floats; below them is room for its place in the row.
    np.left_shift(magnitudes.cpu().numpy().view(np.int32), 31, out=keys, dtype=np.int64)
    keys |= np.arange(columns)
    keys.sort(axis=1)
    keys &= (1 << 31) - 1
    by_rank = density - epsilon + 2 * epsilon / (columns - 1) * torch.arange(columns, dtype=torch.float64)
    places = torch.from_numpy(keys).to(out.device)
    out.view(rows, columns).scatter_(1, places, by_rank.to(out).expand(rows, columns))
