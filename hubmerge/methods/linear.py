"""Weighted averages, and the tensor as it is.

Linear: Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482.
"""

from collections.abc import Sequence

from torch import Tensor

NEARLY_ZERO = 1e-8


def linear(tensors: Sequence[Tensor], *, weight: Sequence[float], normalize: bool = True) -> Tensor:
    """The weighted sum of `tensors`, divided by the sum of the weights where `normalize`.

    tensors: n float tensors of one shape; weight: n numbers, any sign. Returns that shape.

    >>> import torch
    >>> linear([torch.zeros(2, 3), torch.ones(2, 3)], weight=[1, 3]).shape
    torch.Size([2, 3])
    """
    total = sum(weight)
    scale = 1.0 / total if normalize and abs(total) > NEARLY_ZERO else 1.0
    result = tensors[0] * (weight[0] * scale)
    for tensor, w in zip(tensors[1:], weight[1:], strict=True):
        result.add_(tensor, alpha=w * scale)
    return result


def passthrough(tensors: Sequence[Tensor], *, scale: Sequence[float]) -> Tensor:
    """The one tensor, times its `scale`: stacks layers of several models without mixing them.

    >>> import torch
    >>> passthrough([torch.ones(4)], scale=[1.0]).shape
    torch.Size([4])
    """
    return tensors[0] * scale[0]
