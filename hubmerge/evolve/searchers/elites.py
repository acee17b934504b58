"""Quality diversity: the best candidate of every kind of behaviour is kept, and all of them breed.

MAP-Elites (Mouret and Clune 2015, https://arxiv.org/abs/1504.04909) and CycleQD (Kuroki et al. 2024,
https://arxiv.org/abs/2410.14735).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .batch import evaluate
from .operators import beginners, crossover, mutate, step_size, tournament
from .problem import MergeProblem

_LOW, _HIGH = 0.5, 0.8

Describe = Callable[[np.ndarray, Sequence[float]], Sequence[float]]
"""The behaviour, shares 0..1, of a vector with its fitness."""


@dataclass(frozen=True)
class Elite:
    """The best candidate of a cell."""

    vector: np.ndarray
    quality: float
    behaviour: tuple[float, ...]


class Archive:
    """The elites by cell, in the order in which their cells were found; `quality` numbers their objective."""

    def __init__(self, quality: int, describe: Describe) -> None:
        self.quality = quality
        self.describe = describe
        self.elites: dict[tuple[int, ...], Elite] = {}

    def add(self, vector: np.ndarray, fitness: Sequence[float]) -> None:
        """Keeps a candidate where its cell is empty or its elite no better (so that equals take turns)."""
        behaviour = tuple(float(share) for share in self.describe(vector, fitness))
        cell = cell_of(behaviour)
        known = self.elites.get(cell)
        if known is None or fitness[self.quality] >= known.quality:
            self.elites[cell] = Elite(vector, fitness[self.quality], behaviour)


Mate = Callable[[list[Elite], int, np.random.Generator], np.ndarray]
"""So many children of the elites of an archive, before they are mutated."""


class Elites(SearchAlgorithm):
    """Breeds `width` candidates a generation from one of the `archives`, in turn, and offers each to all of them.

    The first generation is drawn around the genome's start, as are others until an archive has an elite to breed from.
    Failed candidates enter none.
    """

    def __init__(
        self,
        spec: Searcher,
        genome: Genome,
        problem: MergeProblem,
        width: int,
        archives: Sequence[Archive],
        mate: Mate,
    ) -> None:
        SearchAlgorithm.__init__(self, problem)
        self.archives = tuple(archives)
        self._mate = mate
        self._genome = genome
        self._sigma = step_size(spec, genome)
        self._width = width
        self._generator = np.random.default_rng(spec.seed)

    def _step(self) -> None:
        rows = self._propose(list(self.archives[self.step_count % len(self.archives)].elites.values()))
        for row, told in zip(rows, evaluate(self.problem, rows), strict=True):
            if not told.failed:
                for archive in self.archives:
                    archive.add(row, told.fitness)

    def _propose(self, elites: list[Elite]) -> np.ndarray:
        if not elites:
            return beginners(self._genome, self._sigma, self._width, self._generator)
        children = self._mate(elites, self._width, self._generator)
        return mutate(children, self._genome.binary, self._sigma, self._generator)


def map_elites(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> Elites:
    """One archive for the first objective; the others are the behaviour, or `descriptors` where there is but one.

    Each parent is the better of two elites drawn evenly. (The paper breeds them evenly; where every evaluation is a
    model that answers an exam, there are too few of them for that.)
    """

    def describe(vector: np.ndarray, fitness: Sequence[float]) -> Sequence[float]:
        return fitness[1:] or descriptors(vector, genome)

    def mate(elites: list[Elite], count: int, generator: np.random.Generator) -> np.ndarray:
        vectors = np.array([elite.vector for elite in sorted(elites, key=lambda elite: -elite.quality)])
        mothers, fathers = tournament(len(vectors), count, generator)
        return crossover(vectors[mothers], vectors[fathers], genome.binary, generator)

    return Elites(spec, genome, problem, width, [Archive(0, describe)], mate)


def cycleqd(spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> Elites:
    """An archive for each objective, whose behaviour is the other objectives; the generations take them in turn.

    Parents are drawn with the paper's odds, which favour elites that are good in everything. The paper merges their
    task vectors by nearly equal weights; here their genes are mixed, which is the same for methods that are linear in
    them, by a ratio drawn evenly from 0 to 1 (halves alone would draw the genes together); binary genes come from
    either parent. The paper then mutates weights along their singular vectors; genes have none and are mutated as in
    the other searchers.
    """

    def archive(quality: int) -> Archive:
        return Archive(quality, lambda vector, fitness: [*fitness[:quality], *fitness[quality + 1 :]])

    def mate(elites: list[Elite], count: int, generator: np.random.Generator) -> np.ndarray:
        vectors, odds = np.array([elite.vector for elite in elites]), elite_odds(elites)
        both = min(2, len(elites))
        pairs = np.array([generator.choice(len(elites), size=both, replace=False, p=odds) for _ in range(count)])
        mothers, fathers = vectors[pairs[:, 0]], vectors[pairs[:, -1]]
        ratio = generator.random((count, 1))
        picked = np.where(generator.random(mothers.shape) < 0.5, mothers, fathers)
        return np.where(genome.binary, picked, ratio * mothers + (1 - ratio) * fathers)

    return Elites(spec, genome, problem, width, [archive(quality) for quality in range(len(problem.senses))], mate)


def cell_of(behaviour: Sequence[float]) -> tuple[int, ...]:
    """The cell of a behaviour in 0..1: 10 along a single dimension, 5 along each of several. Cells never move; what
    lies outside counts to the nearest."""
    side = 10 if len(behaviour) == 1 else 5
    return tuple(min(max(int(share * side), 0), side - 1) for share in behaviour)


def elite_odds(elites: Sequence[Elite]) -> np.ndarray:
    """The odds of each elite to become a parent, shape (n,): the product of its quality and behaviours, each brought
    to .5...8 over the archive (the elite sampling of CycleQD)."""
    table = np.array([(elite.quality, *elite.behaviour) for elite in elites])
    span = np.ptp(table, axis=0)
    share = np.divide(table - table.min(axis=0), span, out=np.ones_like(table), where=span > 0)
    odds = np.prod(_LOW + (_HIGH - _LOW) * share, axis=1)
    return odds / odds.sum()


def descriptors(vector: np.ndarray, genome: Genome) -> tuple[float, float]:
    """Two shares 0..1 that tell vectors apart where there is one objective only.

    The level of a binary gene is 0 or 1, that of another lies between, .5 at the genome's start. The shares are the
    mean levels of the binary genes (such as: how many slots are used) and of the others, or of the first and the
    second half of the genes where all are of one kind.
    """
    distance = (vector - genome.start) / genome.sigma
    levels = np.where(genome.binary, vector > 0, 0.5 + 0.5 * np.tanh(distance / 4))
    first = genome.binary if 0 < genome.binary.sum() < len(vector) else np.arange(len(vector)) < (len(vector) + 1) // 2
    rest = levels[~first]
    return float(levels[first].mean()), float(rest.mean()) if len(rest) else 0.0
