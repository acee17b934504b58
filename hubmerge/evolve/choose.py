"""The winner: the best few of the search, scored again on examples that the search never saw."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import SearchError
from ..evaluate.task import Task
from ..progress import Event, Progress
from ..recipe import Recipe
from .examples.job import Job
from .examples.questions import Questions
from .explore import Exploration
from .records.journal import Evaluation
from .workers.pool import Pool, measure_all

_PROMOTED = 2
"""How many times `select` candidates are asked the rest of the search split, where the search asked only a part."""


@dataclass(frozen=True)
class Finalist:
    """A candidate that may win, its vector, and its evaluation in the search (None: the middle of the distribution).

    `score`: its plain score on the search split where it was asked all of it after the search; else its evaluation's.
    """

    candidate: Any
    vector: tuple[float, ...]
    evaluation: Evaluation | None
    score: float | None = None


@dataclass(frozen=True)
class Winner:
    """The finalist with the best plain score on the validation split; `validation_score` is None without one.

    `tokens` and `seconds`: what asking finalists the rest of the search split took.
    """

    finalist: Finalist
    validation_score: float | None
    tokens: int = 0
    seconds: float = 0.0

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
            "search_score": self.finalist.score,
            "validation_score": self.validation_score,
        }


def choose(
    found: Exploration,
    select: int,
    task: Task,
    pool: Pool,
    progress: Progress,
    questions: Questions = Questions(),  # noqa: B008 - a frozen value
) -> Winner:
    """Scores the finalists on the validation split; ties go to the better search fitness.

    Where the search asked only some of its examples (`questions`), twice as many are first asked the rest of them, and
    the best of these on the whole search split go on. Without a validation split the best search fitness wins, as in
    the paper. Raises `SearchError` where there is no finalist, or none that can be scored.
    """
    best, tokens, seconds = finalists(found, select), 0, 0.0
    if questions.sets and len(found.evaluations[0].fitness) == 1:
        best, tokens, seconds = _promoted(found, select, task, pool, progress, questions)
    if not task.validation:
        return Winner(best[0], None, tokens, seconds)

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
    return Winner(best[-negative], score, tokens, seconds)


def _promoted(
    found: Exploration, select: int, task: Task, pool: Pool, progress: Progress, questions: Questions
) -> tuple[list[Finalist], int, float]:
    """The finalists by their score on the whole search split, and the tokens and seconds that it took."""
    wide = finalists(found, len(found.evaluations))
    middle = [finalist for finalist in wide if finalist.evaluation is None]
    asked = [(finalist, finalist.evaluation) for finalist in wide if finalist.evaluation is not None]
    # The best of each set, then the second best, and so on: one set may be easier than another.
    seen: Counter[int] = Counter()
    places = []
    for place, (_, evaluation) in enumerate(asked):
        number = questions.set_number(evaluation.generation)
        places.append((seen[number], place))
        seen[number] += 1
    asked = [asked[place] for _, place in sorted(places)[: _PROMOTED * select]]
    everything = range(len(task.search))
    rest = [tuple(sorted({*everything} - {*questions.asked(evaluation)})) for _, evaluation in asked]
    jobs = [(finalist.candidate, Job("search", left)) for (finalist, _), left in zip(asked, rest, strict=True) if left]

    def tell(done: int) -> None:
        progress(Event("rank", done, len(jobs), "candidates"))

    answers = iter(measure_all(pool, jobs, tell))
    results = [next(answers) if left else None for left in rest]
    ranked = []
    for (finalist, evaluation), result in zip(asked, results, strict=True):
        if result is None or result.measurement is not None:
            more = result.measurement.values if result is not None and result.measurement is not None else ()
            score = math.fsum((*evaluation.values, *more)) / len(everything)
            ranked.append(replace(finalist, score=score))
    ranked.sort(key=lambda finalist: -(finalist.score or 0.0))  # stable: ties go to the better search fitness
    spent = [result for result in results if result is not None]
    tokens = sum(result.measurement.tokens for result in spent if result.measurement is not None)
    return [*ranked[:select], *middle] or wide[:select], tokens, sum(result.seconds for result in spent)


def finalists(found: Exploration, select: int) -> list[Finalist]:
    """The distinct candidates with the best search fitness, best first, and what the search's noise does not flatter:
    the middle of the distribution, and in a search for paths the start, the first model as it is.

    With several objectives they are those of the Pareto front with the best plain scores.
    """
    several = len(found.evaluations[0].fitness) > 1 if found.evaluations else False
    ranked = sorted(found.front, key=lambda e: -e.score) if several else list(found.distinct)
    if not ranked:
        raise SearchError("No candidate of the search could be evaluated; the journal says why for each.")
    best = [Finalist(found.candidate(e), e.genome, e, e.score) for e in ranked[:select]]
    known = [found.candidate(evaluation) for evaluation in ranked]
    last = found.genomes[-1]
    for vector in (found.centre, last.start if last.space == "dfs" else None):
        if vector is not None and (candidate := last.decode(vector)) not in known:
            known.append(candidate)
            best.append(Finalist(candidate, tuple(np.asarray(vector).tolist()), None))
    return best
