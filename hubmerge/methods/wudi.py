"""WUDI: a merge that disturbs no model in the directions that it learnt in, found without data.

Cheng et al. 2025, "Whoever started the interference should end it: guiding data-free model merging via task vectors",
https://arxiv.org/abs/2503.08099.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .blocks import Block, Blocks
from .products import of_model, slices
from .sparsify import deltas
from .spectral import add, add_mean, weighted_sum

_BETA, _BETA_SQUARE, _EPSILON = 0.9, 0.999, 1e-8


NOTHING = 1e-18
"""A change of no larger norm is none: its square could not be divided by in float32."""


@dataclass(frozen=True)
class Pulls:
    """What rows of a matrix times change^T change / |change|^2 are, for each model that has learnt anything: `of` a
    model. `slope`: all of these added up; None where a product over the columns would be larger than all changes.
    """

    of: Mapping[int, Callable[[Tensor], Tensor]]
    slope: Tensor | None


def wudi(
    block: Block,
    *,
    measured: Pulls | None,
    weight: Sequence[float],
    steps: float,
    learning_rate: float,
    lambda_: float,
) -> Tensor:
    """The sum of changes, moved by Adam towards the least interference: the sum over models of
    |(merged - change) change^T|^2 / |change|^2 (equation 13), in which each row is alone."""
    if measured is None:
        return add_mean(block, weight, lambda_)
    rows = [delta.view(-1, block.columns).mul_(w) for delta, w in zip(deltas(block), weight, strict=True)]
    merged = weighted_sum(rows, [1.0] * len(rows))
    if measured.of:
        _descend(merged, _gradient(rows, measured), int(steps), learning_rate)
    return add(block, merged, lambda_)


def wudi_pulls(blocks: Blocks, *, weight: Sequence[float], **_: object) -> Pulls | None:
    """What moves the rows of the merged matrix."""
    if (changes := slices(blocks)) is None:
        return None
    lengths = sum(torch.stack([one.double().square_().sum() for one in some]) for some in changes)
    assert isinstance(lengths, Tensor)
    if not bool(lengths.isfinite().all()):
        return None
    learnt = {
        model: 1 / length
        for model, (w, length) in enumerate(zip(weight, lengths.tolist(), strict=True))
        if abs(w) * math.sqrt(length) > NOTHING
    }
    if changes.is_wide:
        of = {model: partial(_through, changes.whole[model], scale) for model, scale in learnt.items()}
        if changes.columns > 4 * changes.rows:
            return Pulls(of, None)
        slope = changes.whole[0].new_zeros(changes.columns, changes.columns)
        for model, scale in learnt.items():
            slope.addmm_(changes.whole[model].T, changes.whole[model], alpha=scale)
        return Pulls(of, slope)
    squares = {model: changes.square(of_model(model)).float().mul_(scale) for model, scale in learnt.items()}
    both = weighted_sum([*squares.values()], [1.0] * len(squares)) if squares else None
    return Pulls({model: partial(_times, square) for model, square in squares.items()}, both)


def _times(square: Tensor, rows: Tensor) -> Tensor:
    return rows @ square


def _through(whole: Tensor, scale: float, rows: Tensor) -> Tensor:
    return (rows @ whole.T * scale) @ whole


def _gradient(rows: Sequence[Tensor], pulls: Pulls) -> Callable[[Tensor], Tensor]:
    """Half the gradient of the interference, a linear function of the merged rows."""
    ones = [1.0] * len(pulls.of)
    if (slope := pulls.slope) is None:
        return lambda merged: weighted_sum([pull(merged - rows[model]) for model, pull in pulls.of.items()], ones)
    target = weighted_sum([pull(rows[model]) for model, pull in pulls.of.items()], ones)
    return lambda merged: torch.sub(merged @ slope, target)


def _descend(merged: Tensor, gradient: Callable[[Tensor], Tensor], steps: int, rate: float) -> None:
    """Adam (https://arxiv.org/abs/1412.6980, Alg. 1), in place."""
    mean, square = torch.zeros_like(merged), torch.zeros_like(merged)
    for step in range(1, steps + 1):
        slope = gradient(merged).mul_(2)
        mean.lerp_(slope, 1 - _BETA)
        square.mul_(_BETA_SQUARE).addcmul_(slope, slope, value=1 - _BETA_SQUARE)
        below = (square / (1 - _BETA_SQUARE**step)).sqrt_().add_(_EPSILON)
        merged.addcdiv_(mean, below, value=-rate / (1 - _BETA**step))
