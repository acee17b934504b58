"""Searchers that move a normal distribution: CMA-ES and the natural evolution strategies, by evotorch.

Binary genes are numbers like the others here: their sign is drawn with the odds that the distribution gives it, and
these sharpen as it narrows.
"""

import warnings
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from evotorch.algorithms import CMAES, SNES, XNES

from ...errors import SearchError
from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .batch import pad
from .operators import step_size
from .problem import MergeProblem

FULL_GENES = 1000
"""Up to so many genes the searchers learn how genes depend on each other. Their time a generation grows with the cube
of it: .2 s for cmaes and .8 s for xnes at 1000 on one core, 10 s for cmaes at 4,288. Beyond, cmaes gives each gene
only a step of its own, unless the spec says otherwise, and xnes, which has no such form, is refused."""


class MarginCMAES(CMAES):
    """evotorch's CMA-ES, whose binary genes never settle for good.

    Once all samples agree on a sign, nothing tells the distribution to reconsider it, and it narrows around the wrong
    one. So a binary gene's mean is kept where the other sign has a chance of 1 / (popsize x genes) at least: one try a
    generation over all genes (CMA-ES with margin, Hamano et al. 2022, https://arxiv.org/abs/2205.13482).
    """

    m: torch.Tensor

    def __init__(self, problem: MergeProblem, binary: np.ndarray, **options: Any) -> None:
        super().__init__(problem, **options)
        self._binary = torch.from_numpy(pad(binary, problem.solution_length))
        self._reach = NormalDist().inv_cdf(1 - 1 / (self.popsize * problem.solution_length))

    def _step(self) -> None:
        super()._step()
        variance = self.C if self.separable else self.C.diagonal()
        limit = self._reach * self.sigma * variance.sqrt()
        self.m = torch.where(self._binary, self.m.clamp(-limit, limit), self.m)


def cmaes(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> CMAES:
    """Covariance matrix adaptation (Hansen 2016, https://arxiv.org/abs/1604.00772)."""
    separable = genome.size > FULL_GENES if spec.separable is None else spec.separable
    with warnings.catch_warnings():
        # evotorch's constructor uses torch and numpy in ways that both warn about.
        warnings.simplefilter("ignore")
        return MarginCMAES(
            problem,
            genome.binary,
            stdev_init=step_size(spec, genome),
            popsize=width,
            center_init=_start(genome, problem),
            separable=separable,
        )


def snes(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> SNES:
    """Separable natural evolution strategy: a step a gene, cheap for any number of them (Schaul et al. 2011,
    https://doi.org/10.1145/2001576.2001692)."""
    return SNES(problem, stdev_init=step_size(spec, genome), popsize=width, center_init=_start(genome, problem))


def xnes(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> XNES:
    """Exponential natural evolution strategy: a full covariance (Glasmachers et al. 2010,
    https://doi.org/10.1145/1830483.1830557). Raises `SearchError` beyond `FULL_GENES`."""
    if genome.size > FULL_GENES:
        raise SearchError(
            f"xnes is too slow for {genome.size} genes (at most {FULL_GENES}); use snes or cmaes, or a coarser genome."
        )
    return XNES(problem, stdev_init=step_size(spec, genome), popsize=width, center_init=_start(genome, problem))


def _start(genome: Genome, problem: MergeProblem) -> list[float]:
    return np.resize(genome.start, problem.solution_length).tolist()
