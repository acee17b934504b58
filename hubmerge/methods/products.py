"""What models learnt of a matrix, in slices along its longer side, and products of them: squares of its shorter side.

The singular values of a matrix are the roots of the eigenvalues of its Gram matrix, its right singular vectors are the
eigenvectors, and its left ones are the matrix times these. So methods of singular vectors hold squares of the shorter
side, whatever the longer one is. Everything is in float64: a value below 1e-7 of the largest is lost in its square, and
float32 loses it just so without.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .blocks import Block, Blocks
from .method import SLICE
from .sparsify import deltas

Changes = list[Tensor]
"""A slice of what each model learnt: (length, shorter side) each, float32."""

Of = Callable[[Changes], Tensor]
"""What a slice of changes is made into: (length, n), float64."""


class Slices:
    """What models learnt of a matrix, which can be gone through repeatedly.

    A matrix with more columns than rows is held, `whole`, of each model; others are read, by rows.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.rows, self.columns = blocks.shape
        self.side = min(blocks.shape)
        self._blocks = blocks
        self.whole: Changes = []
        row = 0
        for some in self._read() if self.is_wide else ():
            self.whole = self.whole or [one.new_empty(blocks.shape) for one in some]
            for whole, one in zip(self.whole, some, strict=True):
                whole[row : row + len(one)] = one
            row += len(some[0])

    @property
    def is_wide(self) -> bool:
        """Whether its columns are the longer side."""
        return self.columns > self.rows

    def __iter__(self) -> Iterator[Changes]:
        if not self.is_wide:
            yield from self._read()
            return
        width = max(1, SLICE // self.rows)
        for start in range(0, self.columns, width):
            yield [one[:, start : start + width].T for one in self.whole]

    def square(self, of: Of) -> Tensor:
        """The Gram matrix: its transpose times it."""
        return self._product(lambda some: (one := of(some), one))

    def product(self, left: Of, right: Of) -> Tensor:
        """The transpose of the one times the other."""
        return self._product(lambda some: (left(some), right(some)))

    def merged(self, of: Of, by: Tensor) -> Callable[[Block], Tensor]:
        """What gives the rows of a block of the matrix `of(...) @ by`, (rows, columns), float64 or float32."""
        if not self.is_wide:
            return lambda block: of(_matrices(block)) @ by
        found = self.whole[0].new_empty(self.rows, self.columns)
        start = 0
        for some in self:
            made = (of(some) @ by).T
            found[:, start : start + made.shape[1]] = made
            start += made.shape[1]
        return lambda block: found[block.rows]

    def _product(self, of: Callable[[Changes], tuple[Tensor, Tensor]]) -> Tensor:
        found: Tensor | None = None
        for left, right in map(of, self):
            found = left.new_zeros(left.shape[1], right.shape[1]) if found is None else found
            found.addmm_(left.T, right)
        assert found is not None
        return found

    def _read(self) -> Iterator[Changes]:
        step = max(1, SLICE // self.columns) * self.columns
        for start in range(0, self._blocks.elements, step):
            yield _matrices(self._blocks.read(start, min(start + step, self._blocks.elements)))


def slices(blocks: Blocks) -> Slices | None:
    """The slices of what models learnt; None of what is no matrix, or where a number is not finite."""
    if len(blocks.shape) != 2 or min(blocks.shape) < 2:
        return None
    return Slices(blocks)


def of_model(model: int, weight: float = 1.0) -> Of:
    """What one of the models learnt, weighted."""
    return lambda some: some[model].double().mul_(weight)


def of_sum(weight: Sequence[float]) -> Of:
    """The weighted sum of what all learnt."""

    def added(some: Changes) -> Tensor:
        found = torch.zeros_like(some[0], dtype=torch.float64)
        for one, w in zip(some, weight, strict=True):
            found.add_(one, alpha=w)
        return found

    return added


def largest(square: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of a matrix with this Gram matrix the largest singular values (k) and their right vectors (side, k), `count` of
    them at most: none that only rounding gave a length. Overwrites the Gram matrix."""
    squares, vectors = torch.linalg.eigh(square)
    least = squares[-1:].clamp(min=0) * len(squares) * torch.finfo(squares.dtype).eps
    count = min(count, int((squares > least).sum()))
    first = len(squares) - count
    return squares[first:].flip(0).sqrt_(), vectors[:, first:].flip(1)


def inverse_root(square: Tensor) -> Tensor:
    """Times which a matrix with this Gram matrix has orthonormal columns, and is the nearest such one."""
    values, vectors = largest(square, len(square))
    return (vectors / values) @ vectors.T


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns."""
    return matrix @ inverse_root(matrix.T @ matrix)


def _matrices(block: Block) -> Changes:
    return [delta.view(-1, block.columns) for delta in deltas(block)]
