"""Reinforced Agent Merging: what several models changed is averaged, what one alone changed stays whole.

Yuan et al. 2026, "Behavior knowledge merge in reinforced agentic models", https://arxiv.org/abs/2601.13572.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .blocks import Block, Blocks, each
from .sparsify import deltas


def ram(block: Block, *, epsilon: float) -> Tensor:
    """The base and, for each number, the mean of the changes larger than `epsilon`."""
    changes, changed = _changes(block, epsilon)
    total = _sum(changes)
    assert block.base is not None
    return block.base.add_(total.div_(changed.clamp_(min=1)))


def ramplus_factors(blocks: Blocks, *, r: float, alpha: float, epsilon: float) -> list[float]:
    """For each model the factor on what it alone changed: 1 + r min(shared / unique, alpha), by numbers of elements.

    The more of its changes are shared, and so diluted, the more the others make up for it. Counted in each tensor.
    """
    shared: list[float] = []
    unique: list[float] = []
    for block in each(blocks):
        changes, changed = _changes(block, epsilon)
        shared, unique = shared or [0.0] * len(changes), unique or [0.0] * len(changes)
        alone = changed.eq_(1)
        for model, change in enumerate(changes):
            changes_here = change.abs_().sign_()
            own = float(torch.dot(changes_here, alone))
            unique[model] += own
            shared[model] += float(changes_here.sum()) - own
    return [1 + r * min(s / u, alpha) if u else 1.0 for s, u in zip(shared, unique, strict=True)]


def ramplus_tl(block: Block, *, measured: Sequence[float], epsilon: float, **_: object) -> Tensor:
    """RAM with what one model alone changed scaled by the model's factor."""
    changes, changed = _changes(block, epsilon)
    more = block.empty().zero_()
    for change, factor in zip(changes, measured, strict=True):
        more.add_(change, alpha=factor - 1)
    total = _sum(changes)
    assert block.base is not None
    more.mul_(torch.eq(changed, 1, out=block.empty()))
    return block.base.add_(total.div_(changed.clamp_(min=1))).add_(more)


def _changes(block: Block, epsilon: float) -> tuple[list[Tensor], Tensor]:
    """The task vectors without what is not larger than `epsilon`, and how many models changed each element."""
    changes = [torch.ops.aten.hardshrink.out(delta, epsilon, out=delta) for delta in deltas(block)]
    changed, sign = block.empty().zero_(), block.empty()
    for change in changes:
        changed.add_(torch.sign(change, out=sign).abs_())
    return changes, changed


def _sum(vectors: Sequence[Tensor]) -> Tensor:
    first, *others = vectors
    for vector in others:
        first.add_(vector)
    return first
