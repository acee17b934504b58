"""Model Stock: how far to go from the base to the mean, from the angle between task vectors.

Jang et al. 2024, "Model Stock: all we need is just a few fine-tuned models", https://arxiv.org/abs/2403.19522.
"""

import torch
from torch import Tensor

from .blocks import Block, Blocks
from .gram import learnt, products, row_products
from .linear import NEARLY_ZERO


def stock_shares(blocks: Blocks, *, filter_wise: bool) -> Tensor:
    """How far to go, one number, or (`filter_wise`) one a row: N cos / (1 + (N - 1) cos), paper, equation 5.

    `cos` is the mean over all pairs of task vectors; one that is 0 is at a right angle to all.
    """
    inner = row_products(blocks) if filter_wise else torch.from_numpy(products(blocks))[:, :, None]
    count = len(inner)
    lengths = inner.diagonal().T.sqrt()
    both = lengths[:, None] * lengths[None]
    cosines = torch.where(both > 0, inner / torch.where(both > 0, both, 1.0), 0.0)
    cosine = (cosines.sum((0, 1)) - cosines.diagonal().sum(1)) / (count * (count - 1))
    below = 1 + (count - 1) * cosine
    return torch.where(below.abs() < NEARLY_ZERO, 0.0, count * cosine / torch.where(below == 0, 1.0, below))


def model_stock(block: Block, *, measured: Tensor, filter_wise: bool) -> Tensor:
    """From the base towards the mean of the models."""
    assert block.base is not None
    first, *others = learnt(block)
    for vector in others:
        first.add_(vector)
    if not filter_wise:
        return block.base.add_(first, alpha=float(measured) / len(block.tensors))
    shares = (measured[block.rows] / len(block.tensors)).to(torch.float32)
    first.view(-1, block.columns).mul_(shares[:, None])
    return block.base.add_(first)
