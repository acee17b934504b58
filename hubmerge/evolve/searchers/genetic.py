"""Genetic algorithms: a population that breeds, and of which the best survive; for one objective and for several."""

import numpy as np
import torch
from evotorch import SolutionBatch
from evotorch.algorithms import GeneticAlgorithm

from ..pareto import best_first
from ..records.evaluation import WORST
from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .batch import pad
from .operators import beginners, crossover, mutate, step_size, tournament
from .problem import MergeProblem


class Genetic(GeneticAlgorithm):
    """evotorch's genetic algorithm with variation and survival of our own.

    The population is kept best first: by fitness, or by Pareto front and then by room where there are several
    objectives (NSGA-II, Deb et al. 2002, https://doi.org/10.1109/4235.996017), so the better of two parents is the
    one that stands further up. Parents and children compete; a child wins a tie, which lets the population drift over
    the plateaus of a score that counts examples; copies and failed candidates do not survive. The first generation is
    the start alone, each later one has `width` children.
    """

    _population: SolutionBatch
    _first_iter: bool

    def __init__(self, spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> None:
        super().__init__(problem, operators=[self._breed], popsize=width, re_evaluate=False)
        self._generator = np.random.default_rng(spec.seed)
        self._sigma = step_size(spec, genome)
        self._binary = genome.binary
        first = beginners(genome, self._sigma, width, self._generator)
        self._population.set_values(torch.from_numpy(pad(first, problem.solution_length)))

    def _step(self) -> None:
        if self._first_iter:
            self._first_iter = False
            self.problem.evaluate(self._population)
            pool = self._population
        else:
            parents, children = self._make_extended_population(split=True)
            pool = SolutionBatch.cat([children, parents])
        self._population = pool.take(self._survivors(pool))

    def _survivors(self, pool: SolutionBatch) -> list[int]:
        fitness = pool.evals.numpy()
        order = best_first(fitness)
        values = pool.values.numpy()[:, : self.problem.size]
        meanings = np.where(self._binary, values > 0, values)
        unique = {meanings[row].tobytes(): int(row) for row in order[::-1]}
        alive = [int(row) for row in order if fitness[row, 0] > WORST and unique[meanings[row].tobytes()] == row]
        return (alive or order.tolist())[: self._popsize]

    def _breed(self, values: torch.Tensor) -> torch.Tensor:
        population = values.numpy()[:, : self.problem.size]
        mothers, fathers = tournament(len(population), self._popsize, self._generator)
        children = crossover(population[mothers], population[fathers], self._binary, self._generator)
        children = mutate(children, self._binary, self._sigma, self._generator)
        return torch.from_numpy(pad(children, self.problem.solution_length))
