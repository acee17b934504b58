"""Spherical linear interpolation. Shoemake 1985, "Animating rotation with quaternion curves", SIGGRAPH '85."""

import math

import torch
from torch import Tensor

from .blocks import Block, Blocks, each

# Above this cosine the arc is straight to float32 precision, and sin(angle) too small to divide by.
NEARLY_PARALLEL = 0.9995

Shares = tuple[float, float] | None
"""How much of the base and of the other goes in; None where the arc between them is straight."""


def slerp_shares(blocks: Blocks, *, t: float) -> Shares:
    """The shares on the arc; the angle is that of the whole tensors as flat vectors, lengths are not normalised."""
    across = base_square = other_square = 0.0
    for block in each(blocks):
        base, other = block.base, block.tensors[0]
        assert base is not None
        across += float(torch.dot(base, other))
        base_square += float(torch.dot(base, base))
        other_square += float(torch.dot(other, other))
    norms = math.sqrt(base_square) * math.sqrt(other_square)
    cosine = across / norms if norms > 0 else 1.0
    if abs(cosine) > NEARLY_PARALLEL:
        return None
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def slerp(block: Block, *, t: float, measured: Shares) -> Tensor:
    """From the base (t = 0) to the one model (t = 1) along the arc between their directions.

    Nearly parallel tensors, and zero ones, are interpolated linearly.
    """
    base, other = block.base, block.tensors[0]
    assert base is not None
    if measured is None:
        return base.lerp_(other, t)
    return base.mul_(measured[0]).add_(other, alpha=measured[1])
