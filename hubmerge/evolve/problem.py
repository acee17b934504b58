"""The search as an evotorch Problem: a batch of vectors in, their fitnesses out."""

import logging
import os
from collections.abc import Callable

import numpy as np
import torch
from evotorch import Problem, SolutionBatch

if "EVOTORCH_VERBOSE_LEVEL" not in os.environ:
    # On import evotorch sends its remarks (dtypes, actors) to standard output, where ours go.
    logging.getLogger("evotorch").setLevel(logging.WARNING)

Evaluate = Callable[[np.ndarray], list[float]]
"""Gives the fitness (finite, higher is better) of each row of a float64 array (candidates, genes)."""


class MergeProblem(Problem):
    """Candidates are vectors of unbounded float64 numbers; fitness is maximised.

    One process evaluates: candidates share one resident model. Random numbers come from the problem's own generator,
    seeded by `seed`, so the same seed asks for the same candidates and nothing global is touched.
    """

    def __init__(self, size: int, evaluate: Evaluate, *, seed: int) -> None:
        # evotorch's CMAES squeezes a centre of one number to a scalar and refuses it: a lone gene gets an idle mate.
        length = max(size, 2)
        super().__init__("max", solution_length=length, initial_bounds=(0.0, 1.0), dtype=torch.float64, seed=seed)
        self._size = size
        self._evaluate_rows = evaluate

    def _evaluate_batch(self, solutions: SolutionBatch) -> None:
        rows = solutions.values.detach().cpu().numpy()[:, : self._size]
        solutions.set_evals(torch.tensor(self._evaluate_rows(rows), dtype=torch.float64))
