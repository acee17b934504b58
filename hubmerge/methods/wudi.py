"""WUDI: a merge that disturbs no model in the directions that it learnt in, found without data.

Cheng et al. 2025, "Whoever started the interference should end it: guiding data-free model merging via task vectors",
https://arxiv.org/abs/2503.08099.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .blocks import Block
from .spectral import add, add_mean, matrices, weighted_sum

_BETA, _BETA_SQUARE, _EPSILON = 0.9, 0.999, 1e-8


NOTHING = 1e-18
"""A change of no larger norm is none: its square could not be divided by in float32."""


def wudi(block: Block, *, weight: Sequence[float], steps: float, learning_rate: float, lambda_: float) -> Tensor:
    """The sum of changes, moved by Adam towards the least interference: the sum over models of
    |(merged - change) change^T|^2 / |change|^2 (equation 13)."""
    changes = matrices(block)
    if changes is None:
        return add_mean(block, weight, lambda_)
    changes = [change.mul_(w) for change, w in zip(changes, weight, strict=True)]
    merged = weighted_sum(changes, [1.0] * len(changes))
    changes = [change for change in changes if float(torch.linalg.matrix_norm(change)) > NOTHING]
    if changes:
        _descend(merged, _gradient(changes), int(steps), learning_rate)
    return add(block, merged, lambda_)


def _gradient(changes: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Half the gradient of the interference, a linear function of the merged matrix."""
    rows, columns = changes[0].shape
    scales = [1 / float(torch.linalg.matrix_norm(change)) ** 2 for change in changes]
    if columns > 4 * rows:  # a product over the columns would be larger than all changes together

        def each_time(merged: Tensor) -> Tensor:
            pulls = zip(changes, scales, strict=True)
            return weighted_sum([((merged - change) @ change.T) @ change for change, _ in pulls], scales)

        return each_time
    products = [change.T @ change for change in changes]
    slope = weighted_sum(products, scales)
    target = weighted_sum([change @ product for change, product in zip(changes, products, strict=True)], scales)
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
