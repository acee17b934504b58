"""Consensus merging: of the summed task vectors only what several models want.

Wang et al. 2024, "Localizing task information for improved model merging and compression",
https://arxiv.org/abs/2405.07813.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .blocks import Block
from .sparsify import deltas


def consensus_ta(block: Block, *, weight: Sequence[float], tall: float, agreement: float, lambda_: float) -> Tensor:
    """Task arithmetic where at least `agreement` models have the entry in their TALL mask, else the base.

    An entry is in a model's mask where its change is at least `tall` times what all others add to it (equation 4): who
    alone wants an entry is selfish, and one that nobody wants is catastrophic; both are left out (§4.2).
    """
    assert block.base is not None
    total, votes, others, own = block.empty().zero_(), block.empty().zero_(), block.empty(), block.empty()
    changes = [delta.mul_(w) for delta, w in zip(deltas(block), weight, strict=True)]
    for change in changes:
        total += change
    for change in changes:
        torch.sub(total, change, out=others).abs_().mul_(tall)
        torch.abs(change, out=own)
        votes += own.ge_(others)
    return block.base.add_(total.mul_(votes.ge_(agreement)), alpha=lambda_)
