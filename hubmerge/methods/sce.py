"""SCE: select where the models differ, calculate their weights, erase what goes against the majority.

Wan et al. 2024, "FuseChat: knowledge fusion of chat models", https://arxiv.org/abs/2408.07990, §3.3.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Block, Blocks, each
from .gram import dot
from .linear import NEARLY_ZERO
from .selection import EVERYTHING, NOTHING, Cut
from .sparsify import cuts_of_rank, deltas, keep_above


@dataclass(frozen=True)
class Selection:
    """Which positions are selected, by the variance over the models, and the weight of each model."""

    cut: Cut
    weights: tuple[float, ...]


def sce_selection(blocks: Blocks, *, select_topk: float) -> Selection:
    """Of the positions with any variance the share with the most; weights by the mean square of what is selected."""
    cut = EVERYTHING
    if select_topk < 1:
        varied = 0
        for block in each(blocks):
            variance = _variance(block)
            if not bool(variance.isfinite().all()):  # nor can be told which is the largest
                return Selection(cut, (math.nan,) * len(block.tensors))
            varied += int(torch.count_nonzero(variance))
        kept = int(select_topk * varied)
        cut = cuts_of_rank(blocks, [(0, kept)], lambda block: [_variance(block)])[0] if kept else NOTHING
    squares: list[float] = []
    for block in each(blocks):
        vectors = _selected(block, cut)
        squares = squares or [0.0] * len(vectors)
        for model, vector in enumerate(vectors):
            squares[model] += dot(vector, vector)
    total = sum(squares)
    return Selection(cut, tuple(square / total if total else 1 / len(squares) for square in squares))


def sce(block: Block, *, measured: Selection, **_: object) -> Tensor:
    """The weighted mean of the selected changes that have the sign of their sum, on top of the base."""
    vectors = _selected(block, measured.cut)
    total, divisor, direction = block.empty().zero_(), block.empty().zero_(), block.empty().fill_(1)
    for vector in vectors:
        total += vector
    direction.copysign_(total.add_(0.0))  # what adds up to nothing counts as positive, and so does a negative zero
    total.zero_()
    for vector, weight in zip(vectors, measured.weights, strict=True):
        agreeing = vector.mul_(direction).relu_()
        total.add_(agreeing, alpha=weight)
        divisor.add_(agreeing.sign_(), alpha=weight)
    assert block.base is not None
    return block.base.add_(total.div_(divisor.clamp_(min=NEARLY_ZERO)).mul_(direction))


def _variance(block: Block) -> Tensor:
    """The variance over the models, times their number; 0 exactly where all are equal. Changes nothing."""
    first, *others = block.tensors
    mean, variance, apart = block.empty().zero_(), block.empty(), block.empty()
    for tensor in others:
        mean += torch.sub(tensor, first, out=apart)
    mean /= len(block.tensors)
    torch.mul(mean, mean, out=variance)
    for tensor in others:
        torch.sub(tensor, first, out=apart).sub_(mean)
        variance.addcmul_(apart, apart)
    return variance


def _selected(block: Block, cut: Cut) -> list[Tensor]:
    """The task vectors, with what is not selected set to 0."""
    if cut == EVERYTHING:
        return deltas(block)
    selected = keep_above(block, _variance(block), cut, block.empty()).sign_()
    return [vector.mul_(selected) for vector in deltas(block)]
