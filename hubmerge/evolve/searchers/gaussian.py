"""Searchers that move a normal distribution: CMA-ES and the natural evolution strategies, by evotorch.

Binary genes are numbers like the others here: their sign is drawn with the odds that the distribution gives it, and
these sharpen as it narrows.
"""

import math
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


_ENOUGH = 6
"""Candidates of an earlier run, its winner among them, whose spread says something."""
_FLOOR = 0.6
"""The smallest first step after an earlier run, in parts of the first step without one."""


class MarginCMAES(CMAES):
    """evotorch's CMA-ES, whose binary genes never settle for good.

    Once all samples agree on a sign, nothing tells the distribution to reconsider it, and it narrows around the wrong
    one. So a binary gene's mean is kept where the other sign has a chance of 1 / (popsize x genes) at least: one try a
    generation over all genes (CMA-ES with margin, Hamano et al. 2022, https://arxiv.org/abs/2205.13482).
    """

    m: torch.Tensor
    A: torch.Tensor
    C: torch.Tensor

    def __init__(self, problem: MergeProblem, binary: np.ndarray, **options: Any) -> None:
        super().__init__(problem, **options)
        self._binary = torch.from_numpy(pad(binary, problem.solution_length))
        self._reach = NormalDist().inv_cdf(1 - 1 / (self.popsize * problem.solution_length))

    def shape(self, stdevs: np.ndarray) -> None:
        """Gives each gene a first step of its own, shape (solution length,), in units of the common one."""
        diagonal = torch.from_numpy(stdevs)
        self.A = diagonal if self.separable else diagonal.diag()
        self.C = self.A**2

    def _step(self) -> None:
        super()._step()
        variance = self.C if self.separable else self.C.diagonal()
        limit = self._reach * self.sigma * variance.sqrt()
        self.m = torch.where(self._binary, self.m.clamp(-limit, limit), self.m)


def cmaes(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> CMAES:
    """Covariance matrix adaptation (Hansen 2016, https://arxiv.org/abs/1604.00772)."""
    separable = genome.size > FULL_GENES if spec.separable is None else spec.separable
    centre, steps = beginning(spec, genome, problem)
    scale = float(np.exp(np.log(steps).mean())) if genome.learnt else step_size(spec, genome)
    with warnings.catch_warnings():
        # evotorch's constructor uses torch and numpy in ways that both warn about.
        warnings.simplefilter("ignore")
        searcher = MarginCMAES(
            problem,
            genome.binary,
            stdev_init=scale,
            popsize=width,
            center_init=centre.tolist(),
            separable=separable,
        )
    if genome.learnt:
        searcher.shape(steps / scale)
    return searcher


def snes(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> SNES:
    """Separable natural evolution strategy: a step a gene, cheap for any number of them (Schaul et al. 2011,
    https://doi.org/10.1145/2001576.2001692)."""
    centre, steps = beginning(spec, genome, problem)
    return SNES(problem, stdev_init=steps.tolist(), popsize=width, center_init=centre.tolist())


def xnes(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> XNES:
    """Exponential natural evolution strategy: a full covariance (Glasmachers et al. 2010,
    https://doi.org/10.1145/1830483.1830557). Raises `SearchError` beyond `FULL_GENES`."""
    if genome.size > FULL_GENES:
        raise SearchError(
            f"xnes is too slow for {genome.size} genes (at most {FULL_GENES}); use snes or cmaes, or a coarser genome."
        )
    centre, steps = beginning(spec, genome, problem)
    return XNES(problem, stdev_init=steps.tolist(), popsize=width, center_init=centre.tolist())


def beginning(spec: Searcher, genome: Genome, problem: MergeProblem) -> tuple[np.ndarray, np.ndarray]:
    """Where the distribution begins, and the step of each gene, both of shape (solution length,).

    With an earlier run that is its winner, with smaller steps; or, where enough candidates of it are known, their mean,
    weighted by rank as in CMA-ES, with steps from their spread, as warm starting CMA-ES has it (Nomura et al. 2021,
    https://arxiv.org/abs/2012.06932). The floor under the steps is that paper's: a tenth of a gene's range.
    """
    centre, steps = genome.start, np.full(genome.size, step_size(spec, genome))
    if genome.learnt:
        found = np.array(genome.learnt[:1] if len(genome.learnt) < _ENOUGH else genome.learnt)
        weights = math.log(len(found) + 0.5) - np.log(np.arange(1, len(found) + 1))
        weights /= weights.sum()
        centre = weights @ found
        steps = np.minimum(steps, np.sqrt((_FLOOR * steps) ** 2 + weights @ (found - centre) ** 2))
    return np.resize(centre, problem.solution_length), np.resize(steps, problem.solution_length)
