"""Ways to keep only part of a task vector: by magnitude (TIES, Model Breadcrumbs) or at random (DARE)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import BLOCK, Block, Blocks, each
from .selection import EVERYTHING, KEPT, NOTHING, Cut, Magnitudes, Search, new_masks

_RUNS = 64
_RUN = 4096
_STRIDE = 4
_LEVELS = 1 << 16


Limit = TypeVar("Limit")

Vectors = Callable[[Block], list[Tensor]]
"""Series of numbers of a block, in memory that may be overwritten."""


def deltas(block: Block) -> list[Tensor]:
    """The task vectors of a block: each model minus the base, in place of the models."""
    assert block.base is not None
    return [tensor.sub_(block.base) for tensor in block.tensors]


def kept_entries(density: float, elements: int) -> int:
    """How many entries of a tensor `density` keeps, as mergekit counts: rounded down, one at least unless it is 0.

    >>> [kept_entries(density, 100) for density in (0, 0.001, 0.3, 0.999, 1)]
    [0, 1, 30, 99, 100]
    """
    return max(1, int(density * elements)) if density > 0 and elements else 0


def cuts(blocks: Blocks, density: Sequence[float]) -> list[Cut]:
    """For each model where the `density` largest magnitudes of its whole task vector end, exactly.

    Of equal ones the first are kept. TIES "trim", https://arxiv.org/abs/2306.01708 §3.
    """
    return cuts_of_rank(blocks, [(model, kept_entries(d, blocks.elements)) for model, d in enumerate(density)])


def bounds(blocks: Blocks, density: Sequence[float], gamma: Sequence[float]) -> list[tuple[Cut, Cut]]:
    """For each model the cut of what is left out because it is too large, and of that together with what is kept.

    The share `gamma` of the largest is left out, then the share `density` kept; of the largest only as many are left
    out as `density` allows. Model Breadcrumbs, https://arxiv.org/abs/2312.06795 §3.
    """
    ranks: list[tuple[int, int]] = []
    for model, (share, outliers) in enumerate(zip(density, gamma, strict=True)):
        kept = kept_entries(share, blocks.elements)
        left_out = min(int(outliers * blocks.elements), blocks.elements - kept) if kept else 0
        ranks += [(model, left_out), (model, left_out + kept)]
    found = cuts_of_rank(blocks, ranks)
    return list(zip(found[::2], found[1::2], strict=True))


def thresholds(blocks: Blocks, values: Vectors, ranks: Sequence[int]) -> list[float]:
    """The values at these ranks, 1 the largest, of one series of values that are not negative."""
    if blocks.elements <= BLOCK:
        ordered = np.sort(np.concatenate([values(block)[0].cpu().numpy() for block in each(blocks)]))
        return [float(ordered[-rank]) for rank in ranks]
    return [cut.threshold for cut in cuts_of_rank(blocks, [(0, rank) for rank in ranks], values)]


def cuts_of_rank(blocks: Blocks, ranks: Sequence[tuple[int, int]], vectors: Vectors = deltas) -> list[Cut]:
    """Where the `rank` largest magnitudes of a model's task vector end, for each (model, rank).

    Of other series of numbers than task vectors, one for each model or one in all, where `vectors` gives others.
    """
    elements = blocks.elements
    found = [NOTHING if rank == 0 else EVERYTHING for _, rank in ranks]
    sought = [place for place, (_, rank) in enumerate(ranks) if 0 < rank < elements]
    if not sought:
        return found
    sample, masks = _sample(blocks, vectors), new_masks(min(blocks.step, elements))
    unfinished = {
        place: Search(ranks[place][1], elements, sample[ranks[place][0]], KEPT // len(sought), masks)
        for place in sought
    }
    while unfinished:
        models = {ranks[place][0] for place in unfinished}
        for block in each(blocks):
            series = vectors(block)
            magnitudes = {model: _magnitudes(series[model]) for model in models}
            for place, search in unfinished.items():
                search.feed(magnitudes[ranks[place][0]])
        ended = {place: search.found for place, search in unfinished.items() if search.ends()}
        for place, cut in ended.items():
            assert cut is not None
            found[place] = cut
            del unfinished[place]
    return found


def _sample(blocks: Blocks, vectors: Vectors) -> list[Magnitudes]:
    """Magnitudes from all over each series, in ascending order; none where one block holds everything."""
    if blocks.elements <= BLOCK:
        return [np.empty(0, np.float32) for _ in vectors(blocks.read(0, 0))]
    step = blocks.elements // _RUNS
    runs = [
        [
            _magnitudes(delta[::_STRIDE]).copy()
            for delta in vectors(blocks.read(run * step, run * step + min(_RUN, step)))
        ]
        for run in range(_RUNS)
    ]
    samples = [np.sort(np.concatenate(of_model)) for of_model in zip(*runs, strict=True)]
    return [sample[: np.searchsorted(sample, np.nan)] for sample in samples]


def _magnitudes(delta: Tensor) -> Magnitudes:
    return delta.abs_().cpu().numpy()


def keep_largest(block: Block, cut: Sequence[Cut]) -> list[Tensor]:
    """The task vectors of a block, each with what is not among its model's largest magnitudes set to 0."""
    spare = block.empty()
    return [keep_above(block, delta, end, spare) for delta, end in zip(deltas(block), cut, strict=True)]


def keep_between(block: Block, limits: Sequence[tuple[Cut, Cut]]) -> list[Tensor]:
    """The task vectors of a block without what `bounds` says is too large or too small."""
    spare, larger = block.empty(), block.empty()
    vectors = deltas(block)
    for delta, (left_out, kept) in zip(vectors, limits, strict=True):
        keep_above(block, delta, kept, spare)
        if left_out != NOTHING:
            delta.sub_(keep_above(block, larger.copy_(delta), left_out, spare))
    return vectors


def keep_above(block: Block, delta: Tensor, cut: Cut, spare: Tensor) -> Tensor:
    """`delta`, of `block`, with all that is not among the largest magnitudes set to 0, in place; `spare`: as long."""
    if cut == NOTHING:
        return delta.sub_(delta)  # not zero_: what is not finite has to show in the result
    if cut.threshold <= 0:
        return delta
    first_left_out = 0
    if block.number < cut.block:
        first_left_out = delta.numel()
    elif block.number == cut.block and cut.ties:
        ties = torch.abs(delta, out=spare).eq_(cut.threshold).nonzero()
        first_left_out = int(ties[cut.ties])
    below = float(np.nextafter(np.float32(cut.threshold), np.float32(0)))
    for part, limit in ((delta[:first_left_out], below), (delta[first_left_out:], cut.threshold)):
        torch.ops.aten.hardshrink.out(part, limit, out=part)
    return delta


@dataclass(frozen=True)
class Trimmed(Generic[Limit]):
    """What is kept of each model's task vector by its magnitude, and the factor on it; None: as it is."""

    limits: list[Limit]
    factors: list[float] | None = None

    def scaled(self, vectors: list[Tensor]) -> list[Tensor]:
        """What was kept of a block, times the factors, in place."""
        for vector, factor in zip(vectors, self.factors or (), strict=self.factors is not None):
            vector.mul_(factor)
        return vectors


def regained(blocks: Blocks, keep: Vectors) -> list[float]:
    """For each model the factor that brings what `keep` leaves back to the sum of magnitudes of the whole vector."""
    whole, kept = (
        [sum(parts) for parts in zip(*sums, strict=True)]
        for sums in (
            [[float(vector.abs_().sum()) for vector in vectors(block)] for block in each(blocks)]
            for vectors in (deltas, keep)
        )
    )
    return [w / k if k > 0 else 1.0 for w, k in zip(whole, kept, strict=True)]


def scales(blocks: Blocks, density: Sequence[float], seeds: Sequence[int]) -> list[float]:
    """For each model the factor that brings what `keep_random` keeps back to the sum of magnitudes of the whole.

    The paper divides by `density`, which does so in expectation: DARE, https://arxiv.org/abs/2311.03099 §3.1.
    """
    if all(share >= 1 for share in density):
        return [1.0] * len(density)
    whole, kept = [0.0] * len(density), [0.0] * len(density)
    for block in each(blocks):
        mask = block.empty()
        for model, (delta, share, seed) in enumerate(zip(deltas(block), density, seeds, strict=True)):
            whole[model] += float(delta.abs_().sum())
            kept[model] += float(torch.dot(delta, random_mask(share, seed, block.number, out=mask)))
    return [w / k if share < 1 and k > 0 else 1.0 for w, k, share in zip(whole, kept, density, strict=True)]


def keep_random(block: Block, density: Sequence[float], seeds: Sequence[int]) -> list[Tensor]:
    """The task vectors of a block, each entry kept with its model's probability `density` (to 1/65536). DARE §3.1."""
    mask = block.empty()
    return [
        delta if share >= 1 else delta.mul_(random_mask(share, seed, block.number, out=mask))
        for delta, share, seed in zip(deltas(block), density, seeds, strict=True)
    ]


def random_mask(density: float, seed: int, block: int, *, out: Tensor) -> Tensor:
    """1 with probability `density`, else 0, in each element of `out`, float32.

    It depends on `seed` and `block`, the block's number, alone, and a lower density keeps a subset of what a higher one
    keeps.
    """
    highest_dropped = _LEVELS // 2 - 1 - round(density * _LEVELS)
    out.copy_(torch.from_numpy(draws(seed, block, out.numel())))
    return out.sub_(highest_dropped).clamp_(0, 1)


def draws(seed: int, block: int, count: int) -> NDArray[np.int16]:
    """So many random whole numbers from -32768 to 32767."""
    # Four draws come in each word. Whole words of a bit generator are what numpy promises to keep over its versions;
    # `integers` gives them, as `random_raw` does, but lets other threads run meanwhile.
    generator = np.random.Generator(np.random.SFC64([seed, block]))
    words = generator.integers(0, 1 << 64, -(-count // 4), dtype=np.uint64)
    return words.view(np.int16)[:count]


def highest_dropped(chance: Tensor) -> Tensor:
    """The highest draw that drops an element, for the `chance` of each to be kept, in place."""
    return chance.mul_(-_LEVELS).round_().add_(_LEVELS // 2 - 1)


def mask_seed(seed: int, tensor_name: str, model: int) -> int:
    """The seed of one tensor's random mask: a function of these three, never of the order of work."""
    digest = hashlib.sha256(f"{seed}\n{tensor_name}\n{model}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
