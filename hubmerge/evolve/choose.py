"""The winner: the best few of the search, scored again on examples that the search never saw."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import SearchError
from ..evaluate.measurement import Measurement
from ..evaluate.task import Task
from ..progress import Event, Progress
from ..recipe import Recipe
from .examples.asked import Asked
from .examples.search_examples import SearchExamples
from .explore import Exploration
from .records.evaluation import Evaluation
from .spaces.candidate import Candidate
from .workers.pool import Pool, measure_all

_PROMOTED = 2
"""How many times `select` candidates are asked the rest of the search split, where the search asked only a part."""


@dataclass(frozen=True)
class Finalist:
    """A candidate that may win, its vector, and its evaluation in the search (None: the middle of the distribution).

    `score`: its plain score on the search split where it was asked all of it after the search; else its evaluation's.
    """

    candidate: Candidate
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
    def candidate(self) -> Candidate:
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
    examples: SearchExamples = SearchExamples(),  # noqa: B008 - a frozen value
) -> Winner:
    """Scores the finalists on the validation split; ties go to the better search fitness.

    Where the search asked only some of its examples (`examples`), twice as many are first asked the rest of them, and
    the best of these on the whole search split go on. Without a validation split the best search fitness wins, as in
    the paper. Raises `SearchError` where there is no finalist, or none that can be scored.
    """
    best, tokens, seconds = finalists(found, select), 0, 0.0
    if examples.sets and len(found.evaluations[0].fitness) == 1:
        best, tokens, seconds = _promoted(found, select, task, pool, progress, examples)
    if not task.validation:
        return Winner(best[0], None, tokens, seconds)

    def tell(done: int) -> None:
        progress(Event("validate", done, len(best), "candidates"))

    validated = measure_all(pool, [(finalist.candidate, Asked("validation")) for finalist in best], tell)
    scored = [
        (measured.score, finalist.evaluation.fitness[0] if finalist.evaluation else 0.0, -place)
        for place, (finalist, measured) in enumerate(zip(best, validated, strict=True))
        if measured.error is None
    ]
    if not scored:
        raise SearchError(f"No candidate could be scored on the validation split: {validated[0].error}")
    score, _, negative = max(scored)
    return Winner(best[-negative], score, tokens, seconds)


def _promoted(
    found: Exploration, select: int, task: Task, pool: Pool, progress: Progress, examples: SearchExamples
) -> tuple[list[Finalist], int, float]:
    """The finalists by their score on the whole search split, and the tokens and seconds that it took."""
    wide = finalists(found, len(found.evaluations))
    asked = _best_of_each_set(wide, examples)[: _PROMOTED * select]
    everything = range(len(task.search))
    rest = [tuple(sorted({*everything} - {*examples.positions(evaluation)})) for _, evaluation in asked]
    jobs = [(one.candidate, Asked("search", left)) for (one, _), left in zip(asked, rest, strict=True) if left]

    def tell(done: int) -> None:
        progress(Event("rank", done, len(jobs), "candidates"))

    answers = measure_all(pool, jobs, tell)
    coming = iter(answers)
    ranked = []
    for (finalist, evaluation), left in zip(asked, rest, strict=True):
        measured = next(coming) if left else Measurement()
        if measured.error is None:
            score = math.fsum((*evaluation.values, *measured.values)) / len(everything)
            ranked.append(replace(finalist, score=score))
    ranked.sort(key=lambda finalist: -(finalist.score or 0.0))  # stable: ties go to the better search fitness
    middle = [finalist for finalist in wide if finalist.evaluation is None]
    tokens, seconds = sum(measured.tokens for measured in answers), sum(measured.seconds for measured in answers)
    return [*ranked[:select], *middle] or wide[:select], tokens, seconds


def _best_of_each_set(finalists: Sequence[Finalist], examples: SearchExamples) -> list[tuple[Finalist, Evaluation]]:
    """The evaluated ones: the best of each set of examples, then the second best, and so on; one set may be easier."""
    asked = [(finalist, finalist.evaluation) for finalist in finalists if finalist.evaluation is not None]
    seen: Counter[int] = Counter()
    places = []
    for place, (_, evaluation) in enumerate(asked):
        number = examples.set_number(evaluation.generation)
        places.append((seen[number], place))
        seen[number] += 1
    return [asked[place] for _, place in sorted(places)]


def finalists(found: Exploration, select: int) -> list[Finalist]:
    """The distinct candidates with the best search fitness, best first, and what the search's noise does not flatter:
    the middle of the distribution, in a search for paths the first model as it is, and the winner of the run that the
    search begins with.

    With several objectives they are those of the Pareto front with the best plain scores.
    """
    several = len(found.evaluations[0].fitness) > 1 if found.evaluations else False
    ranked = sorted(found.front, key=lambda e: -e.score) if several else list(found.distinct)
    if not ranked:
        raise SearchError("No candidate of the search could be evaluated; the journal says why for each.")
    best = [Finalist(found.candidate(e), e.genome, e, e.score) for e in ranked[:select]]
    known = [found.candidate(evaluation) for evaluation in ranked]
    last = found.genomes[-1]
    for vector in (found.centre, *last.finals):
        if vector is not None and (candidate := last.decode(vector)) not in known:
            known.append(candidate)
            best.append(Finalist(candidate, tuple(np.asarray(vector).tolist()), None))
    return best
