"""Orthogonal matching pursuit: a vector as the sum of a few given ones, found one after another.

Each round takes the vector whose direction fits best what is still missing, then fits all taken so far anew (Pati et
al. 1993). For new tokens: Goddard and Neto 2025, https://arxiv.org/abs/2506.06607.

>>> atoms = torch.eye(4) * torch.tensor([1.0, 2.0, 3.0, 4.0])
>>> chosen, shares = pursue(atoms, torch.tensor([[0.0, 1.0, 0.0, 8.0]]), 2)
>>> chosen.tolist(), shares.tolist()
([[3, 1]], [[2.0, 0.5]])
"""

import torch
from torch import Tensor

_PIECE = 1 << 22
"""Elements of the given vectors that are compared at a time."""

_DONE = 1e-6
"""Of a vector's length: what is missing by less is the rounding of float32."""


def pursue(atoms: Tensor, targets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which of `atoms` (n, d) make each of `targets` (m, d), at most `count` of them, and how much of each.

    Returns places (m, count) and shares (m, count) in float64; a share is 0 where fewer are enough. A target's result
    depends on no other target but for how a matrix product rounds, which goes by m.
    """
    targets = targets.to(torch.float32)
    rows, width = targets.shape
    count = min(count, len(atoms), width)
    chosen = torch.zeros(rows, count, dtype=torch.long)
    basis = torch.zeros(rows, count, width)
    upper = torch.eye(count, dtype=torch.float64).repeat(rows, 1, 1)
    parts = torch.zeros(rows, count, dtype=torch.float64)
    rest, least = targets.clone(), targets.norm(dim=1) * _DONE
    lengths = _lengths(atoms)
    for step in range(count):
        open_ = (rest.norm(dim=1) > least).nonzero().flatten()
        if not len(open_):
            break
        best = _best(atoms, lengths, rest[open_], chosen[open_, :step])
        found = atoms[best].to(torch.float32)
        before = basis[open_, :step]
        across = torch.zeros(len(open_), step, dtype=torch.float64)
        for _ in range(2):  # once more: what rounding leaves of the others
            shares = torch.einsum("rsw,rw->rs", before, found)
            found -= torch.einsum("rs,rsw->rw", shares, before)
            across += shares
        length = found.norm(dim=1)
        # One that lies in the span of those before adds nothing: it is left out, and so is all that would follow.
        new = length > lengths[best] * _DONE
        open_, best, found, length, across = open_[new], best[new], found[new], length[new], across[new]
        found /= length[:, None]
        share = (rest[open_] * found).sum(1)
        chosen[open_, step], basis[open_, step] = best, found
        upper[open_, :step, step], upper[open_, step, step] = across, length.double()
        parts[open_, step] = share.double()
        rest[open_] -= share[:, None] * found
        least[torch.ones(rows, dtype=torch.bool).index_fill_(0, open_, False)] = torch.inf
    return chosen, torch.linalg.solve_triangular(upper, parts[..., None], upper=True)[..., 0]


def memory(width: int, count: int, rows: int) -> int:
    """Bytes that this takes for so many targets, beside the vectors themselves."""
    count = min(count, width)
    return rows * (4 * width * (count + 6) + 8 * count * (count + 4)) + 4 * (2 * _PIECE + rows * _PIECE // width)


def _lengths(atoms: Tensor) -> Tensor:
    step = max(1, _PIECE // atoms.shape[1])
    return torch.cat([part.to(torch.float32).norm(dim=1) for part in atoms.split(step)])


def _best(atoms: Tensor, lengths: Tensor, rest: Tensor, taken: Tensor) -> Tensor:
    """Of each row of `rest`: the place of the atom whose direction fits best, but for those `taken`."""
    value, place = torch.full((len(rest),), -1.0), torch.zeros(len(rest), dtype=torch.long)
    step = max(1, _PIECE // atoms.shape[1])
    for first in range(0, len(atoms), step):
        part = atoms[first : first + step].to(torch.float32)
        fits = (rest @ part.T).abs_().div_(lengths[first : first + step].clamp(min=torch.finfo(torch.float32).tiny))
        inside = (taken >= first) & (taken < first + len(part))
        where = inside.nonzero()
        fits[where[:, 0], taken[inside] - first] = -1.0
        better, at = fits.max(1)
        more = better > value
        value, place = torch.where(more, better, value), torch.where(more, at + first, place)
    return place
