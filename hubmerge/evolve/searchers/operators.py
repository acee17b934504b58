"""Variation of mixed vectors: genes that count by their sign (binary) are swapped and flipped, the others are mixed
and shifted. Pure functions of rows of shape (n, size) and a generator."""

import numpy as np

from ..spaces.genome import Genome
from ..spec.searcher import Searcher

ETA = 10.0
"""How close to its parents simulated binary crossover puts a child: higher is closer."""


def step_size(spec: Searcher, genome: Genome) -> float:
    """The first step: the spec's, or what the genome finds good."""
    return genome.sigma if spec.sigma is None else spec.sigma


def seeds(genome: Genome) -> list[np.ndarray]:
    """What a population begins with: the genome's own `seeds()`, or its start."""
    own = getattr(genome, "seeds", None)
    return own() if own else [genome.start]


def scatter(genome: Genome, sigma: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` vectors spread around the genome's start, by a step of `sigma` a gene."""
    return genome.start + sigma * generator.standard_normal((count, genome.size))


def beginners(genome: Genome, sigma: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """A first generation of `count` rows: what an earlier run found, in half of them at most, the genome's seeds, as
    many as fit, and vectors around its start."""
    first = [*genome.learnt[: count // 2], *seeds(genome)][:count]
    return np.vstack([*first, scatter(genome, sigma, count - len(first), generator)])


def tournament(members: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Parents for `count` children, as row numbers of shape (2, count): each the better of two drawn evenly from a
    population whose rows stand best first."""
    drawn: np.ndarray = generator.integers(members, size=(2, 2, count))
    return drawn.min(axis=1)


def crossover(
    mothers: np.ndarray, fathers: np.ndarray, binary: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """One child a pair of rows.

    A binary gene comes from either parent. Another takes one of the two values of simulated binary crossover, which
    lie about the parents' as far apart as theirs, closer with a higher `ETA` (Deb and Agrawal 1995,
    https://www.complex-systems.com/abstracts/v09_i02_a02/).
    """
    u = generator.random(mothers.shape)
    beta = np.where(u <= 0.5, 2 * u, 1 / (2 - 2 * u)) ** (1 / (ETA + 1))
    from_mother = generator.random(mothers.shape) < 0.5
    spread = np.where(from_mother, beta, -beta)
    mixed = 0.5 * ((1 + spread) * mothers + (1 - spread) * fathers)
    return np.where(binary, np.where(from_mother, mothers, fathers), mixed)


def mutate(rows: np.ndarray, binary: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Changes about one binary gene and one other a row, and one of the two at least.

    Each kind has a rate of its own, because a path has many more scales than slots. A binary gene turns its sign (0
    counts as off and becomes `sigma`); another moves by a normal step whose own size is drawn between 0 and 2 `sigma`,
    so that a population that has come close can come closer.
    """
    count, size = rows.shape
    slots = int(np.count_nonzero(binary))
    rate = np.where(binary, 1 / max(slots, 1), 1 / max(size - slots, 1))
    hit = generator.random(rows.shape) < rate
    sure = generator.choice(size, size=(count, 1), p=rate / rate.sum())
    hit |= ~hit.any(axis=1, keepdims=True) & (np.arange(size) == sure)
    flipped = np.where(rows == 0, sigma, -rows)
    moved = rows + sigma * 2 * generator.random(rows.shape) * generator.standard_normal(rows.shape)
    return np.where(hit, np.where(binary, flipped, moved), rows)
