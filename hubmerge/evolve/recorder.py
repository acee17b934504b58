"""Keeps the books of a search: every candidate measured once, journaled as it comes, told to the searcher in order."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import SearchError
from ..evaluate.measurement import Measurement
from ..places import without_paths
from ..progress import Event, Progress
from .examples.search_examples import SearchExamples
from .records.evaluation import WORST, Evaluation
from .records.journal import Journal
from .spaces.candidate import Candidate, candidate_key
from .spaces.data_flow import DataFlow
from .spaces.edits import Edits
from .spaces.genome import Genome
from .spaces.layer_path import LayerPath
from .spec.fitness import Fitness
from .workers.pool import TICK, Pool

# Replayed candidates may differ from the journal's in the last bits where a linear algebra library was updated.
_REPLAY_TOLERANCE = 1e-6


class Recorder:
    """An `Evaluator` for one run: answers from the journal where it can, else lets the pool measure.

    A candidate that was asked for before, finished or not, is not measured again. Evaluations are journaled as they
    finish and reported in the order they were asked for.
    """

    def __init__(
        self,
        journal: Journal,
        pool: Pool,
        fitness: Fitness,
        *,
        seed: int,
        progress: Progress,
        longest: int = 0,
        examples: SearchExamples = SearchExamples(),  # noqa: B008 - a frozen value
    ) -> None:
        self._journal, self._kept = journal, len(journal)
        self._pool = pool
        self._fitness = fitness
        self._seed = seed
        self._longest = longest
        self._examples = examples
        self._total = 0
        self._progress = progress
        self._waiting: dict[int, _Pending] = {}
        self._first: dict[str, int] = {}  # candidate -> the number it was first asked for under
        self._asked = 0
        self.collected: list[Evaluation] = []
        # What is told after each evaluation is kept up to date: found anew, it would take as long as all before it.
        self._best: Evaluation | None = None
        self._now: tuple[float, int] = (0.0, 0)  # the sum of fitnesses, and how many, of the generation collected
        self._seconds: dict[int, float] = {}  # by stage

    def enter(self, genome: Genome, stage: int, *, popsize: int, to_come: int) -> None:
        """Begins a stage: vectors are of `genome` from here on, and about `to_come` evaluations are left in the run."""
        self._genome = genome
        self._stage, self._start, self._popsize = stage, self._asked, popsize
        self._total = self._asked + to_come

    def submit(self, vector: np.ndarray) -> int:
        """Begins to evaluate a vector; see `Evaluator`."""
        number = self._asked
        self._asked += 1
        candidate = self._genome.decode(vector)
        asked = _Pending(vector, candidate)
        self._waiting[number] = asked
        first = self._first.setdefault(asked.key, number)
        if number in self._journal:
            self._check(self._journal[number], vector)
        elif first == number:
            self._pool.submit(number, candidate, self._examples.next(self.collected, self._generation(number)))
        return number

    def collect(self, number: int) -> Evaluation:
        """What came out of it; see `Evaluator`. Its values are those of all examples; see `SearchExamples.filled`."""
        if not self.collected:  # the models are read first, and who watches is to know what for
            self._progress(Event("search", 0, self._total, "evaluations", "the first candidate is being scored"))
        first = self._first[self._waiting[number].key]
        while first not in self._journal:
            finished = self._pool.finished(TICK)
            for finished_number, measured in finished.items():
                self._record(finished_number, measured)
            if not finished and self.collected:
                self._progress(self._event())
        if number not in self._journal:
            self._journal.append(self._copy(number, self._journal[first]))
        evaluation = self._journal[number]
        del self._waiting[number]
        self._note(evaluation)
        self._refuse_hopeless()
        self._progress(self._event())
        return replace(evaluation, values=self._examples.filled(evaluation.values))

    def collect_rest(self) -> None:
        """Waits for what is under way and will not be asked for: the search ends here."""
        for number in sorted(self._waiting):
            self.collect(number)

    def seconds(self, stage: int) -> float:
        """What the collected evaluations of a stage took, one after the other."""
        return self._seconds.get(stage, 0.0)

    def _note(self, evaluation: Evaluation) -> None:
        last = self.collected[-1] if self.collected else evaluation
        if (last.stage, last.generation) != (evaluation.stage, evaluation.generation):
            self._now = (0.0, 0)
        self.collected.append(evaluation)
        self._now = (self._now[0] + evaluation.fitness[0], self._now[1] + 1)
        if self._best is None or evaluation.fitness[0] > self._best.fitness[0]:
            self._best = evaluation
        self._seconds[evaluation.stage] = self.seconds(evaluation.stage) + evaluation.seconds

    def _record(self, number: int, measured: Measurement) -> None:
        if number in self._journal:
            return
        asked = self._waiting[number]
        evaluation = Evaluation(
            number=number,
            stage=self._stage,
            generation=self._generation(number),
            genome=tuple(asked.vector.tolist()),
            candidate_key=asked.key,
            fitness=self._fitness_of(measured, asked.candidate),
            score=measured.score,
            metric=measured.metric,
            language=measured.language,
            n=measured.n,
            values=measured.values,
            seconds=round(measured.seconds, 4),
            tokens=measured.tokens,
            seed=self._seed,
            error=None if measured.error is None else without_paths(measured.error),
            solution=asked.solution,
        )
        self._journal.append(evaluation)

    def _copy(self, number: int, known: Evaluation) -> Evaluation:
        return replace(
            known,
            number=number,
            stage=self._stage,
            generation=self._generation(number),
            genome=tuple(self._waiting[number].vector.tolist()),
            seconds=0.0,
            tokens=0,
        )

    def _generation(self, number: int) -> int:
        return (number - self._start) // self._popsize

    def _fitness_of(self, measured: Measurement, candidate: Candidate) -> tuple[float, ...]:
        if measured.error is not None:
            return (WORST,) * len(self._fitness.objectives)
        bonus = self._fitness.number_bonus * measured.metric + self._fitness.language_bonus * measured.language
        parts = {"score": measured.score + bonus, "metric": measured.metric, "language": measured.language}
        if "short" in self._fitness.objectives:
            assert isinstance(candidate, LayerPath) and isinstance(self._genome, DataFlow | Edits)
            parts["short"] = max(0.0, 1 - len(candidate.layers) / self._genome.slots)
        parts["brief"] = max(0.0, 1 - measured.tokens / (max(measured.n, 1) * max(self._longest, 1)))
        return tuple(parts[name] for name in self._fitness.objectives)

    def _check(self, known: Evaluation, vector: np.ndarray) -> None:
        objectives, most = len(self._fitness.objectives), self._examples.size
        same = (known.stage, len(known.genome), len(known.fitness)) == (self._stage, len(vector), objectives)
        same = same and (not most or known.n <= most)
        if not same or not np.allclose(known.genome, vector, rtol=_REPLAY_TOLERANCE, atol=_REPLAY_TOLERANCE):
            raise SearchError(
                f"Evaluation {known.number} of {self._journal.path} is not the one that this searcher asks for; "
                "other versions of evotorch or torch wrote it: use those, or start a new run."
            )

    def _refuse_hopeless(self) -> None:
        if len(self.collected) == self._popsize and all(e.failed for e in self.collected):
            raise SearchError(f"No candidate of the first generation could be evaluated: {self.collected[0].error}")

    def _event(self) -> Event:
        last, best = self.collected[-1], self._best
        assert best is not None
        data = {
            "generation": last.generation,
            "best": best.fitness[0],
            "mean": self._now[0] / self._now[1],
            "score": best.score,
        }
        note = f"generation {last.generation + 1}, best fitness {best.fitness[0]:.3f}"
        done = len(self.collected)
        return Event("search", done, self._total, "evaluations", note, data, min(done, self._kept))


@dataclass(frozen=True)
class _Pending:
    """A candidate that the searcher asked for and was not told of yet."""

    vector: np.ndarray
    candidate: Candidate

    @cached_property
    def solution(self) -> dict[str, Any]:
        return self.candidate.to_dict()

    @cached_property
    def key(self) -> str:
        return candidate_key(self.solution)
