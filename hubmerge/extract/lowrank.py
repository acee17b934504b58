"""The best product of two thin matrices for one difference: its largest singular values, Eckart and Young 1936.

Few of them are found by subspace iteration from a random start (Halko et al. 2011, https://arxiv.org/abs/0909.4061,
algorithm 4.4), repeated until what they hold of the difference no longer grows; many by the eigenvalues of its Gram
matrix in float64, which has them all.

>>> first, second = torch.randn(40, 3), torch.randn(3, 50)
>>> found = low_rank(first @ second, rank=8, energy=None, seed=0)
>>> found.left.shape, found.right.shape, round(found.energy, 3)
(torch.Size([40, 3]), torch.Size([3, 50]), 1.0)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_SPARE = 16
"""Directions that are followed beside those wanted: without them the last ones come out poorly."""

_GROWTH = 1e-5
"""Of the whole: where a round finds no more than this, the next ones are not worth their time."""

_ROUNDS = 40
_FEW = 1 / 4
"""Of all directions: more are found at once."""

_NOTHING = 1e-6
"""Of the largest singular value: what is smaller is the rounding of float32."""


@dataclass(frozen=True)
class LowRank:
    """`left` (rows, r) times `right` (r, columns), in float32; each has the square roots of the singular values.

    `norm`: of the difference. `energy`: which share of its square they hold, 0..1.
    """

    left: Tensor
    right: Tensor
    norm: float
    energy: float

    @property
    def rank(self) -> int:
        """r."""
        return self.left.shape[1]

    @property
    def error(self) -> float:
        """What is lost, as a share of the difference's norm."""
        return max(0.0, 1.0 - self.energy) ** 0.5


def low_rank(difference: Tensor, *, rank: int | None, energy: float | None, seed: int) -> LowRank | None:
    """The product of rank `rank`, or of the lowest one that holds the share `energy` and at most `rank` beside.

    difference: (rows, columns), float32, on any device; what is found is on the CPU. None for one that is zero.
    """
    total = _square(difference)
    if total == 0:
        return None
    least = min(difference.shape)
    most = least if rank is None else min(rank, least)
    wanted = most if energy is None else min(most, 32)
    while True:
        left, values, right = _largest(difference, wanted, seed)
        held = (values**2).cumsum(0) / total
        if energy is None or wanted == most or float(held[-1]) >= energy:
            break
        wanted = min(most, 2 * wanted)
    keep = int((values > _NOTHING * values[0]).sum())
    if energy is not None:
        keep = min(keep, int((held < energy).sum()) + 1)
    roots = values[:keep].sqrt()
    return LowRank(
        (left[:, :keep] * roots).to("cpu", torch.float32),
        (roots[:, None] * right[:keep]).to("cpu", torch.float32),
        total**0.5,
        min(1.0, float(held[keep - 1])),
    )


def memory(shape: tuple[int, ...], rank: int | None) -> int:
    """Bytes that factoring a difference of this shape takes, itself included."""
    rows, columns = shape
    least = min(shape)
    width = least if rank is None else min(least, rank + _SPARE)
    # All of them: the Gram matrix in float64, its eigenvectors, and what finding them takes.
    many = 8 * 5 * least**2 if rank is None or _is_many(width, least) else 0
    return 4 * rows * columns + 4 * 6 * width * (rows + columns) + many


def _is_many(width: int, least: int) -> bool:
    return width > least * _FEW or least < 8 * _SPARE


def _largest(difference: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` largest singular values with their vectors, in float64: (rows, count), (count,), (count, columns)."""
    least = min(difference.shape)
    width = min(least, count + _SPARE)
    if difference.shape[0] > difference.shape[1]:
        right, values, left = _largest(difference.T, count, seed)
        return left.T, values, right.T
    if _is_many(width, least):
        return _all(difference, count)
    start = torch.randn(difference.shape[1], width, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(difference @ start.to(difference.device)).Q
    found, total = 0.0, _square(difference)
    for _ in range(_ROUNDS):
        rows = torch.linalg.qr(difference.T @ basis).Q
        image = difference @ rows
        basis, small = torch.linalg.qr(image)
        before, found = found, float((torch.linalg.svdvals(small)[:count].double() ** 2).sum())
        if found - before <= _GROWTH * total:
            break
    u, values, v = torch.linalg.svd((basis.T @ difference).double(), full_matrices=False)
    return (basis.double() @ u)[:, :count], values[:count], v[:count]


def _all(difference: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `_largest`, where there are not more rows than columns, out of all of them."""
    rows, columns = difference.shape
    gram = torch.zeros(rows, rows, dtype=torch.float64, device=difference.device)
    step = max(1, (1 << 22) // rows)
    for first in range(0, columns, step):  # never all of it in float64
        part = difference[:, first : first + step].double()
        gram.addmm_(part, part.T)
    squares, vectors = torch.linalg.eigh(gram)
    values, left = squares.flip(0)[:count].clamp(min=0).sqrt(), vectors.flip(1)[:, :count]
    right = left.T.to(torch.float32) @ difference
    return left, values, right.double() / values.clamp(min=1e-300)[:, None]


def _square(matrix: Tensor) -> float:
    """The sum of squares, in float64."""
    return sum(float(row.double().square().sum()) for row in matrix.split(max(1, (1 << 20) // matrix.shape[1])))
