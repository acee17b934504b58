"""Ways to keep only part of a task vector: by magnitude (TIES, Model Breadcrumbs) or at random (DARE)."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .blocks import BLOCK, Block, Blocks, each
from .selection import KEPT, Magnitudes, Search, new_masks

_RUNS = 64
_RUN = 4096
_STRIDE = 4
_LEVELS = 1 << 16


def deltas(block: Block) -> list[Tensor]:
    """The task vectors of a block: each model minus the base, in place of the models."""
    assert block.base is not None
    return [tensor.sub_(block.base) for tensor in block.tensors]


def thresholds(blocks: Blocks, density: Sequence[float]) -> list[float]:
    """For each model the smallest magnitude among the `density` largest ones of its whole task vector, exactly.

    At least one entry counts. 0 where everything is kept. TIES "trim", https://arxiv.org/abs/2306.01708 §3.
    """
    ranks = {model: max(1, int(share * blocks.elements)) for model, share in enumerate(density) if share < 1}
    found = dict(zip(ranks, magnitudes_of_rank(blocks, list(ranks.items())), strict=True))
    return [found.get(model, 0.0) for model in range(len(density))]


def bounds(blocks: Blocks, density: Sequence[float], gamma: Sequence[float]) -> list[tuple[float, float]]:
    """For each model the smallest and the largest magnitude that are kept, exactly.

    The share `gamma` of the largest is left out, then the share `density` kept: at least one entry, and of the largest
    only as many are left out as `density` allows. Model Breadcrumbs, https://arxiv.org/abs/2312.06795 §3.
    """
    ranks: list[tuple[int, int]] = []
    for model, (share, outliers) in enumerate(zip(density, gamma, strict=True)):
        kept = max(1, int(share * blocks.elements))
        left_out = min(int(outliers * blocks.elements), blocks.elements - kept)
        ranks += [(model, left_out + 1), (model, left_out + kept)]
    found = magnitudes_of_rank(blocks, ranks)
    return [(low, high) for high, low in zip(found[::2], found[1::2], strict=True)]


def magnitudes_of_rank(blocks: Blocks, ranks: Sequence[tuple[int, int]]) -> list[float]:
    """The `rank`-th largest magnitude (1 is the largest) of a model's task vector, for each (model, rank)."""
    elements = blocks.elements
    if elements == 0 or not ranks:
        return [0.0] * len(ranks)
    sample, masks = _sample(blocks), new_masks(elements)
    searches = [(model, Search(rank, elements, sample[model], KEPT // len(ranks), masks)) for model, rank in ranks]
    unfinished = searches
    while unfinished:
        for block in each(blocks):
            vectors = deltas(block)
            magnitudes = {model: _magnitudes(vectors[model]) for model in dict(unfinished)}
            for model, search in unfinished:
                search.feed(magnitudes[model])
        unfinished = [(model, search) for model, search in unfinished if not search.ends()]
    return [search.found for _, search in searches]


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


def keep_between(block: Block, delta: Tensor, low: float, high: float) -> Tensor:
    """`delta`, of `block`, with all magnitudes below `low` or above `high` set to 0, in place."""
    if high < np.inf:
        larger = block.empty()
        torch.ops.aten.hardshrink.out(delta, high, out=larger)
        delta.sub_(larger)
    return keep_largest(delta, low)


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
    # Four draws come in each word. Whole words of a bit generator are what numpy promises to keep over its versions;
    # `integers` gives them, as `random_raw` does, but lets other threads run meanwhile.
    generator = np.random.Generator(np.random.SFC64([seed, block]))
    words = generator.integers(0, 1 << 64, -(-out.numel() // 4), dtype=np.uint64)
    out.copy_(torch.from_numpy(words.view(np.int16)[: out.numel()]))
    highest_dropped = _LEVELS // 2 - 1 - round(density * _LEVELS)
    return out.sub_(highest_dropped).clamp_(0, 1)


def mask_seed(seed: int, tensor_name: str, model: int) -> int:
    """The seed of one tensor's random mask: a function of these three, never of the order of work."""
    digest = hashlib.sha256(f"{seed}\n{tensor_name}\n{model}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
