"""Methods that take over single numbers of one other model.

NearSwap: alchemonaut 2024, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001. Arcee Fusion: Arcee 2025,
https://www.arcee.ai/blog/meet-mergekit-v0-1-arcee-fusion-expanded-model-support-multi-gpu-acceleration.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .blocks import Block, Blocks, each
from .sparsify import Vectors, thresholds

# Added to probabilities whose ratio is taken: that of an unlikely element may be 0.
_FLOOR = 1e-8


def nearswap(block: Block, *, t: float) -> Tensor:
    """The other model where it is within `t` of the base; elsewhere a step of `t` towards it.

    The share of the other is min(1, t / |difference|), so what is added is the difference, cut off at `t`.
    """
    assert block.base is not None
    return block.base.add_(block.tensors[0].sub_(block.base).clamp_(-t, t))


@dataclass(frozen=True)
class Importance:
    """How far a row's softmax moved, one number a row, and from which importance on the other model is taken."""

    moved: Tensor
    threshold: float

    def of(self, block: Block) -> Tensor:
        """|difference| times how far its row moved, for each element."""
        assert block.base is not None
        importance = torch.sub(block.tensors[0], block.base, out=block.empty()).abs_()
        count = importance.numel()
        if block.start % max(1, block.columns) == 0 and count % max(1, block.columns) == 0:
            importance.view(-1, block.columns).mul_(self.moved[block.rows][:, None])
            return importance
        rows = torch.arange(block.start, block.start + count, device=importance.device) // block.columns
        return importance.mul_(self.moved[rows])


def fusion_importance(blocks: Blocks) -> Importance:
    """The threshold is the median of all importances and 1.5 times the distance between their quartiles."""
    moved = Importance(_moved(blocks), 0.0)
    quarter, middle, three = _quantiles(blocks, lambda block: [moved.of(block)], (0.25, 0.5, 0.75))
    return Importance(moved.moved, middle + 1.5 * (three - quarter))


def arcee_fusion(block: Block, *, measured: Importance) -> Tensor:
    """The other model where the change matters most, else the base."""
    assert block.base is not None
    importance = measured.of(block)
    taken = importance.ge_(measured.threshold) if math.isfinite(measured.threshold) else importance
    return block.base.add_(block.tensors[0].sub_(block.base).mul_(taken))


def _moved(blocks: Blocks) -> Tensor:
    """The Kullback-Leibler divergence of each row's softmax from the base's, of a row of the other model."""
    found: list[Tensor] = []
    for block in each(blocks):
        assert block.base is not None
        base, other = (torch.softmax(part.view(-1, block.columns), 1) for part in (block.base, block.tensors[0]))
        ratio = other.add(_FLOOR).div_(base.add_(_FLOOR))
        found.append(other.mul_(ratio.log_()).sum(1).clamp_(min=0))
    return torch.cat(found) if found else torch.zeros(0)


def _quantiles(blocks: Blocks, values: Vectors, shares: tuple[float, ...]) -> list[float]:
    """Exact quantiles of values that are not negative: of the two nearest values the lower one."""
    if not blocks.elements:
        return [0.0] * len(shares)
    return thresholds(blocks, values, [blocks.elements - int(share * (blocks.elements - 1)) for share in shares])
