"""The search itself: candidates proposed, measured once each, journaled, and reported as they come."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import Interrupted, SearchError
from ..progress import Event, Progress, silent
from ..recipe import Recipe
from . import searchers
from .genome import Genome
from .journal import Evaluation, Journal
from .problem import MergeProblem
from .search import Shaping

WORST = -1.0
"""Fitness of a candidate that could not be evaluated; any that could has 0 or more."""

# Replayed candidates may differ from the journal's in the last bits where a linear algebra library was updated.
_REPLAY_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Measurement:
    """How good a candidate is on `n` examples: shares 0..1 that are correct, have the right number, are in the
    right language."""

    score: float
    number: float
    language: float
    n: int


Measure = Callable[[Recipe], Measurement]
"""Measures one recipe; what it raises costs that candidate alone (except `Interrupted`)."""


@dataclass(frozen=True)
class Exploration:
    """What a search found: its evaluations in order, and the middle of the final distribution where there is one."""

    evaluations: tuple[Evaluation, ...]
    centre: np.ndarray | None
    popsize: int

    @property
    def failed(self) -> int:
        """How many candidates could not be evaluated."""
        return sum(evaluation.error is not None for evaluation in self.evaluations)


def explore(genome: Genome, journal: Journal, measure: Measure, *, progress: Progress = silent) -> Exploration:
    """Runs the search of `genome`, going on after what `journal` already holds.

    The searcher starts from its seed each time and is told the journaled fitness of candidates it asks for again, so
    a resumed run walks the same path. `progress` gets one event an evaluation; its data are the generation, the
    best fitness and plain score so far, and the mean fitness of the generation. Raises `SearchError` where no
    candidate of the first generation can be evaluated, or where the journal does not fit the searcher.
    """
    spec = genome.search.searcher
    generations, total = searchers.planned(spec, genome)
    recorder = _Recorder(genome, journal, measure, total, progress)
    problem = MergeProblem(genome.size, recorder.evaluate, seed=spec.seed)
    searcher = searchers.make_searcher(spec, genome, problem)
    for _ in range(generations):
        searcher.step()
    done = tuple(journal.evaluations)
    if len(done) != total:
        raise SearchError(f"{journal.path} holds {len(done)} evaluations where the search makes {total}; start anew.")
    return Exploration(done, searchers.centre(searcher, genome), searchers.popsize(spec, genome.size))


class _Recorder:
    """Evaluates generations: from the journal where it can, else by measuring, each recipe once."""

    def __init__(self, genome: Genome, journal: Journal, measure: Measure, total: int, progress: Progress) -> None:
        self._genome = genome
        self._journal = journal
        self._measure = measure
        self._total = total
        self._progress = progress
        self._generation = 0
        self._done = 0
        self._best: Evaluation | None = None
        self._known = {e.recipe: e for e in journal.evaluations}

    def evaluate(self, vectors: np.ndarray) -> list[float]:
        fitnesses: list[float] = []
        for index, vector in enumerate(vectors):
            evaluation = self._one(index, vector)
            fitnesses.append(evaluation.fitness)
            self._done += 1
            if self._best is None or evaluation.fitness > self._best.fitness:
                self._best = evaluation
            self._progress(self._event(fitnesses))
        if self._generation == 0 and max(fitnesses) == WORST:
            raise SearchError(f"No candidate of the first generation could be evaluated: {self._best_error()}")
        self._generation += 1
        return fitnesses

    def _one(self, index: int, vector: np.ndarray) -> Evaluation:
        if self._done < len(self._journal.evaluations):
            return self._replay(self._journal.evaluations[self._done], index, vector)
        recipe = self._genome.decode(vector)
        key = recipe_key(recipe)
        started = time.perf_counter()
        known = self._known.get(key)
        measured, error = (_measurement(known), known.error) if known else self._try(recipe)
        evaluation = Evaluation(
            generation=self._generation,
            index=index,
            genome=tuple(vector.tolist()),
            recipe=key,
            fitness=WORST if error else fitness(measured, self._genome.search.fitness),
            score=measured.score,
            number=measured.number,
            language=measured.language,
            n=measured.n,
            seconds=round(time.perf_counter() - started, 4),
            seed=self._genome.search.searcher.seed,
            error=error,
        )
        self._journal.append(evaluation)
        self._known[key] = evaluation
        return evaluation

    def _replay(self, known: Evaluation, index: int, vector: np.ndarray) -> Evaluation:
        same = (known.generation, known.index, len(known.genome)) == (self._generation, index, len(vector))
        if not same or not np.allclose(known.genome, vector, rtol=_REPLAY_TOLERANCE, atol=_REPLAY_TOLERANCE):
            raise SearchError(
                f"Evaluation {self._done + 1} of {self._journal.path} is not the one that this searcher asks for; "
                "other versions of evotorch or torch wrote it: use those, or start a new run."
            )
        return known

    def _try(self, recipe: Recipe) -> tuple[Measurement, str | None]:
        try:
            measured = self._measure(recipe)
        except Interrupted:
            raise
        except Exception as exc:  # whatever one candidate does, the others go on
            return Measurement(0.0, 0.0, 0.0, 0), f"{type(exc).__name__}: {exc}"
        if not all(map(math.isfinite, (measured.score, measured.number, measured.language))):
            return Measurement(0.0, 0.0, 0.0, measured.n), "The measurement is not a finite number."
        return measured, None

    def _best_error(self) -> str:
        return next((e.error for e in self._journal.evaluations if e.error), "no reason is known.")

    def _event(self, fitnesses: list[float]) -> Event:
        assert self._best is not None
        data = {
            "generation": self._generation,
            "best": self._best.fitness,
            "mean": sum(fitnesses) / len(fitnesses),
            "score": self._best.score,
        }
        note = f"generation {self._generation + 1}, best fitness {self._best.fitness:.3f}"
        return Event("search", self._done, self._total, "evaluations", note, data)


def fitness(measured: Measurement, shaping: Shaping) -> float:
    """What the searcher maximises: the score and the shaping terms."""
    return measured.score + shaping.number_bonus * measured.number + shaping.language_bonus * measured.language


def recipe_key(recipe: Recipe) -> str:
    """A sha256 of what a recipe says."""
    return hashlib.sha256(json.dumps(recipe.to_dict(), sort_keys=True).encode()).hexdigest()


def _measurement(evaluation: Evaluation) -> Measurement:
    return Measurement(evaluation.score, evaluation.number, evaluation.language, evaluation.n)
