"""Between two models along an arc.

SLERP: Shoemake 1985, "Animating rotation with quaternion curves", SIGGRAPH '85. NuSLERP is the same between task
vectors where there is a base, with weights in place of t, and on request for each row or column on its own. With a
split point: Abrantes et al. 2025, "Competition and attraction improve model fusion" (M2N2),
https://arxiv.org/abs/2508.16204, §3.1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .blocks import Block, Blocks, each
from .gram import add_up, dot, learnt, products, row_products
from .linear import NEARLY_ZERO

# Above this cosine the arc is straight to float32 precision, and sin(angle) too small to divide by.
NEARLY_PARALLEL = 0.9995

# The same for NuSLERP, which follows an arc as long as rounded products tell that there is one.
_PARALLEL = 1 - 1e-6

Shares = tuple[float, float] | None
"""How much of the base and of the other goes in; None where the arc between them is straight."""


def slerp_shares(blocks: Blocks, *, t: float) -> Shares:
    """The shares on the arc; the angle is that of the whole tensors as flat vectors, lengths are not normalised."""
    across = base_square = other_square = 0.0
    for block in each(blocks):
        base, other = block.base, block.tensors[0]
        assert base is not None
        across += dot(base, other)
        base_square += dot(base, base)
        other_square += dot(other, other)
    return _shares((across, base_square, other_square), t)


def _shares(products: Sequence[float], t: float) -> Shares:
    """The shares from the inner products of the base with the other, with itself, and of the other with itself."""
    across, base_square, other_square = products
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


def split_shares(blocks: Blocks, *, t: float, split: float, place: tuple[float, float]) -> tuple[int, Shares, Shares]:
    """Where in this tensor the split lies, and the shares on the arcs before and after it.

    `place`: the shares of the model's elements that come before this tensor, and before its end.
    """
    begin, end = place
    at = round(min(max((split - begin) / (end - begin), 0.0), 1.0) * blocks.elements) if end > begin else 0
    sums = [[0.0] * 3, [0.0] * 3]
    for block in each(blocks):
        base, other = block.base, block.tensors[0]
        assert base is not None
        cut = min(max(at - block.start, 0), base.numel())
        for found, part in zip(sums, (slice(0, cut), slice(cut, None)), strict=True):
            a, b = base[part], other[part]
            for number, (x, y) in enumerate(((a, b), (a, a), (b, b))):
                found[number] += dot(x, y)
    before, after = sums
    return at, _shares(before, t), _shares(after, 1 - t)


def split_slerp(block: Block, *, t: float, measured: tuple[int, Shares, Shares], **_: object) -> Tensor:
    """SLERP at `t` before the split, and at 1 - t behind it."""
    at, *both = measured
    assert block.base is not None
    cut = min(max(at - block.start, 0), block.base.numel())
    for part, shares, along in zip((slice(0, cut), slice(cut, None)), both, (t, 1 - t), strict=True):
        base, other = block.base[part], block.tensors[0][part]
        if shares is None:
            base.lerp_(other, along)
        else:
            base.mul_(shares[0]).add_(other, alpha=shares[1])
    return block.base


def nuslerp_shares(blocks: Blocks, *, weight: Sequence[float], nuslerp_flatten: bool, nuslerp_row_wise: bool) -> Tensor:
    """How much of the one and of the other goes in: (2, 1), or (2, vectors) where each row or column has its own."""
    total = weight[0] + weight[1]
    t = weight[1] / total if abs(total) > NEARLY_ZERO else 0.5
    if nuslerp_flatten:
        inner = torch.from_numpy(products(blocks))[:, :, None]
    elif nuslerp_row_wise:
        inner = _column_products(blocks)
    else:
        inner = row_products(blocks)
    lengths = inner.diagonal().T.sqrt()
    norms = lengths[0] * lengths[1]
    # A vector of zeros is at a right angle to all.
    cosine = torch.where(norms > 0, inner[0, 1] / torch.where(norms > 0, norms, 1.0), 0.0).clamp(-1, 1)
    straight = cosine.abs() > _PARALLEL
    angle = torch.where(straight, 1.0, cosine.acos())
    first = torch.where(straight, 1 - t, ((1 - t) * angle).sin() / angle.sin())
    second = torch.where(straight, t, (t * angle).sin() / angle.sin())
    return torch.stack([first, second])


def nuslerp(block: Block, *, measured: Tensor, nuslerp_flatten: bool, nuslerp_row_wise: bool, **_: object) -> Tensor:
    """Between two models, or on top of the base between what they learnt, along the arc between their directions."""
    vectors = learnt(block)
    if nuslerp_flatten:
        return add_up(block, vectors, measured.flatten().tolist())
    shares = measured.to(torch.float32)
    for vector, share in zip(vectors, shares, strict=True):
        if nuslerp_row_wise:
            _by_column(block, vector, share)
        else:
            vector.view(-1, block.columns).mul_(share[block.rows][:, None])
    return add_up(block, vectors, (1.0, 1.0))


def _column_products(blocks: Blocks) -> Tensor:
    """The inner products of vectors along the first dimension, (2, 2, vectors), float64."""
    width = math.prod(blocks.shape[1:])
    found: Tensor | None = None
    for block in each(blocks):
        vectors = learnt(block)
        if found is None:
            found = torch.zeros(2, 2, width, dtype=torch.float64, device=vectors[0].device)
        for i, j in ((0, 0), (0, 1), (1, 1)):
            product = torch.mul(vectors[i], vectors[j], out=block.empty())
            if not bool(product.isfinite().all()):
                product = vectors[i].double() * vectors[j].double()
            for columns, part in _runs(block, product, width):
                found[i, j, columns] += part.view(-1, columns.stop - columns.start).sum(0, dtype=torch.float64)
    found = torch.zeros(2, 2, width, dtype=torch.float64) if found is None else found
    found[1, 0] = found[0, 1]
    return found


def _by_column(block: Block, vector: Tensor, shares: Tensor) -> None:
    for columns, part in _runs(block, vector, shares.numel()):
        part.view(-1, columns.stop - columns.start).mul_(shares[columns])


def _runs(block: Block, vector: Tensor, width: int) -> list[tuple[slice, Tensor]]:
    """A block's elements as runs over columns of a matrix of that width: parts of rows at its ends, rows between."""
    count, first = vector.numel(), block.start % width
    head = min(count, (width - first) % width)
    whole = (count - head) // width * width
    cut = [(slice(first, first + head), 0, head), (slice(0, width), head, head + whole)]
    cut.append((slice(0, count - head - whole), head + whole, count))
    return [(columns, vector[start:stop]) for columns, start, stop in cut if start < stop]
