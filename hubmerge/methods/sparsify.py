"""Ways to keep only part of a task vector: by magnitude (TIES) or at random (DARE)."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import BLOCK, Block, Blocks, each

Magnitudes = NDArray[np.float32]

_RUNS = 64
_RUN = 4096
_STRIDE = 4
_FIRST_MARGIN = 0.015
_LEVELS = 1 << 16


def deltas(block: Block) -> list[Tensor]:
    """The task vectors of a block: each model minus the base, in place of the models."""
    assert block.base is not None
    return [tensor.sub_(block.base) for tensor in block.tensors]


def thresholds(blocks: Blocks, density: Sequence[float]) -> list[float]:
    """For each model the smallest magnitude among the `density` largest ones of its whole task vector, exactly.

    At least one entry counts. 0 where everything is kept. TIES "trim", https://arxiv.org/abs/2306.01708 §3.
    """
    if blocks.elements == 0 or all(share >= 1 for share in density):
        return [0.0] * len(density)
    sample = _sample(blocks)
    searches = [
        None if share >= 1 else _Search(model, max(1, int(share * blocks.elements)), blocks.elements, sample[model])
        for model, share in enumerate(density)
    ]
    open_ones = [search for search in searches if search is not None]
    while open_ones:
        for block in each(blocks):
            vectors = deltas(block)
            for search in open_ones:
                search.feed(_magnitudes(vectors[search.model]))
        open_ones = [search for search in open_ones if not search.ends()]
    return [0.0 if search is None else search.found for search in searches]


class _Search:
    """The `rank`-th largest magnitude of one model's task vector, found by selection, not by ordering.

    A sample tells between which two values it must lie; one pass counts what is outside and keeps the few entries
    between them. Where the sample misled, another pass looks between two values further apart.
    """

    def __init__(self, model: int, rank: int, elements: int, sample: Magnitudes) -> None:
        self.model = model
        self.found = math.nan
        self._rank = rank
        self._share = rank / elements
        self._sample = sample
        self._margin = _FIRST_MARGIN if elements > BLOCK else 1.0
        self._masks = np.empty((4, min(elements, BLOCK)), dtype=bool)
        self._begin()

    def feed(self, magnitudes: Magnitudes) -> None:
        """Takes the next block of the task vector."""
        over, at_high, above, at_low = (mask[: magnitudes.size] for mask in self._masks)
        np.greater(magnitudes, self._high, out=over)
        np.greater_equal(magnitudes, self._high, out=at_high)
        np.greater(magnitudes, self._low, out=above)
        np.greater_equal(magnitudes, self._low, out=at_low)
        self._counts += [np.count_nonzero(mask) for mask in (over, at_high, above, at_low)]
        self._between.append(magnitudes[np.greater(above, at_high, out=above)])

    def ends(self) -> bool:
        """Whether the pass found the value; if not, another one has to be made."""
        over, at_high, above, at_low = (int(count) for count in self._counts)
        if over < self._rank <= at_high:
            self.found = float(self._high)
        elif at_high < self._rank <= above:
            # Weights in 16 bits differ by few distinct values, on which a sort is faster than numpy's partition.
            self.found = float(np.sort(np.concatenate(self._between))[at_high - self._rank])
        elif above < self._rank <= at_low:
            self.found = float(self._low)
        else:
            self._margin *= 4
            self._begin()
            return False
        self._between.clear()
        return True

    def _begin(self) -> None:
        size = self._sample.size
        low, high = (round(size * (1 - self._share + margin)) for margin in (-self._margin, self._margin))
        self._low = self._sample[low] if 0 <= low < size else np.float32(-1)
        self._high = self._sample[high] if high < size else np.float32(np.inf)
        self._counts = np.zeros(4, dtype=np.int64)
        self._between: list[Magnitudes] = []


def _sample(blocks: Blocks) -> list[Magnitudes]:
    """Magnitudes from all over each task vector, in ascending order; none where one block holds everything."""
    if blocks.elements <= BLOCK:
        return [np.empty(0, np.float32) for _ in blocks.read(0, 0).tensors]
    step = blocks.elements // _RUNS
    runs = [
        [
            _magnitudes(delta[::_STRIDE]).copy()
            for delta in deltas(blocks.read(run * step, run * step + min(_RUN, step)))
        ]
        for run in range(_RUNS)
    ]
    return [np.sort(np.concatenate(of_model)) for of_model in zip(*runs, strict=True)]


def _magnitudes(delta: Tensor) -> Magnitudes:
    return delta.abs_().cpu().numpy()  # type: ignore[no-any-return]


def keep_largest(delta: Tensor, threshold: float) -> Tensor:
    """`delta` with all magnitudes below `threshold` set to 0, in place; ties with the smallest kept one stay.

    >>> keep_largest(torch.tensor([1.0, -3.0, 2.0, 0.5]), 2.0)
    tensor([ 0., -3.,  2.,  0.])
    """
    if threshold <= 0:
        return delta
    below = float(np.nextafter(np.float32(threshold), np.float32(0)))
    torch.ops.aten.hardshrink.out(delta, below, out=delta)
    return delta


def scales(blocks: Blocks, density: Sequence[float], seeds: Sequence[int]) -> list[float]:
    """For each model the factor that brings what `keep_random` keeps back to the sum of magnitudes of the whole.

    The paper divides by `density`, which does so in expectation: DARE, https://arxiv.org/abs/2311.03099 §3.1.
    """
    if all(share >= 1 for share in density):
        return [1.0] * len(density)
    whole, kept = [0.0] * len(density), [0.0] * len(density)
    for block in each(blocks):
        for model, (delta, share, seed) in enumerate(zip(deltas(block), density, seeds, strict=True)):
            whole[model] += float(delta.abs_().sum())
            kept[model] += float(keep_random(block, delta, share, seed).sum())
    return [w / k if share < 1 and k > 0 else 1.0 for w, k, share in zip(whole, kept, density, strict=True)]


def keep_random(block: Block, delta: Tensor, density: float, seed: int) -> Tensor:
    """`delta`, of `block`, with each entry kept with probability `density` (to 1/65536), in place. DARE §3.1.

    The mask depends on `seed` and the block's number alone, and a lower density keeps a subset of what a higher one
    keeps.
    """
    if density >= 1:
        return delta
    # numpy promises that a bit generator's raw output stays the same over its versions; four draws come in each word.
    words = np.random.SFC64([seed, block.number]).random_raw(-(-delta.numel() // 4))
    mask = block.empty().copy_(torch.from_numpy(words.view(np.int16)[: delta.numel()]))
    limit = round(density * _LEVELS) - _LEVELS // 2
    return delta.mul_(mask.neg_().add_(limit).clamp_(0, 1))


def mask_seed(seed: int, tensor_name: str, model: int) -> int:
    """The seed of one tensor's random mask: a function of these three, never of the order of work."""
    digest = hashlib.sha256(f"{seed}\n{tensor_name}\n{model}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
