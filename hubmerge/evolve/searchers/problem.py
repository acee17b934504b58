"""The search as an evotorch Problem: a batch of vectors in, their fitnesses out."""

import logging
import os
from typing import Any, Protocol

import numpy as np
import torch
from evotorch import Problem, SolutionBatch

from ..records.evaluation import Evaluation

if "EVOTORCH_VERBOSE_LEVEL" not in os.environ:
    # On import evotorch sends its remarks (dtypes, actors) to standard output, where ours go.
    logging.getLogger("evotorch").setLevel(logging.WARNING)


class Evaluator(Protocol):
    """Evaluates vectors, in the background where there are actors."""

    def submit(self, vector: np.ndarray) -> int:
        """Begins to evaluate a vector of shape (size,); its number in the run: 0, 1, 2, ... in the order asked."""
        ...

    def collect(self, number: int) -> Evaluation:
        """What came out of it; waits."""
        ...


class MergeProblem(Problem):
    """Candidates are vectors of unbounded float64 numbers; every objective is maximised.

    Random numbers come from the problem's own generator, seeded by `seed`, so the same seed asks for the same
    candidates and nothing global is touched. `evaluations` are those of the batch asked for last, row by row.
    """

    def __init__(self, size: int, evaluator: Evaluator, *, objectives: int = 1, seed: int) -> None:
        # evotorch's CMAES squeezes a centre of one number to a scalar and refuses it: a lone gene gets an idle mate.
        length = max(size, 2)
        sense: Any = "max" if objectives == 1 else ["max"] * objectives
        super().__init__(
            sense,
            solution_length=length,
            initial_bounds=(0.0, 1.0),
            dtype=torch.float64,
            seed=seed,
            store_solution_stats=False,  # the journal knows the best
        )
        self.size = size
        self.evaluator = evaluator
        self.evaluations: list[Evaluation] = []

    def _evaluate_batch(self, solutions: SolutionBatch) -> None:
        rows = solutions.values.detach().cpu().numpy()[:, : self.size]
        numbers = [self.evaluator.submit(row.copy()) for row in rows]
        self.evaluations = [self.evaluator.collect(number) for number in numbers]
        solutions.set_evals(torch.tensor([told.fitness for told in self.evaluations], dtype=torch.float64))
