"""Searches without models: genomes, evaluators and problems whose answer is known."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hubmerge.evolve import searchers
from hubmerge.evolve.records.evaluation import WORST, Evaluation
from hubmerge.evolve.searchers.problem import MergeProblem
from hubmerge.evolve.spec.searcher import Searcher

Judge = Callable[[np.ndarray], Evaluation]


@dataclass
class FakeGenome:
    """`size` genes of which those in `binary` count by their sign; the others are positions as in parameter space."""

    binary: np.ndarray
    sigma: float = 1 / 6
    space: str = "ps"
    learnt: tuple[np.ndarray, ...] = ()
    finals: tuple[np.ndarray, ...] = ()

    @property
    def size(self) -> int:
        return len(self.binary)

    @property
    def start(self) -> np.ndarray:
        return np.where(self.binary, 0.0, 0.5)

    def seeds(self) -> list[np.ndarray]:
        return [self.start]

    def decode(self, vector: np.ndarray) -> np.ndarray:
        return vector

    def random(self, generator: np.random.Generator) -> np.ndarray:
        share = generator.uniform(0.005, 0.995, self.size)
        return np.where(self.binary, np.where(share < 0.5, -1.0, 1.0), 0.5 + 0.5 * np.arctanh(2 * share - 1))

    def grid(self, evaluations: int) -> list[np.ndarray]:
        return [self.start + step for step in np.linspace(-1, 1, evaluations)]


def numbers(size: int) -> FakeGenome:
    return FakeGenome(np.zeros(size, dtype=bool))


def signs(size: int) -> FakeGenome:
    return FakeGenome(np.ones(size, dtype=bool), sigma=1.0, space="dfs")


def mixed(size: int) -> FakeGenome:
    return FakeGenome(np.arange(size) % 2 == 0, sigma=0.5, space="dfs")


def shares(vector: np.ndarray) -> np.ndarray:
    """The value in 0..1 of each position, as the genome of parameter space has it."""
    return 0.5 + 0.5 * np.tanh(2 * (vector - 0.5))


@dataclass
class FakeEvaluator:
    """Judges at once, and remembers what it was asked and what it said."""

    judge: Judge
    vectors: list[np.ndarray] = field(default_factory=list)
    told: list[Evaluation] = field(default_factory=list)

    def submit(self, vector: np.ndarray) -> int:
        self.vectors.append(vector)
        self.told.append(self.judge(vector))
        return len(self.vectors) - 1

    def collect(self, number: int) -> Evaluation:
        return self.told[number]

    @property
    def scores(self) -> np.ndarray:
        return np.array([sum(one.values) / len(one.values) if one.values else WORST for one in self.told])


def told(fitness: tuple[float, ...], values: tuple[float, ...] = ()) -> Evaluation:
    """An evaluation with all that a searcher looks at."""
    share, error = max(0.0, fitness[0]), "failed" if fitness[0] == WORST else None
    known = {"number": 0, "stage": 0, "generation": 0, "genome": (), "candidate_key": "", "seconds": 0.0, "tokens": 0}
    return Evaluation(
        **known,
        fitness=fitness,
        score=share,
        metric=share,
        language=1.0,
        n=len(values),
        values=values,
        seed=0,
        error=error,
    )


def worth(values: np.ndarray, objectives: int = 1) -> Evaluation:
    """What a candidate with these scores is worth: their mean, or the mean of every second, third ... of them."""
    parts = (values[part::objectives] for part in range(objectives))
    fitness = tuple(float(part.sum()) / len(part) for part in parts)
    return told(fitness, tuple(values.tolist()))


def sphere(target: np.ndarray, objectives: int = 1) -> Judge:
    """Each gene is an example, solved best, with 1, by its own value in 0..1."""
    return lambda vector: worth(np.exp(-8 * (shares(vector) - target) ** 2), objectives)


def planted_path(target: np.ndarray, objectives: int = 1) -> Judge:
    """An example a slot, and one for each two neighbours that are right together: 1 for a single path."""

    def judge(vector: np.ndarray) -> Evaluation:
        right = ((vector > 0) == target).astype(float)
        return worth(np.concatenate([right, right[:-1] * right[1:]]), objectives)

    return judge


def make(spec: Searcher, genome: FakeGenome, evaluator: FakeEvaluator, objectives: int):
    problem = MergeProblem(genome.size, evaluator, objectives=objectives, seed=spec.seed)
    return searchers.make_searcher(spec, genome, problem)


def run(spec: Searcher, genome: FakeGenome, judge: Judge, objectives: int = 1) -> FakeEvaluator:
    """The whole search."""
    evaluator = FakeEvaluator(judge)
    searcher = make(spec, genome, evaluator, objectives)
    for _ in range(searchers.planned(spec, genome)[0]):
        searcher.step()
    return evaluator
