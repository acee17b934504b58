"""The search itself: stage by stage, a searcher proposes and the recorder answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import SearchError
from ..progress import Progress, silent
from . import searchers
from .examples.search_examples import SearchExamples
from .pareto import fronts
from .recorder import Recorder
from .records.evaluation import Evaluation
from .records.journal import Journal
from .searchers.problem import MergeProblem
from .spaces.candidate import Candidate
from .spaces.genome import Genome
from .spec.fitness import Fitness
from .spec.searcher import Searcher
from .workers.pool import Pool

MakeGenome = Callable[[Candidate | None], Genome]
"""Makes a stage's genome from the candidate that the stage before ended with (None in the first stage)."""

_NARROWER = 0.5
"""How much smaller each stage's first step is than that of the stage before: it starts near a good point."""


@dataclass(frozen=True)
class Exploration:
    """What a search found: its evaluations by number, the genome of each stage, and the middle of the last
    distribution where there is one."""

    evaluations: tuple[Evaluation, ...]
    genomes: tuple[Genome, ...]
    centre: np.ndarray | None
    popsize: int

    @property
    def failed(self) -> int:
        """How many candidates could not be evaluated."""
        return sum(evaluation.error is not None for evaluation in self.evaluations)

    def candidate(self, evaluation: Evaluation) -> Candidate:
        """What an evaluation was of: a recipe or a path."""
        return self.genomes[evaluation.stage].decode(np.array(evaluation.genome))

    @property
    def distinct(self) -> tuple[Evaluation, ...]:
        """The evaluations that worked, one a candidate, the best first."""
        found: dict[str, Evaluation] = {}
        for evaluation in sorted(self.evaluations, key=lambda e: -e.fitness[0]):  # stable: the earlier one wins a tie
            if evaluation.error is None:
                found.setdefault(evaluation.candidate_key, evaluation)
        return tuple(found.values())

    @property
    def front(self) -> tuple[Evaluation, ...]:
        """The distinct candidates that no other beats in every objective, the best in the first objective first."""
        distinct = self.distinct
        if not distinct:
            return ()
        return tuple(distinct[row] for row in fronts(np.array([e.fitness for e in distinct]))[0])


def explore(
    spec: Searcher,
    fitness: Fitness,
    stages: Sequence[MakeGenome],
    journal: Journal,
    pool: Pool,
    *,
    progress: Progress = silent,
    longest: int = 0,
    examples: SearchExamples = SearchExamples(),  # noqa: B008 - a frozen value
) -> Exploration:
    """Runs a search through its stages, going on after what `journal` already holds.

    The budget, in evaluations and in minutes, is shared equally; a later stage starts where the one before ended, with
    smaller steps. A searcher starts from its seed each time and is told the journaled evaluation of candidates it asks
    for again, so a resumed run walks the same path. `examples`: what candidates are asked; `longest`: of how many
    tokens an answer may be. `progress` gets one event an evaluation; its data are the generation, the best fitness and
    plain score so far, and the mean fitness of the generation. Raises `SearchError` where no candidate of the first
    generation can be evaluated, or where the journal
    does not fit the searcher.
    """
    specs = [share(spec, stage, len(stages)) for stage in range(len(stages))]
    recorder = Recorder(journal, pool, fitness, seed=spec.seed, progress=progress, longest=longest, examples=examples)
    genomes: list[Genome] = []
    centre, best = None, None
    for stage, (own, make_genome) in enumerate(zip(specs, stages, strict=True)):
        genome = make_genome(best)
        genomes.append(genome)
        if stage:
            sigma = genome.sigma if spec.sigma is None else spec.sigma
            own = replace(own, sigma=sigma * _NARROWER**stage)
        before = len(recorder.collected)
        later = sum(other.evaluations for other in specs[stage + 1 :])
        centre = _walk(own, genome, recorder, stage=stage, later=later, objectives=len(fitness.objectives))
        best = genome.decode(centre) if centre is not None else _best(recorder.collected[before:], genome)
    done = sorted(recorder.collected, key=lambda evaluation: evaluation.number)
    if len(journal) != len(done):
        raise SearchError(
            f"{journal.path} holds {len(journal)} evaluations where the search makes {len(done)}; start a new run."
        )
    return Exploration(tuple(done), tuple(genomes), centre, searchers.popsize(specs[0], genomes[0].size))


def _walk(
    spec: Searcher, genome: Genome, recorder: Recorder, *, stage: int, later: int, objectives: int
) -> np.ndarray | None:
    """One stage, with about `later` evaluations to come after it; the middle of the distribution where there is one."""
    steps, total = searchers.planned(spec, genome)
    recorder.enter(genome, stage, popsize=searchers.popsize(spec, genome.size), to_come=total + later)
    problem = MergeProblem(genome.size, recorder, objectives=objectives, seed=spec.seed)
    searcher = searchers.make_searcher(spec, genome, problem)
    for _ in range(steps):
        searcher.step()
        # By the journal's seconds, so that a resumed run ends where this one does.
        if spec.minutes is not None and recorder.seconds(stage) >= 60 * spec.minutes:
            recorder.collect_rest()
            break
    return searchers.centre(searcher, genome)


def share(spec: Searcher, stage: int, stages: int) -> Searcher:
    """The searcher of one of several stages: an equal part of the budget, and a seed of its own."""
    each, rest = divmod(spec.evaluations, stages)
    share = each + (rest if stage == stages - 1 else 0)
    if share < 4:
        raise SearchError(
            f"{spec.evaluations} evaluations are too few for {stages} stages; give at least {4 * stages}."
        )
    minutes = spec.minutes / stages if spec.minutes else None
    return replace(spec, evaluations=share, seed=spec.seed + stage, minutes=minutes)


def _best(evaluations: Sequence[Evaluation], genome: Genome) -> Candidate:
    return genome.decode(np.array(max(evaluations, key=lambda evaluation: evaluation.fitness[0]).genome))
