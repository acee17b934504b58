"""Searchers: what proposes candidates. Each is an evotorch SearchAlgorithm whose `step()` makes one generation."""

import math
import warnings
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from evotorch import SolutionBatch
from evotorch.algorithms import CMAES
from evotorch.algorithms.searchalgorithm import SearchAlgorithm

from .genome import Genome, unsquash
from .problem import MergeProblem
from .search import Searcher


def popsize(spec: Searcher, size: int) -> int:
    """Candidates a generation: as given, or the rule of CMA-ES for `size` genes (Hansen 2016, arXiv 1604.00772)."""
    return spec.popsize or min(4 + math.floor(3 * math.log(max(size, 1))), spec.evaluations)


def planned(spec: Searcher, genome: Genome) -> tuple[int, int]:
    """How many generations and evaluations the search will make."""
    width = popsize(spec, genome.size)
    if spec.name == "grid":
        points = len(_grid(genome, spec.evaluations))
        return math.ceil(points / width), points
    generations = max(1, spec.evaluations // width)
    return generations, generations * width


def make_searcher(spec: Searcher, genome: Genome, problem: MergeProblem) -> SearchAlgorithm:
    """The searcher that `spec` names, at the genome's start."""
    width = popsize(spec, genome.size)
    if spec.name == "cmaes":
        start = np.resize(genome.start, problem.solution_length).tolist()
        with warnings.catch_warnings():
            # evotorch's constructor uses torch and numpy in ways that both warn about.
            warnings.simplefilter("ignore")
            return CMAES(problem, stdev_init=spec.sigma, popsize=width, center_init=start, separable=spec.separable)
    if spec.name == "random":
        return Proposals(problem, _random(genome, spec.seed), width)
    return Proposals(problem, iter(_grid(genome, spec.evaluations)), width)


def centre(searcher: SearchAlgorithm, genome: Genome) -> np.ndarray | None:
    """The middle of the searcher's distribution, which samples' noise does not flatter; None where it has none."""
    if not isinstance(searcher, CMAES):
        return None
    return searcher.status["center"].detach().cpu().numpy()[: genome.size].copy()


class Proposals(SearchAlgorithm):
    """Evaluates a fixed sequence of vectors, `width` at a time, whatever their fitness: the baselines of a search."""

    def __init__(self, problem: MergeProblem, vectors: Iterator[np.ndarray], width: int) -> None:
        SearchAlgorithm.__init__(self, problem)
        self._vectors = vectors
        self._width = width

    def _step(self) -> None:
        rows = [vector for _, vector in zip(range(self._width), self._vectors, strict=False)]
        padded = np.zeros((len(rows), self.problem.solution_length))
        padded[:, : len(rows[0])] = rows
        batch = SolutionBatch(self.problem, len(rows), empty=True)
        batch.set_values(torch.tensor(padded, dtype=torch.float64))
        self.problem.evaluate(batch)


def _random(genome: Genome, seed: int) -> Iterator[np.ndarray]:
    """Values drawn uniformly from every gene's range."""
    generator = np.random.default_rng(seed)
    low = np.array([slot.gene.low for slot in genome.slots])
    high = np.array([slot.gene.high for slot in genome.slots])
    while True:
        yield genome.encode(generator.uniform(low, high))


def _grid(genome: Genome, evaluations: int) -> list[np.ndarray]:
    """A square grid over two scalars: the first gene of the first model, and that of all others, in every layer.

    This is what a patient person would try by hand. Other genes stay at their start; a gene that all models share
    makes a line instead of a square.
    """
    first = genome.slots[0].gene
    axes = [[i for i, slot in enumerate(genome.slots) if slot.gene == first and not slot.model]]
    axes.append([i for i, slot in enumerate(genome.slots) if slot.gene == first and slot.model])
    axes = [axis for axis in axes if axis]
    side = max(2, math.floor(evaluations ** (1 / len(axes)) + 1e-9))
    steps = [unsquash(float(value), first.low, first.high) for value in np.linspace(first.low, first.high, side)]
    points = []
    for chosen in product(steps, repeat=len(axes)):
        vector = genome.start
        for axis, value in zip(axes, chosen, strict=True):
            vector[axis] = value
        points.append(vector)
    return points
