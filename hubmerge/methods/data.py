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
    return _average(block, weight) if measured is None else measured.rows(block)


class Regression:
    """What a matrix is merged by: the Cholesky factor of the sum of the models' weighed Gram matrices, (columns,
    columns), and a band of the rows of sum w (W - average) G, about as many as there are columns, float64.

    However many models there are, one Gram matrix is held at a time: each band goes through all of them once.
    """

    def __init__(self, blocks: Blocks, factor: Tensor, weight: Sequence[float], alpha: float) -> None:
        self._blocks, self._factor, self._weight, self._alpha = blocks, factor, weight, alpha
        self._length = max(1, len(factor) ** 2 // blocks.step) * blocks.step
        self._band: tuple[int, Tensor] | None = None

    def rows(self, block: Block) -> Tensor:
        """The merged rows of a block. Reads others."""
        start, stop = block.start, block.start + block.tensors[0].numel()
        first = start // self._length * self._length
        if self._band is None or self._band[0] != first:
            self._band = None
            self._band = first, self._moved(first, min(first + self._length, self._blocks.elements))
        moved = self._band[1][start - first : stop - first].view(-1, len(self._factor))
        average = _average(self._blocks.read(start, stop), self._weight)
        return average.add_(torch.cholesky_solve(moved.T, self._factor).T.reshape(-1))

    def _moved(self, first: int, last: int) -> Tensor:
        moved = torch.zeros(last - first, dtype=torch.float64, device=self._factor.device)
        for model in range(len(self._weight)):
            gram = _weighed(self._blocks, model, self._weight, self._alpha)
            assert gram is not None
            for start in range(first, last, self._blocks.step):
                block = self._blocks.read(start, min(start + self._blocks.step, last))
                away = block.tensors[model].sub_(_average(block, self._weight)).view(-1, len(gram))
                moved[start - first :][: away.numel()].view_as(away).add_(away @ gram)
            del gram  # before the next one is read
        return moved


def regression(blocks: Blocks, *, weight: Sequence[float], alpha: float) -> Regression | None:
    """The regression that a matrix is merged by; None where the models were not measured there."""
    both: Tensor | None = None
    for model in range(len(weight)):
        gram = _weighed(blocks, model, weight, alpha)
        if gram is None:
            return None
        both = gram.double() if both is None else both.add_(gram)
        del gram  # before the next one is read
    assert both is not None
    mean = float(both.diagonal().mean())
    both.diagonal().add_(RIDGE * mean if mean > 0 else 1.0)
    return Regression(blocks, torch.linalg.cholesky(both), weight, alpha)


def _weighed(blocks: Blocks, model: int, weight: Sequence[float], alpha: float) -> Tensor | None:
    """The Gram matrix of a model's inputs, by its weight; what is off the diagonal counts less (section 4.2)."""
    gram = blocks.statistic(model)
    if gram is not None:
        diagonal = gram.diagonal() * weight[model]
        gram.mul_(alpha * weight[model]).diagonal().copy_(diagonal)
    return gram


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
