"""A search by edits: the best few so far, each a small change away from what is tried next."""

import numpy as np

from ..pareto import best_first
from ..records.evaluation import Evaluation
from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .operators import mutate, seeds, step_size
from .problem import MergeProblem
from .steady import Steady

_PARENTS = 6
_LEARNT = 6
"""Of an earlier run's candidates: as many as there are parents."""
_SPREAD = 1.5
"""Of the exponential distribution that ranks are drawn from: half of all edits are of the best one."""


class Edits(Steady):
    """First what an earlier run found, then the genome's seeds, in a drawn order behind the first of them: in all a
    quarter of the budget, or 8. Then edits of one of the best six: `edited` of the genome, where it has that, else a
    mutation. Nothing is asked twice, as long as there is something else."""

    def __init__(self, spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> None:
        super().__init__(spec, problem)
        self.members: list[tuple[np.ndarray, tuple[float, ...]]] = []
        self._genome = genome
        self._sigma = step_size(spec, genome)
        first, *others = seeds(genome)
        self._generator.shuffle(others)
        self._first = [*genome.learnt[:_LEARNT], first, *others][: max(8, spec.evaluations // 4)][::-1]
        self._known: set[bytes] = set()

    def _next(self) -> np.ndarray:
        vector = self._first.pop() if self._first else self._edited()
        self._known.add(vector.tobytes())
        return vector

    def _edited(self) -> np.ndarray:
        vector = self._genome.start
        for _ in range(100):
            parent = self._genome.start
            if self.members:
                rank = int(self._generator.exponential(_SPREAD))
                parent = self.members[min(rank, len(self.members) - 1)][0]
            vector = self._neighbour(parent)
            if vector.tobytes() not in self._known:
                break
        return vector

    def _neighbour(self, vector: np.ndarray) -> np.ndarray:
        edited = getattr(self._genome, "edited", None)
        if edited is not None:
            made: np.ndarray = edited(vector, self._generator)
            return made
        return mutate(vector[None], self._genome.binary, self._sigma, self._generator)[0]

    def _admit(self, vector: np.ndarray, told: Evaluation) -> None:
        members = [*self.members, (vector, told.fitness)]
        order = best_first(np.array([fitness for _, fitness in members]))
        self.members = [members[row] for row in order[:_PARENTS]]
