"""Methods that add up task vectors: what fine-tuning changed, fine-tuned minus base.

Task arithmetic: Ilharco et al. 2022, https://arxiv.org/abs/2212.04089. TIES: Yadav et al. 2023,
https://arxiv.org/abs/2306.01708. DARE: Yu et al. 2023, https://arxiv.org/abs/2311.03099.

In all of them `tensors` are n float tensors of the shape of `base`, `weight` (any sign) and `density` (0..1) have one
entry a tensor, `lambda_` scales the sum, and the result has that shape.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .linear import NEARLY_ZERO
from .sparsify import keep_largest, keep_random


def task_arithmetic(
    tensors: Sequence[Tensor], base: Tensor, *, weight: Sequence[float], normalize: bool = False, lambda_: float = 1.0
) -> Tensor:
    """base + lambda * sum of weight * task vector.

    >>> task_arithmetic([torch.ones(2, 2)], torch.zeros(2, 2), weight=[0.5]).shape
    torch.Size([2, 2])
    """
    return _add_sum([tensor - base for tensor in tensors], base, weight, normalize, lambda_)


def ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool = True,
    lambda_: float = 1.0,
) -> Tensor:
    """Trim each task vector to its largest entries, elect a sign per entry, merge those that agree (paper, Alg. 1).

    >>> ties([torch.ones(3), -torch.ones(3) / 2], torch.zeros(3), weight=[1, 1], density=[1, 1])
    tensor([1., 1., 1.])
    """
    deltas = [keep_largest(tensor - base, d) for tensor, d in zip(tensors, density, strict=True)]
    return _add_elected(deltas, base, weight, normalize, lambda_)


def dare_linear(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    seeds: Sequence[int],
    normalize: bool = False,
    rescale: bool = True,
    lambda_: float = 1.0,
) -> Tensor:
    """Drop entries of each task vector at random, rescale the rest, add them up. `seeds`: one a tensor."""
    deltas = _drop(tensors, base, density, seeds, rescale)
    return _add_sum(deltas, base, weight, normalize, lambda_)


def dare_ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    seeds: Sequence[int],
    normalize: bool = False,
    rescale: bool = True,
    lambda_: float = 1.0,
) -> Tensor:
    """Drop at random as DARE, then elect signs as TIES: the method that evolution tunes in arXiv 2403.13187 §3.1."""
    deltas = _drop(tensors, base, density, seeds, rescale)
    return _add_elected(deltas, base, weight, normalize, lambda_)


def _drop(
    tensors: Sequence[Tensor], base: Tensor, density: Sequence[float], seeds: Sequence[int], rescale: bool
) -> list[Tensor]:
    return [
        keep_random(tensor - base, d, rescale=rescale, seed=seed)
        for tensor, d, seed in zip(tensors, density, seeds, strict=True)
    ]


def _add_sum(
    deltas: Sequence[Tensor], base: Tensor, weight: Sequence[float], normalize: bool, lambda_: float
) -> Tensor:
    total = sum(weight)
    scale = lambda_ / total if normalize and abs(total) > NEARLY_ZERO else lambda_
    result = base.clone()
    for delta, w in zip(deltas, weight, strict=True):
        result.add_(delta, alpha=w * scale)
    return result


def _add_elected(
    deltas: Sequence[Tensor], base: Tensor, weight: Sequence[float], normalize: bool, lambda_: float
) -> Tensor:
    """TIES's election and merge; `deltas` are used up, which spares a copy of each."""
    elected = torch.zeros_like(base)
    for delta, w in zip(deltas, weight, strict=True):
        elected += delta.mul_(w)
    positive = elected >= 0
    total, divisor = elected.zero_(), torch.zeros_like(base)
    for delta, w in zip(deltas, weight, strict=True):
        agrees = torch.where(positive, delta > 0, delta < 0)
        total += delta.mul_(agrees)
        divisor.add_(agrees, alpha=w)
    if normalize:
        total /= divisor.masked_fill_(divisor.abs() < NEARLY_ZERO, 1.0)
    return total.mul_(lambda_).add_(base)
