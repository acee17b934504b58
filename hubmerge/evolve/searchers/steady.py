"""Searchers without generations: each evaluation that comes back may change what is asked next."""

from abc import abstractmethod
from collections import deque

import numpy as np
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from ..records.evaluation import Evaluation
from ..spec.searcher import Searcher
from .problem import MergeProblem


class Steady(SearchAlgorithm):
    """`step()` collects one evaluation.

    It waits for no generation: up to `lag` evaluations are under way, they are collected in the order asked, and a
    vector follows from what was collected before it. So the run depends on `lag`, but not on what ends first.
    """

    def __init__(self, spec: Searcher, problem: MergeProblem) -> None:
        SearchAlgorithm.__init__(self, problem)
        self._spec = spec
        self._generator = np.random.default_rng(spec.seed)
        self._asked = 0
        self._under_way: deque[tuple[int, np.ndarray]] = deque()

    def _step(self) -> None:
        while self._asked < self._spec.evaluations and len(self._under_way) < self._spec.lag:
            vector = self._next()
            self._under_way.append((self.problem.evaluator.submit(vector.copy()), vector))
            self._asked += 1
        number, vector = self._under_way.popleft()
        told = self.problem.evaluator.collect(number)
        if not told.failed:
            self._admit(vector, told)

    @abstractmethod
    def _next(self) -> np.ndarray:
        """The next vector to ask for."""

    @abstractmethod
    def _admit(self, vector: np.ndarray, told: Evaluation) -> None:
        """Takes note of an evaluation that did not fail."""
