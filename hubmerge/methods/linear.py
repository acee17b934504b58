"""Weighted averages, and the tensor as it is.

Linear: Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482.
"""

from collections.abc import Sequence

from torch import Tensor

from .blocks import Block

NEARLY_ZERO = 1e-8


def linear(block: Block, *, weight: Sequence[float], normalize: bool) -> Tensor:
    """The weighted sum of the models, divided by the sum of the weights where `normalize`.

    weight: one number a model, any sign.
    """
    total = sum(weight)
    scale = 1.0 / total if normalize and abs(total) > NEARLY_ZERO else 1.0
    first, *others = block.tensors
    result = first.mul_(weight[0] * scale)
    for tensor, w in zip(others, weight[1:], strict=True):
        result.add_(tensor, alpha=w * scale)
    return result


def passthrough(block: Block, *, scale: Sequence[float], shift: Sequence[float]) -> Tensor:
    """The one tensor, times its `scale`, plus its `shift`: stacks layers of several models without mixing them."""
    result = block.tensors[0] if scale[0] == 1 else block.tensors[0].mul_(scale[0])
    # Adding 0 would turn -0.0 into 0.0: without a shift, bits stay as they are.
    return result.add_(shift[0]) if shift[0] else result
