"""The winner: the best few of the search, scored again on examples that the search never saw."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SearchError
from ..evaluate.task import Task
from ..progress import Event, Progress
from ..recipe import Recipe
from .explore import Exploration
from .journal import Evaluation
from .measurement import Job
from .pool import Pool, measure_all
from .recorder import candidate_key


@dataclass(frozen=True)
class Finalist:
    """A candidate that may win, its vector, and its evaluation in the search (None: the middle of the distribution)."""

    candidate: Any
    vector: tuple[float, ...]
    evaluation: Evaluation | None


@dataclass(frozen=True)
class Winner:
    """The finalist with the best plain score on the validation split; `validation_score` is None without one."""

    finalist: Finalist
    validation_score: float | None

    @property
    def candidate(self) -> Any:
        """The recipe or path that won."""
        return self.finalist.candidate

    @property
    def facts(self) -> dict[str, Any]:
        """Plain values: number, genome, candidate, search_score and validation_score where there are any."""
        evaluation = self.finalist.evaluation
        return {
            "number": evaluation and evaluation.number,
            "genome": list(self.finalist.vector),
            "candidate": {"recipe" if isinstance(self.candidate, Recipe) else "path": self.candidate.to_dict()},
            "search_score": evaluation and evaluation.score,
            "validation_score": self.validation_score,
        }


def choose(found: Exploration, select: int, task: Task, pool: Pool, progress: Progress) -> Winner:
    """Scores the finalists on the validation split; ties go to the better search fitness.

    Without a validation split the best search fitness wins, as in the paper. Raises `SearchError` where there is no
    finalist, or none that can be scored.
    """
    best = finalists(found, select)
    if not task.validation:
        return Winner(best[0], None)

    def tell(done: int) -> None:
        progress(Event("validate", done, len(best), "candidates"))

    results = measure_all(pool, [(finalist.candidate, Job("validation")) for finalist in best], tell)
    scored = [
        (result.measurement.score, finalist.evaluation.fitness[0] if finalist.evaluation else 0.0, -place)
        for place, (finalist, result) in enumerate(zip(best, results, strict=True))
        if result.measurement is not None
    ]
    if not scored:
        raise SearchError(f"No candidate could be scored on the validation split: {results[0].error}")
    score, _, negative = max(scored)
    return Winner(best[-negative], score)


def finalists(found: Exploration, select: int) -> list[Finalist]:
    """The distinct candidates with the best search fitness, best first, then the middle of the distribution.

    With several objectives they come from the Pareto front, whose best in the first objective are taken.
    """
    several = len(found.evaluations[0].fitness) > 1 if found.evaluations else False
    ranked = found.front if several else found.distinct
    if not ranked:
        raise SearchError("No candidate of the search could be evaluated; the journal says why for each.")
    best = [Finalist(found.candidate(e), e.genome, e) for e in ranked[:select]]
    if found.centre is not None:
        middle = found.genomes[-1].decode(found.centre)
        if candidate_key(middle) not in {e.candidate for e in ranked}:
            best.append(Finalist(middle, tuple(np.asarray(found.centre).tolist()), None))
    return best
