"""Scores of one model on a set of examples, and the statistics that compare two."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

from ..progress import Progress, silent
from .generation import generate
from .language import THRESHOLD, probability
from .metrics import METRICS
from .task import Example, Task

_Z95 = 1.959963984540054  # the normal distribution's 97.5% point


@dataclass(frozen=True)
class Scores:
    """What one model did on each example, in their order.

    `number`: right by the task's metric. `language`: P(task's language) of the output, 1.0 where the task asks for
    none. `correct`: both. `seconds` is the time that generation and scoring took.
    """

    correct: tuple[bool, ...]
    number: tuple[bool, ...]
    language: tuple[float, ...]
    outputs: tuple[str, ...]
    seconds: float

    @property
    def n(self) -> int:
        """How many examples were scored."""
        return len(self.correct)

    @property
    def score(self) -> float:
        """The share that is correct, 0..1."""
        return sum(self.correct) / self.n

    @property
    def number_share(self) -> float:
        """The share that is right by the metric, whatever its language, 0..1."""
        return sum(self.number) / self.n

    @property
    def language_share(self) -> float:
        """The share answered in the task's language, 0..1."""
        return sum(p > THRESHOLD for p in self.language) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `score`."""
        return interval(sum(self.correct), self.n)


def evaluate(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    task: Task,
    *,
    batch_size: int = 64,
    progress: Progress = silent,
) -> Scores:
    """Asks `model` every example of `task` greedily and scores the answers. `examples` must not be empty."""
    assert examples
    started = time.perf_counter()
    outputs = generate(
        model,
        tokenizer,
        [example.prompt for example in examples],
        max_new_tokens=task.max_new_tokens,
        batch_size=batch_size,
        system=task.system,
        progress=progress,
    )
    return grade(outputs, examples, task, seconds=time.perf_counter() - started)


def grade(outputs: Sequence[str], examples: Sequence[Example], task: Task, *, seconds: float = 0.0) -> Scores:
    """Scores given outputs, one per example."""
    metric = METRICS[task.metric]
    number = tuple(metric(output, example.answer) for output, example in zip(outputs, examples, strict=True))
    language = tuple(probability(output, task.language) if task.language else 1.0 for output in outputs)
    correct = tuple(right and p > THRESHOLD for right, p in zip(number, language, strict=True))
    return Scores(correct, number, language, tuple(outputs), seconds)


def interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share (Wilson 1927; good also at 0 and n, where the normal one has no width).

    >>> tuple(round(bound, 3) for bound in interval(0, 10))
    (0.0, 0.278)
    """
    share, z2 = successes / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def paired_p(a: Sequence[bool], b: Sequence[bool]) -> float:
    """The two-sided p-value of the exact McNemar test: are `a` and `b`, two models on the same examples, equally good?

    Only the examples that exactly one of them got right count (McNemar 1947).
    """
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def paired_interval(
    a: Sequence[bool], b: Sequence[bool], *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """The 95% bootstrap interval of score(a) - score(b) on the same examples, resampled in pairs."""
    differences = [int(x) - int(y) for x, y in zip(a, b, strict=True)]
    n, draw = len(differences), random.Random(seed)
    means = sorted(sum(draw.choices(differences, k=n)) / n for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples) - 1]
