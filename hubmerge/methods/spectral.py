"""Methods that look at the singular vectors of what each model learnt.

TSV-M: Gargiulo et al. 2024, "Task singular vectors", https://arxiv.org/abs/2412.00081. Iso-C and Iso-CTS: Marczak et
al. 2025, "No task left behind: isotropic model merging", https://arxiv.org/abs/2502.04959. KnOTS: Stoica et al. 2024,
"Model merging with SVD to tie the knots", https://arxiv.org/abs/2410.19735.

Vectors, and all that is no matrix, have no singular vectors: the papers average them. Directions in which nothing was
learnt but by rounding are left out; a decomposition of all fills them in as chance has it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .blocks import Block, Blocks, Whole, each
from .products import Changes, Of, inverse_root, largest, of_model, of_sum, orthogonal, slices
from .sparsify import deltas
from .task_vectors import ties, ties_cuts

Rows = Callable[[Block], Tensor]
"""Gives the rows of a block of the merged change."""

SVD = tuple[Tensor, Tensor, Tensor]
"""U (rows, r), the singular values (r) in descending order, and V transposed (r, columns)."""


def tsv_m(block: Block, *, measured: Rows | None, weight: Sequence[float], lambda_: float) -> Tensor:
    """Of each model the singular vectors of the largest values, a share of the rank each, made orthogonal (Alg. 1)."""
    return _moved(block, measured, weight, lambda_)


def tsv_rows(blocks: Blocks, *, weight: Sequence[float], **_: object) -> Rows | None:
    """What TSV-M adds to the base."""
    if (changes := slices(blocks)) is None:
        return None
    values, left, right = list[Tensor](), list[Tensor](), list[Tensor]()
    for model, w in enumerate(weight):
        if not bool((square := changes.square(of_model(model))).isfinite().all()):
            return None
        found, vectors = largest(square, max(1, changes.side // len(weight)))
        values.append(found * w)
        left.append(vectors / found)
        right.append(vectors)

    def vectors_of(some: Changes) -> Tensor:
        return torch.cat([one.double() @ by for one, by in zip(some, left, strict=True)], 1)

    by = inverse_root(changes.square(vectors_of)) * torch.cat(values)
    return changes.merged(vectors_of, by @ orthogonal(torch.cat(right, 1)).T)


def iso_c(block: Block, *, measured: Rows | None, weight: Sequence[float], lambda_: float) -> Tensor:
    """The weighted sum of changes with all its singular values replaced by their mean (§4.1)."""
    return _moved(block, measured, weight, lambda_)


def iso_c_rows(blocks: Blocks, *, weight: Sequence[float], **_: object) -> Rows | None:
    """What Iso-C adds to the base."""
    if (changes := slices(blocks)) is None:
        return None
    if not bool((square := changes.square(of_sum(weight))).isfinite().all()):
        return None
    values, vectors = largest(square, changes.side)
    return changes.merged(of_sum(weight), vectors / values @ vectors.T * (values.sum() / changes.side))


def iso_cts(block: Block, *, measured: Rows | None, weight: Sequence[float], common: float, lambda_: float) -> Tensor:
    """As Iso-C, the sum's last singular vectors replaced by each model's own outside of what is common (Alg. 2)."""
    return _moved(block, measured, weight, lambda_)


def iso_cts_rows(blocks: Blocks, *, weight: Sequence[float], common: float, **_: object) -> Rows | None:
    """What Iso-CTS adds to the base."""
    if (changes := slices(blocks)) is None:
        return None
    if not bool((square := changes.square(of_sum(weight))).isfinite().all()):
        return None
    own = int((1 - common) * changes.side) // len(weight)
    values, vectors = largest(square, changes.side - own * len(weight))
    shared = _times(of_sum(weight), vectors / values)
    lengths, right = values.sum(), [vectors]
    alone: list[tuple[Of, Tensor, Tensor]] = []
    for model, w in enumerate(weight) if own else ():
        of = of_model(model, w)
        # What is outside of the directions of the rows, which are the shorter side of a wide matrix.
        inside = vectors @ vectors.T if changes.is_wide else changes.product(shared, of)
        outside = _less(of, of if changes.is_wide else shared, inside)
        values, found = largest(changes.square(outside), own)
        alone.append((of, found / values, inside @ (found / values)))
        lengths += values.sum()
        right.append(found)

    def vectors_of(some: Changes) -> Tensor:
        first = shared(some)
        parts = ((of(some), by, less) for of, by, less in alone)
        return torch.cat(
            [first, *(one @ by - (one if changes.is_wide else first) @ less for one, by, less in parts)], 1
        )

    by = inverse_root(changes.square(vectors_of)) @ orthogonal(torch.cat(right, 1)).T
    return changes.merged(vectors_of, by * (lengths / changes.side))


def _times(of: Of, matrix: Tensor) -> Of:
    return lambda some: of(some) @ matrix


def _less(of: Of, other: Of, matrix: Tensor) -> Of:
    return lambda some: of(some).sub_(other(some) @ matrix)


def knots_ties(
    block: Block, *, weight: Sequence[float], density: Sequence[float], normalize: bool, lambda_: float
) -> Tensor:
    """TIES in the coordinates that all changes share: the right singular vectors of the changes side by side (§4)."""
    changes = matrices(block)
    if changes is None:
        return add(block, _ties(deltas(block), density, weight, normalize), lambda_)
    side_by_side = torch.cat(changes, dim=1)
    left, values, right = svd(side_by_side)
    # Directions that only rounding gave a length would count as much as any other.
    there = ~(values <= values[0] * max(side_by_side.shape) * torch.finfo(torch.float32).eps)
    left, values, right = left[:, there], values[there], right[there]
    parts = [part.contiguous() for part in right.split(changes[0].shape[1], dim=1)]
    return add(block, (left * values) @ _ties(parts, density, weight, normalize), lambda_)


def matrices(block: Block) -> list[Tensor] | None:
    """What each model learnt, as matrices, in place of the models; None where there is none, or one is not finite."""
    shape, tensors = block.shape, [*block.tensors, *([] if block.base is None else [block.base])]
    if len(shape) != 2 or min(shape) < 2 or not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        return None
    return [delta.view(shape) for delta in deltas(block)]


def svd(matrix: Tensor) -> SVD:
    """The singular value decomposition; in float64 where float32 does not converge, or overflows."""
    try:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        there = bool(values.isfinite().all())
    except torch.linalg.LinAlgError:
        there = False
    if not there:
        left, values, right = (part.float() for part in torch.linalg.svd(matrix.double(), full_matrices=False))
    return left, values, right


def weighted_sum(changes: Sequence[Tensor], weight: Sequence[float]) -> Tensor:
    """The sum of the weighted changes, new."""
    total = torch.zeros_like(changes[0])
    for change, w in zip(changes, weight, strict=True):
        total.add_(change, alpha=w)
    return total


def add(block: Block, change: Tensor, scale: float) -> Tensor:
    """The base with a change on top."""
    assert block.base is not None
    return block.base.add_(change.reshape(-1), alpha=scale)


def _moved(block: Block, rows: Rows | None, weight: Sequence[float], scale: float) -> Tensor:
    """The base with rows of the merged change on top, or, where there are none, as `add_mean`."""
    return add_mean(block, weight, scale) if rows is None else add(block, rows(block).float(), scale)


def add_mean(block: Block, weight: Sequence[float], scale: float) -> Tensor:
    """The base with the mean of the weighted changes on top."""
    assert block.base is not None
    for delta, w in zip(deltas(block), weight, strict=True):
        block.base.add_(delta, alpha=scale * w / len(weight))
    return block.base


def _ties(vectors: Sequence[Tensor], density: Sequence[float], weight: Sequence[float], normalize: bool) -> Tensor:
    """TIES of tensors in memory, of their shape."""
    blocks = Whole(vectors, torch.zeros_like(vectors[0]))
    measured = ties_cuts(blocks, density=density)
    merged = torch.empty_like(vectors[0])
    for part in each(blocks):
        count = part.tensors[0].numel()
        flat = ties(part, measured=measured, weight=weight, normalize=normalize, lambda_=1.0)
        merged.view(-1)[part.start :][:count].copy_(flat)
    return merged
