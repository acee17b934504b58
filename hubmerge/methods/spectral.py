"""Methods that look at the singular vectors of what each model learnt: one whole matrix at a time.

TSV-M: Gargiulo et al. 2024, "Task singular vectors", https://arxiv.org/abs/2412.00081. Iso-C and Iso-CTS: Marczak et
al. 2025, "No task left behind: isotropic model merging", https://arxiv.org/abs/2502.04959. KnOTS: Stoica et al. 2024,
"Model merging with SVD to tie the knots", https://arxiv.org/abs/2410.19735.

Vectors, and all that is no matrix, have no singular vectors: the papers average them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .blocks import Block, Whole, each
from .sparsify import deltas
from .task_vectors import ties, ties_cuts

SVD = tuple[Tensor, Tensor, Tensor]
"""U (rows, r), the singular values (r) in descending order, and V transposed (r, columns)."""


def tsv_m(block: Block, *, weight: Sequence[float], lambda_: float) -> Tensor:
    """Of each model the singular vectors of the largest values, a share of the rank each, made orthogonal (Alg. 1)."""
    changes = matrices(block)
    if changes is None:
        return add_mean(block, weight, lambda_)
    kept = max(1, min(changes[0].shape) // len(changes))
    parts = [top(svd(change), kept) for change in changes]
    values = torch.cat([part[1] * w for part, w in zip(parts, weight, strict=True)])
    left, right = (orthogonal(torch.cat([part[side] for part in parts], at)) for side, at in ((0, 1), (2, 0)))
    return add(block, (left * values) @ right, lambda_)


def iso_c(block: Block, *, weight: Sequence[float], lambda_: float) -> Tensor:
    """The weighted sum of changes with all its singular values replaced by their mean (§4.1)."""
    changes = matrices(block)
    if changes is None:
        return add_mean(block, weight, lambda_)
    left, values, right = svd(weighted_sum(changes, weight))
    return add(block, left @ right, lambda_ * float(values.double().mean()))


def iso_cts(block: Block, *, weight: Sequence[float], common: float, lambda_: float) -> Tensor:
    """As Iso-C, the sum's last singular vectors replaced by each model's own outside of what is common (Alg. 2)."""
    changes = matrices(block)
    if changes is None:
        return add_mean(block, weight, lambda_)
    changes = [change.mul_(w) for change, w in zip(changes, weight, strict=True)]
    rank = min(changes[0].shape)
    own = int((1 - common) * rank) // len(changes)
    shared = top(svd(weighted_sum(changes, [1.0] * len(changes))), rank - own * len(changes))
    parts = [shared]
    if own:
        for change in changes:
            parts.append(top(svd(change.sub_(shared[0] @ (shared[0].T @ change))), own))
    left, right = (orthogonal(torch.cat([part[side] for part in parts], at)) for side, at in ((0, 1), (2, 0)))
    return add(block, left @ right, lambda_ * float(torch.cat([part[1] for part in parts]).double().mean()))


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


def top(parts: SVD, count: int) -> SVD:
    """The first of the singular vectors, and their values, in memory of their own."""
    left, values, right = parts
    return left[:, :count].clone(), values[:count].clone(), right[:count].clone()


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns."""
    left, _, right = svd(matrix)
    return left @ right


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
