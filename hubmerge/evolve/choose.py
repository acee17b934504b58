"""The winner: the best few of the search, scored again on examples that the search never saw."""

from typing import Any

import numpy as np

from ..errors import SearchError
from ..progress import Event, Progress
from .explore import Exploration, recipe_key
from .genome import Genome
from .journal import Evaluation
from .judge import Judge

Finalist = tuple[np.ndarray, Evaluation | None]
"""A vector, and its evaluation in the search (None for the middle of the distribution)."""


def choose(genome: Genome, found: Exploration, judge: Judge, progress: Progress) -> dict[str, Any]:
    """The finalist with the best plain score on the validation split; ties go to the better search fitness.

    Without a validation split the best search fitness wins, as in the paper. Returns plain values: genome, recipe,
    generation and index, search_score and validation_score where there are any.
    """
    best = finalists(genome, found)
    if not judge.task.validation:
        return _winner(genome, *best[0], None)
    ranked: list[tuple[float, float, int]] = []
    for number, (vector, evaluation) in enumerate(best):
        progress(Event("validate", number, len(best), "candidates"))
        score = judge.score(genome.decode(vector), "validation").score
        ranked.append((score, evaluation.fitness if evaluation else 0.0, -number))
    progress(Event("validate", len(best), len(best), "candidates"))
    score, _, negative = max(ranked)
    return _winner(genome, *best[-negative], score)


def finalists(genome: Genome, found: Exploration) -> list[Finalist]:
    """The distinct candidates with the best search fitness, best first, then the middle of the distribution."""
    distinct: dict[str, Evaluation] = {}
    for evaluation in sorted(found.evaluations, key=lambda e: -e.fitness):  # stable: the earlier one wins a tie
        if evaluation.error is None:
            distinct.setdefault(evaluation.recipe, evaluation)
    if not distinct:
        raise SearchError("No candidate of the search could be evaluated; the journal says why for each.")
    best: list[Finalist] = [(np.array(e.genome), e) for e in list(distinct.values())[: genome.search.select]]
    if found.centre is not None and recipe_key(genome.decode(found.centre)) not in distinct:
        best.append((found.centre, None))
    return best


def _winner(
    genome: Genome, vector: np.ndarray, evaluation: Evaluation | None, validation: float | None
) -> dict[str, Any]:
    return {
        "genome": vector.tolist(),
        "recipe": genome.decode(vector).to_dict(),
        "generation": evaluation and evaluation.generation,
        "index": evaluation and evaluation.index,
        "search_score": evaluation and evaluation.score,
        "validation_score": validation,
    }
