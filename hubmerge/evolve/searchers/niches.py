"""M2N2: models of natural niches, a searcher without generations (Abrantes et al. 2025,
https://arxiv.org/abs/2508.16204)."""

from dataclasses import dataclass

import numpy as np

from ..records.evaluation import Evaluation
from ..spaces.genome import Genome
from ..spec.searcher import Searcher
from .operators import beginners, mutate, step_size
from .problem import MergeProblem
from .steady import Steady


@dataclass(frozen=True)
class Member:
    """A candidate in the archive: its vector, and its score on each example, shape (n,), 0 or more."""

    vector: np.ndarray
    values: np.ndarray


class NaturalNiches(Steady):
    """An archive of `width` members that compete for the examples; `step()` collects one evaluation.

    Every example is a resource of size 1 that the members share in proportion to their scores on it, so one that
    alone solves an example lives on it. A child replaces the member that gets least, unless that is the child.
    The first parent is drawn by what it gets; the second by how much it gets where the first gets less. They are mixed
    with one ratio before a split point and with its complement behind it. The paper mixes weights by SLERP; here genes
    are mixed, linearly, which equals mixing the weights for methods that are linear in their genes. The archive is
    filled first, with the genome's seeds and vectors around its start, and children are mutated, as in the paper's runs
    from scratch: mixing alone never leaves the box that those span.
    """

    def __init__(self, spec: Searcher, genome: Genome, problem: MergeProblem, width: int) -> None:
        super().__init__(spec, problem)
        self.archive: list[Member] = []
        self._genome = genome
        self._sigma = step_size(spec, genome)
        self._width = width
        self._first = beginners(genome, self._sigma, width, self._generator)

    def _next(self) -> np.ndarray:
        if self._asked < self._width:
            return self._first[self._asked]
        child = self._child() if self.archive else self._first[self._asked % self._width]
        return mutate(child[None], self._genome.binary, self._sigma, self._generator)[0]

    def _child(self) -> np.ndarray:
        generator = self._generator
        catch = shares(np.array([member.values for member in self.archive]))
        first = _draw(catch.sum(axis=1), generator)
        second = _draw(attraction(catch, first), generator)
        split, ratio = generator.integers(self._genome.size), generator.random()
        part = np.where(np.arange(self._genome.size) < split, ratio, 1 - ratio)
        a, b = self.archive[first].vector, self.archive[second].vector
        # Mixed, a binary gene would keep the sign of the larger number; the larger part is what should count.
        return np.where(self._genome.binary, np.where(part < 0.5, a, b), (1 - part) * a + part * b)

    def _admit(self, vector: np.ndarray, told: Evaluation) -> None:
        member = Member(vector, np.maximum(told.values, 0.0))
        meanings = self._meanings([member, *self.archive])
        if (meanings[1:] == meanings[0]).all(axis=1).any():
            return
        self.archive.append(member)
        if len(self.archive) > self._width:
            catch = shares(np.array([member.values for member in self.archive]))
            # Of equals the oldest goes, so that the archive drifts where scores stand still.
            del self.archive[int(np.argmin(catch.sum(axis=1)))]

    def _meanings(self, members: list[Member]) -> np.ndarray:
        vectors = np.array([member.vector for member in members])
        return np.where(self._genome.binary, vectors > 0, vectors)


def shares(values: np.ndarray) -> np.ndarray:
    """What each member gets of each example, shape (members, examples): its part of all members' scores on it."""
    total = values.sum(axis=0)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def attraction(catch: np.ndarray, first: int) -> np.ndarray:
    """How attractive each member is to the `first`, shape (members,): what it gets where the first gets less."""
    return np.maximum(catch - catch[first], 0).sum(axis=1)


def _draw(odds: np.ndarray, generator: np.random.Generator) -> int:
    total = odds.sum()
    return int(generator.choice(len(odds), p=odds / total if total > 0 else None))
