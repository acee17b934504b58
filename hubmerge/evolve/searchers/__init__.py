"""Who proposes candidates; `SEARCHERS` names them all.

Each is an evotorch SearchAlgorithm, a function of its spec, its genome and the evaluations it is told: asked again
with the same ones, it makes the same candidates.

problem.py    the search as an evotorch Problem: candidates go out to be measured, fitness comes back
batch.py      rows of numbers in and out of evotorch's batches
operators.py  what a population begins with; crossover, mutation, tournaments
gaussian.py   distributions that move: cmaes, snes, xnes
genetic.py    populations that breed: ga, nsga2
elites.py     archives of the best of each kind: map_elites, cycleqd
steady.py     searchers without generations, told of each candidate as it comes
niches.py     candidates that compete for examples: m2n2
edits.py      the best few, changed a little: edits
proposals.py  candidates that follow nothing: random, grid
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from ...errors import SearchError
from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from . import edits, elites, gaussian, genetic, niches, proposals
from .problem import MergeProblem

POPULATION = 20
"""Members of a population that breeds, where neither the spec nor the rule of CMA-ES says more."""


@dataclass(frozen=True)
class Kind:
    """A searcher: `make(spec, genome, problem, popsize)`; how many objectives it takes, `most` None for any number;
    its smallest population by default; and whether `step()` makes a single evaluation instead of a generation."""

    make: Callable[[Searcher, Genome, MergeProblem, int], SearchAlgorithm]
    least: int = 1
    most: int | None = 1
    population: int = 4
    steady: bool = False


SEARCHERS = {
    "cmaes": Kind(gaussian.cmaes),
    "snes": Kind(gaussian.snes),
    "xnes": Kind(gaussian.xnes),
    "ga": Kind(genetic.Genetic, population=POPULATION),
    "nsga2": Kind(genetic.Genetic, least=2, most=None, population=POPULATION),
    "map_elites": Kind(elites.map_elites, most=None, population=POPULATION),
    "cycleqd": Kind(elites.cycleqd, least=2, most=None, population=POPULATION),
    "m2n2": Kind(niches.NaturalNiches, population=POPULATION, steady=True),
    "edits": Kind(edits.Edits, most=None, steady=True),
    "random": Kind(proposals.random, most=None),
    "grid": Kind(proposals.grid, most=None),
}


def popsize(spec: Searcher, size: int) -> int:
    """Candidates a generation, or members of the archive: as given, else the rule of CMA-ES for `size` genes (Hansen
    2016, arXiv 1604.00772), at least `POPULATION` where they breed, and never more than all evaluations."""
    rule = 4 + math.floor(3 * math.log(max(size, 1)))
    return spec.popsize or min(max(rule, SEARCHERS[spec.name].population), spec.evaluations)


def planned(spec: Searcher, genome: Genome) -> tuple[int, int]:
    """How many steps and evaluations the search will make."""
    width = popsize(spec, genome.size)
    if SEARCHERS[spec.name].steady:
        return spec.evaluations, spec.evaluations
    if spec.name == "grid":
        points = len(genome.grid(spec.evaluations))
        return math.ceil(points / width), points
    generations = max(1, spec.evaluations // width)
    return generations, generations * width


def make_searcher(spec: Searcher, genome: Genome, problem: MergeProblem) -> SearchAlgorithm:
    """The searcher that `spec` names, at the genome's start. Raises `SearchError` where it does not fit the problem's
    objectives or the genome's size."""
    kind = SEARCHERS[spec.name]
    objectives = len(problem.senses)
    if objectives < kind.least or (kind.most is not None and objectives > kind.most):
        wanted = "one objective" if kind.most == 1 else f"{kind.least} objectives or more"
        fitting = [name for name, k in SEARCHERS.items() if k.least <= objectives <= (k.most or objectives)]
        raise SearchError(f"{spec.name} takes {wanted}, got {objectives}; for these use {', '.join(fitting)}.")
    return kind.make(spec, genome, problem, popsize(spec, genome.size))


def centre(searcher: SearchAlgorithm, genome: Genome) -> np.ndarray | None:
    """The middle of the searcher's distribution, which samples' noise does not flatter; None where it has none."""
    if not searcher.has_status_key("center"):
        return None
    return searcher.status["center"].detach().cpu().numpy()[: genome.size].copy()
