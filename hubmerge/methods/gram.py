"""Inner products of the models' tensors: all that methods on the sphere and Model Stock need to know of them.

A mean on a sphere lies in the span of the vectors it is a mean of, so one pass that gives their inner products is
enough to find it; a second pass adds up the vectors.
"""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import Block, Blocks, each
from .sparsify import Vectors

_RUN = 1 << 15
"""Numbers that float32 adds up: over more it loses its last digits."""
_LEAST = 1e-30

Products = NDArray[np.float64]
"""Inner products of all pairs, (n, n)."""


def learnt(block: Block) -> list[Tensor]:
    """The task vectors where there is a base, else the models: in place of the models."""
    return block.tensors if block.base is None else [tensor.sub_(block.base) for tensor in block.tensors]


def products(blocks: Blocks, vectors: Vectors = learnt) -> Products:
    """The inner products of the whole tensors, in float64."""
    found: Products | None = None
    for block in each(blocks):
        flat = vectors(block)
        found = np.zeros((len(flat), len(flat))) if found is None else found
        for i, j in combinations_with_replacement(range(len(flat)), 2):
            found[i, j] += sum(dot(x, y) for x, y in zip(flat[i].split(_RUN), flat[j].split(_RUN), strict=True))
    if found is None:
        count = len(blocks.read(0, 0).tensors)
        found = np.zeros((count, count))
    return np.triu(found) + np.triu(found, 1).T


def dot(a: Tensor, b: Tensor) -> float:
    """The inner product; in float64 where the squares of float32 overflow or underflow (numbers of 1e30, or 1e-30)."""
    found = float(torch.dot(a, b))
    return found if _LEAST < abs(found) < math.inf else float(torch.dot(a.double(), b.double()))


def row_products(blocks: Blocks, vectors: Vectors = learnt) -> Tensor:
    """The inner products of each row, (n, n, rows), float64, for blocks of whole rows."""
    found: list[Tensor] = []
    for block in each(blocks):
        rows = [vector.view(-1, block.columns) for vector in vectors(block)]
        part = torch.empty(len(rows), len(rows), rows[0].shape[0], dtype=torch.float64, device=rows[0].device)
        for i, j in combinations_with_replacement(range(len(rows)), 2):
            found_here = torch.linalg.vecdot(rows[i], rows[j])
            if not bool(found_here.isfinite().all()):  # as in `dot`
                found_here = torch.linalg.vecdot(rows[i].double(), rows[j].double())
            part[i, j] = part[j, i] = found_here
        found.append(part)
    count = len(blocks.read(0, 0).tensors)
    return torch.cat(found, dim=2) if found else torch.zeros(count, count, 0, dtype=torch.float64)


def add_up(block: Block, vectors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The sum of shares of the vectors, on top of the base where there is one. Overwrites them."""
    if block.base is not None:
        result = block.base
        for vector, share in zip(vectors, shares, strict=True):
            result.add_(vector, alpha=share)
        return result
    first, *others = vectors
    result = first.mul_(shares[0])
    for vector, share in zip(others, shares[1:], strict=True):
        result.add_(vector, alpha=share)
    return result
