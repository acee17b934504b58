"""Methods that look at what models do with texts: statistics of each model say how much of it counts where.

RegMean: Jin et al. 2022, "Dataless knowledge fusion by merging weights of language models",
https://arxiv.org/abs/2212.09849. Fisher: Matena and Raffel 2021, "Merging models with Fisher-weighted averaging",
https://arxiv.org/abs/2111.09832.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .blocks import Block, Blocks

RIDGE = 1e-6
"""Of the mean of a Gram matrix's diagonal: where the inputs of no model reach, the result is the average."""


def regmean(block: Block, *, weight: Sequence[float], alpha: float, measured: "Regression | None") -> Tensor:
    """The matrix whose outputs are nearest to those of each model on that model's own inputs: with G the Gram matrix of
    the inputs, (sum w W G) (sum w G)^-1 (equation 2, whose W is transposed). What is no such matrix is averaged.

    Computed as what to add to the average: that loses no digits where models are near to each other.
    """
    average = _average(block, weight)
    if measured is None:
        return average
    moved = torch.zeros(average.numel() // block.columns, block.columns, dtype=torch.float64, device=average.device)
    for tensor, gram in zip(block.tensors, measured.grams, strict=True):
        moved.add_(tensor.sub_(average).view_as(moved) @ gram)
    return average.add_(torch.cholesky_solve(moved.T, measured.factor).T.reshape(-1))


class Regression:
    """What all rows of a matrix share: the models' weighed Gram matrices, and the Cholesky factor of their sum."""

    def __init__(self, grams: Sequence[Tensor], weight: Sequence[float], alpha: float) -> None:
        self.grams = grams
        both = torch.zeros(grams[0].shape, dtype=torch.float64, device=grams[0].device)
        for gram, share in zip(grams, weight, strict=True):
            diagonal = gram.diagonal() * share
            gram.mul_(alpha * share).diagonal().copy_(diagonal)  # section 4.2: what is off the diagonal counts less
            both += gram
        mean = float(both.diagonal().mean())
        both.diagonal().add_(RIDGE * mean if mean > 0 else 1.0)
        self.factor = torch.linalg.cholesky(both)


def regression(blocks: Blocks, *, weight: Sequence[float], alpha: float) -> Regression | None:
    """The regression that a matrix is merged by; None where one of the models was not measured there."""
    grams = [blocks.statistic(model) for model in range(len(weight))]
    found = [gram for gram in grams if gram is not None]
    return Regression(found, weight, alpha) if len(found) == len(grams) else None


def fisher(block: Block, *, weight: Sequence[float], floor: float) -> Tensor:
    """The average in which each number counts by its Fisher information, at least `floor` (equation 5 with the diagonal
    of section 3.1)."""
    average = _average(block, weight)
    if not block.statistics or not any(weight):
        return average
    moved, total = block.empty().zero_(), block.empty().zero_()
    for tensor, information, share in zip(block.tensors, block.statistics, weight, strict=True):
        information.clamp_(min=floor).mul_(share)
        moved.addcmul_(tensor.sub_(average), information)
        total.add_(information)
    return average.add_(moved.div_(total))


def _average(block: Block, weight: Sequence[float]) -> Tensor:
    """The models by their weights; a plain mean where no model has any."""
    total = sum(weight)
    result = block.empty().zero_()
    for tensor, share in zip(block.tensors, weight, strict=True):
        result.add_(tensor, alpha=share / total if total else 1 / len(weight))
    return result
