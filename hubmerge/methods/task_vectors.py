"""Methods that add up task vectors: what fine-tuning changed, fine-tuned minus base.

Task arithmetic: Ilharco et al. 2022, https://arxiv.org/abs/2212.04089. TIES: Yadav et al. 2023,
https://arxiv.org/abs/2306.01708. DARE: Yu et al. 2023, https://arxiv.org/abs/2311.03099. Model Breadcrumbs: Davari and
Belilovsky 2023, https://arxiv.org/abs/2312.06795. DELLA: Deep et al. 2024, https://arxiv.org/abs/2406.11617.

A method is a way to thin task vectors out and a way to put them together. `weight` (any sign), `density` and `gamma`
(0..1), and `seeds` have one entry a model, `lambda_` scales the sum; each function takes of these what it needs.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .blocks import Block, Blocks
from .della import Kept, keep_by_magnitude, magnitude_masks
from .linear import NEARLY_ZERO
from .selection import Cut
from .sparsify import Trimmed, bounds, cuts, deltas, keep_between, keep_largest, keep_random, regained, scales


def task_arithmetic(block: Block, **parameters: Any) -> Tensor:
    """base + lambda * sum of weight * task vector."""
    return _add_sum(block, deltas(block), **parameters)


def ties_cuts(blocks: Blocks, *, density: Sequence[float], rescale: bool = False, **_: Any) -> Trimmed[Cut]:
    """For each model where what TIES keeps ends."""
    found = cuts(blocks, density)
    return Trimmed(found, regained(blocks, lambda block: keep_largest(block, found)) if rescale else None)


def ties(block: Block, *, measured: Trimmed[Cut], **parameters: Any) -> Tensor:
    """Trim each task vector to its largest entries, elect a sign per entry, merge those that agree (paper, Alg. 1)."""
    return _add_elected(block, measured.scaled(keep_largest(block, measured.limits)), **parameters)


def breadcrumbs_bounds(
    blocks: Blocks, *, density: Sequence[float], gamma: Sequence[float], rescale: bool = False, **_: Any
) -> Trimmed[tuple[Cut, Cut]]:
    """For each model where what Model Breadcrumbs leaves out as too large ends, and what it keeps."""
    found = bounds(blocks, density, gamma)
    return Trimmed(found, regained(blocks, lambda block: keep_between(block, found)) if rescale else None)


def breadcrumbs(block: Block, *, measured: Trimmed[tuple[Cut, Cut]], **parameters: Any) -> Tensor:
    """Leave out the largest and the smallest entries of each task vector, add up the rest."""
    return _add_sum(block, measured.scaled(keep_between(block, measured.limits)), **parameters)


def breadcrumbs_ties(block: Block, *, measured: Trimmed[tuple[Cut, Cut]], **parameters: Any) -> Tensor:
    """Leave out the largest and the smallest entries, then elect signs as TIES."""
    return _add_elected(block, measured.scaled(keep_between(block, measured.limits)), **parameters)


def dare_scales(
    blocks: Blocks, *, density: Sequence[float], rescale: bool, seeds: Sequence[int], **_: Any
) -> list[float]:
    """For each model the factor on what DARE keeps."""
    return scales(blocks, density, seeds) if rescale else [1.0] * len(density)


def dare_linear(block: Block, *, measured: Sequence[float], **parameters: Any) -> Tensor:
    """Drop entries of each task vector at random, rescale the rest, add them up."""
    return _add_sum(block, _drop(block, measured, **parameters), **parameters)


def dare_ties(block: Block, *, measured: Sequence[float], **parameters: Any) -> Tensor:
    """Drop at random as DARE, then elect signs as TIES: the method that evolution tunes in arXiv 2403.13187 §3.1."""
    return _add_elected(block, _drop(block, measured, **parameters), **parameters)


def della_masks(
    blocks: Blocks,
    *,
    density: Sequence[float],
    epsilon: Sequence[float],
    rescale: bool,
    seeds: Sequence[int],
    **_: Any,
) -> list[Kept]:
    """For each model what DELLA keeps, and the factor on it."""
    return magnitude_masks(blocks, density=density, epsilon=epsilon, rescale=rescale, seeds=seeds)


def della_linear(block: Block, *, measured: Sequence[Kept], **parameters: Any) -> Tensor:
    """Drop entries of each task vector at random, small ones first, rescale the rest, add them up."""
    return _add_sum(block, keep_by_magnitude(block, measured), **parameters)


def della(block: Block, *, measured: Sequence[Kept], **parameters: Any) -> Tensor:
    """Drop small entries at random, then elect signs as TIES."""
    return _add_elected(block, keep_by_magnitude(block, measured), **parameters)


def _drop(
    block: Block, factors: Sequence[float], *, density: Sequence[float], seeds: Sequence[int], **_: Any
) -> list[Tensor]:
    kept = keep_random(block, density, seeds)
    return [delta.mul_(factor) for delta, factor in zip(kept, factors, strict=True)]


def _add_sum(
    block: Block, vectors: Sequence[Tensor], *, weight: Sequence[float], normalize: bool, lambda_: float, **_: Any
) -> Tensor:
    total = sum(weight)
    scale = lambda_ / total if normalize and abs(total) > NEARLY_ZERO else lambda_
    result = block.base
    assert result is not None
    for vector, w in zip(vectors, weight, strict=True):
        result.add_(vector, alpha=w * scale)
    return result


def _add_elected(
    block: Block, vectors: Sequence[Tensor], *, weight: Sequence[float], normalize: bool, lambda_: float, **_: Any
) -> Tensor:
    """TIES's election and merge. Written with float operations alone, which are several times faster than masks."""
    assert block.base is not None
    elected, sign, divisor = block.empty().zero_(), block.empty().fill_(1), block.empty().zero_()
    for vector, w in zip(vectors, weight, strict=True):
        elected += vector.mul_(w)
    # Nothing elected counts as positive, and so does a negative zero.
    sign.copysign_(elected.add_(0.0))
    total = elected.zero_()
    for vector, w in zip(vectors, weight, strict=True):
        agreeing = vector.mul_(sign).relu_()
        total += agreeing
        if normalize:
            divisor.add_(agreeing.sign_(), alpha=w)
    if normalize:
        if all(w == 0 or w >= NEARLY_ZERO for w in weight):
            divisor.clamp_(min=NEARLY_ZERO)  # where nothing agrees, and the sum is 0
        else:
            divisor.masked_fill_(divisor.abs() < NEARLY_ZERO, 1.0)
        total /= divisor
    return total.mul_(sign).mul_(lambda_).add_(block.base)
