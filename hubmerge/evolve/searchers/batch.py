"""Rows of numbers in and out of evotorch's batches."""

from collections.abc import Sequence

import numpy as np
import torch
from evotorch import SolutionBatch

from ..records.evaluation import Evaluation
from .problem import MergeProblem


def pad(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows, or one row, with as many zeros behind the genes as the problem has idle ones."""
    missing = length - rows.shape[-1]
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)])


def evaluate(problem: MergeProblem, rows: Sequence[np.ndarray] | np.ndarray) -> list[Evaluation]:
    """What came out of each row, in their order."""
    batch = SolutionBatch(problem, len(rows), empty=True)
    batch.set_values(torch.from_numpy(pad(np.asarray(rows, dtype=np.float64), problem.solution_length)))
    problem.evaluate(batch)
    return problem.evaluations
