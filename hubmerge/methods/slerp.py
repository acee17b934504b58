"""Spherical linear interpolation. Shoemake 1985, "Animating rotation with quaternion curves", SIGGRAPH '85."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Above this cosine the arc is straight to float32 precision, and sin(angle) too small to divide by.
NEARLY_PARALLEL = 0.9995


def slerp(tensors: Sequence[Tensor], base: Tensor, *, t: float) -> Tensor:
    """From `base` (t = 0) to `tensors[0]` (t = 1) along the arc between their directions.

    The angle is that of the two tensors as flat vectors; lengths are not normalised. Nearly parallel tensors, and
    zero ones, are interpolated linearly. Returns the common shape.

    >>> import torch
    >>> slerp([torch.tensor([0.0, 1.0])], torch.tensor([1.0, 0.0]), t=0.5).shape
    torch.Size([2])
    """
    other = tensors[0]
    norms = base.norm() * other.norm()
    cosine = float(torch.dot(base.flatten(), other.flatten()) / norms) if float(norms) > 0 else 1.0
    if abs(cosine) > NEARLY_PARALLEL:
        return torch.lerp(base, other, t)
    angle = torch.acos(torch.tensor(cosine, dtype=torch.float64))
    from_base, from_other = torch.sin((1 - t) * angle) / angle.sin(), torch.sin(t * angle) / angle.sin()
    return (base * float(from_base)).add_(other, alpha=float(from_other))
