"""The baselines of a search: sequences of vectors that no fitness changes."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

import numpy as np
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .problem import MergeProblem


class Proposals(SearchAlgorithm):
    """Evaluates a fixed sequence of vectors; `step()` collects `width` of them.

    Since no fitness changes what comes next, nobody waits for a generation: as many as that, or `lag` where that is
    more, are always under way.
    """

    def __init__(self, spec: Searcher, problem: MergeProblem, vectors: Iterator[np.ndarray], width: int) -> None:
        SearchAlgorithm.__init__(self, problem)
        self._vectors = vectors
        self._width = width
        self._flying = max(width, spec.lag)
        self._under_way: deque[int] = deque()

    def _step(self) -> None:
        evaluator = self.problem.evaluator
        for _ in range(self._width):
            for vector in islice(self._vectors, self._flying - len(self._under_way)):
                self._under_way.append(evaluator.submit(vector.copy()))
            if self._under_way:
                evaluator.collect(self._under_way.popleft())


def random(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> Proposals:
    """Candidates drawn uniformly from the whole space."""
    generator = np.random.default_rng(spec.seed)
    total = max(1, spec.evaluations // width) * width
    return Proposals(spec, problem, (genome.random(generator) for _ in range(total)), width)


def grid(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> Proposals:
    """The points that a patient person would try by hand."""
    return Proposals(spec, problem, iter(genome.grid(spec.evaluations)), width)
