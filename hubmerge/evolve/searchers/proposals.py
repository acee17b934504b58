"""The baselines of a search: sequences of vectors that no fitness changes."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .batch import evaluate
from .problem import MergeProblem


class Proposals(SearchAlgorithm):
    """Evaluates a fixed sequence of vectors, `width` at a time, whatever their fitness."""

    def __init__(self, problem: MergeProblem, vectors: Iterator[np.ndarray], width: int) -> None:
        SearchAlgorithm.__init__(self, problem)
        self._vectors = vectors
        self._width = width

    def _step(self) -> None:
        evaluate(self.problem, list(islice(self._vectors, self._width)))


def random(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> Proposals:
    """Candidates drawn uniformly from the whole space."""
    generator = np.random.default_rng(spec.seed)

    def draw() -> Iterator[np.ndarray]:
        while True:
            yield genome.random(generator)

    return Proposals(problem, draw(), width)


def grid(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> Proposals:
    """The points that a patient person would try by hand."""
    return Proposals(problem, iter(genome.grid(spec.evaluations)), width)
