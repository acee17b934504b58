"""Ways to keep only part of a task vector: by magnitude (TIES) or at random (DARE)."""

import hashlib

import torch
from torch import Tensor

_MAGNITUDE = 0x7FFFFFFF
_UPPER_HALVES = 1 << 15
_PIECE = 1 << 20


def keep_largest(delta: Tensor, density: float) -> Tensor:
    """`delta` with all but its `density` largest magnitudes set to 0. TIES "trim", https://arxiv.org/abs/2306.01708 §3.

    At least one entry stays; entries that tie with the smallest kept magnitude stay too, so that the result does not
    depend on an order. Returns a new tensor of the same shape.

    >>> keep_largest(torch.tensor([1.0, -3.0, 2.0, 0.5]), 0.5)
    tensor([ 0., -3.,  2.,  0.])
    """
    if density >= 1 or delta.numel() == 0:
        return delta.clone()
    threshold = _magnitude_of_rank(delta, max(1, int(density * delta.numel())))
    return delta.masked_fill(delta.abs() < threshold, 0)


def _magnitude_of_rank(delta: Tensor, rank: int) -> Tensor:
    """The `rank`-th largest magnitude in `delta` (1 is the largest), exactly; a tensor of no dimensions.

    Counting the upper half of the bits leaves few candidates to order, which takes a fraction of the time and memory
    of a sort or of kthvalue over everything.
    """
    if delta.dtype != torch.float32:
        return delta.abs().flatten().kthvalue(delta.numel() - rank + 1).values
    pieces = delta.contiguous().view(-1).view(torch.int32).split(_PIECE)
    counts = torch.zeros(_UPPER_HALVES, dtype=torch.int64, device=delta.device)
    for piece in pieces:
        # Without their sign bit, the bits of floats order as the floats do.
        counts += torch.bincount((piece & _MAGNITUDE) >> 16, minlength=_UPPER_HALVES)
    at_least = counts.flip(0).cumsum(0).flip(0)
    half = int((at_least >= rank).sum()) - 1
    larger = int(at_least[half] - counts[half])
    candidates = torch.cat([(piece & _MAGNITUDE)[(piece & _MAGNITUDE) >> 16 == half] for piece in pieces])
    bits = candidates.kthvalue(candidates.numel() - (rank - larger) + 1).values
    return bits.view(torch.float32)


def keep_random(delta: Tensor, density: float, *, rescale: bool, seed: int) -> Tensor:
    """`delta` with each entry kept with probability `density`. DARE, https://arxiv.org/abs/2311.03099 §3.1.

    `rescale` brings the sum of magnitudes back to that of `delta` (the paper divides by `density`, which does so in
    expectation). The mask depends on `seed` and the shape alone, and a lower density keeps a subset of what a higher
    one keeps. Returns a new tensor of the same shape.
    """
    if density >= 1:
        return delta.clone()
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(delta.shape, generator=generator, dtype=torch.float32) < density
    kept = delta * mask.to(delta.device)
    if rescale:
        remaining = kept.abs().sum()
        if float(remaining) > 0:
            kept *= delta.abs().sum() / remaining
    return kept


def mask_seed(seed: int, tensor_name: str, model: int) -> int:
    """The seed of one tensor's random mask: a function of these three, never of the order of work."""
    digest = hashlib.sha256(f"{seed}\n{tensor_name}\n{model}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # manual_seed takes 63 bits
