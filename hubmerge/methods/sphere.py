"""Means on the sphere: directions are averaged along arcs, lengths on their own.

Multi-SLERP: Goddard 2024, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea. Karcher mean: Karcher 1977,
https://doi.org/10.1002/cpa.3160300502; for merging, https://arxiv.org/abs/2603.04972.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .blocks import Block, Blocks
from .gram import add_up, learnt, products
from .linear import NEARLY_ZERO

# An arc shorter than this has no direction, and below this length neither has a vector.
_NOTHING = 1e-12


def multislerp_shares(blocks: Blocks, *, weight: Sequence[float], normalize_weights: bool, eps: float) -> list[float]:
    """How much of each vector goes in.

    The directions' weighted mean is where the tangent plane touches the sphere; the weighted mean of what the
    directions are in that plane is its origin, so the result has the direction of the mean, and the mean length.
    """
    if len(weight) == 1:
        return [1.0]
    inner = products(blocks)
    given = np.asarray(weight, dtype=np.float64)
    total = float(given.sum())
    if normalize_weights and abs(total) > NEARLY_ZERO:
        given = given / total
    lengths = np.sqrt(np.diag(inner))
    shares = given / (lengths + eps)
    length = math.sqrt(max(0.0, float(shares @ inner @ shares)))
    if length < eps or length == 0:  # directions that cancel out have no mean on the sphere
        return [float(share) for share in given]
    return [float(share) for share in shares / length * math.cos(eps) * float(given @ lengths)]


def multislerp(block: Block, *, measured: Sequence[float], **_: object) -> Tensor:
    """The mean direction of the models, or of their task vectors, at their mean length."""
    return add_up(block, learnt(block), measured)


def karcher_shares(blocks: Blocks, *, max_iter: float, tol: float) -> list[float]:
    """How much of each model goes in: the point on the sphere from which the arcs to all directions balance.

    Found by steps along the mean of the arcs, each of the size of that mean, until one is below `tol`. Tensors of
    zeros have no direction, but count for the mean length. Where directions cancel out, the first one is the start.
    """
    inner = products(blocks)
    if not np.isfinite(inner).all():
        return [math.nan] * len(inner)
    lengths = np.sqrt(np.diag(inner))
    directed = np.flatnonzero(~(lengths <= _NOTHING))
    shares = np.zeros(len(lengths))
    if directed.size:
        cosines = inner[np.ix_(directed, directed)] / np.outer(lengths[directed], lengths[directed])
        np.fill_diagonal(cosines, 1.0)
        point = _balance(cosines, int(max_iter), tol)
        shares[directed] = point / lengths[directed] * lengths.mean()
    return [float(share) for share in shares]


def karcher(block: Block, *, measured: Sequence[float], **_: object) -> Tensor:
    """The Karcher mean of the models' directions, at their mean length."""
    return add_up(block, block.tensors, measured)


def _balance(cosines: np.ndarray, steps: int, tol: float) -> np.ndarray:
    """The Karcher mean of unit vectors with these inner products, as shares of them."""
    count = len(cosines)

    def length(shares: np.ndarray) -> float:
        return math.sqrt(max(0.0, float(shares @ cosines @ shares)))

    point: np.ndarray = np.full(count, 1 / count)
    if length(point) <= NEARLY_ZERO:
        point = np.eye(count)[0]
    point = point / length(point)
    for _ in range(steps):
        along = np.clip(cosines @ point, -1.0, 1.0)
        angles = np.arccos(along)
        arc: np.ndarray = np.zeros(count)
        for vector in range(count):
            if (sine := math.sin(angles[vector])) > NEARLY_ZERO:  # neither here nor at the other end
                towards = np.eye(count)[vector] - along[vector] * point
                arc += angles[vector] / sine / count * towards
        step = length(arc)
        if not step >= tol or step <= _NOTHING:
            break
        point = math.cos(step) * point + math.sin(step) / step * arc
        point = point / length(point)
    return point
