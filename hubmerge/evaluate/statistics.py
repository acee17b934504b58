"""How sure a score is, and whether two models differ: intervals and paired tests on the same problems.

Values are one per problem, 0..1. Two models are compared by their marks, which say what problem each value is of, so
that no two values meet that are of different ones. Where all are 0 or 1 the exact methods for shares are used, else
resampling; a seed fixes what is drawn, so the same values always give the same figures.
"""

from collections.abc import Mapping, Sequence
from math import comb, sqrt

import numpy as np

_Z95 = 1.959963984540054  # the normal distribution's 97.5% point
_EXACT_FLIPS = 14  # 2^14 sign patterns are counted out; beyond, patterns are drawn
_AT_ONCE = 4_000_000  # numbers drawn into memory at a time

Values = Sequence[float]

Marks = Mapping[str, float]
"""What a model got on each problem, by `splits.problem_id`."""


def interval(values: Values, *, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """The 95% interval of the mean of `values`: Wilson's where all are 0 or 1, else the bootstrap's."""
    if is_binary(values):
        return wilson(int(sum(values)), len(values))
    return bootstrap_interval(values, seed=seed, resamples=resamples)


def is_binary(values: Values) -> bool:
    """Whether every value is 0 or 1."""
    return all(value in (0, 1) for value in values)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share (Wilson 1927; good also at 0 and n, where the normal one has no width).

    >>> tuple(round(bound, 3) for bound in wilson(0, 10))
    (0.0, 0.278)
    """
    share, z2 = successes / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def bootstrap_interval(values: Values, *, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean (Efron 1979)."""
    low, high = np.quantile(_resampled_means(np.asarray(values, dtype=float), resamples, seed), (0.025, 0.975))
    return float(low), float(high)


def marks_of(problems: Sequence[str], values: Values) -> dict[str, float]:
    """The marks of a model that was asked these problems, in this order. Raises `ValueError` where they do not fit."""
    marks = dict(zip(problems, values, strict=True))
    if len(marks) < len(problems):
        raise ValueError(f"{len(problems)} problems have only {len(marks)} names, so their values cannot be joined.")
    return marks


def mean_marks(runs: Sequence[Marks]) -> dict[str, float]:
    """The mean of several runs on each problem, as where a search is repeated with other seeds."""
    return {problem: float(np.mean([run[problem] for run in _same_problems(*runs)])) for problem in runs[0]}


def paired_interval(a: Marks, b: Marks, *, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """The 95% bootstrap interval of mean(a) - mean(b) on the same problems, resampled in pairs."""
    return bootstrap_interval(_differences(a, b).tolist(), seed=seed, resamples=resamples)


def gain_interval(
    ours: Sequence[Marks], theirs: Sequence[Marks], *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """The 95% interval of the mean gain of a search, run with several seeds, over another - or over what has no seed.

    ours: the marks of the run with each seed; theirs: of the other's run with the same seed at the same place, or of
    the only one where a seed changes nothing. Problems and seeds are both resampled, each on its own, every gain going
    with its problem and its seed (the pigeonhole bootstrap, Owen 2007, https://doi.org/10.1214/07-AOAS122). So it is
    about other problems and other seeds; but of three seeds it cannot know how far a fourth would lie from them.
    """
    if len(theirs) not in (1, len(ours)):
        raise ValueError(
            f"Gains over seeds need as many runs of both or one of theirs, got {len(ours)}, {len(theirs)}."
        )
    gains = np.array([_differences(*pair) for pair in zip(ours, [*theirs] * (len(ours) // len(theirs)), strict=True)])
    generator, (runs, n), means = np.random.default_rng(seed), gains.shape, []
    for size in _pieces(resamples, n):
        of_seeds = generator.multinomial(runs, [1 / runs] * runs, size)
        of_problems = generator.multinomial(n, [1 / n] * n, size)
        means.append(((of_seeds @ gains) * of_problems).sum(axis=1) / (runs * n))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def paired_p(a: Marks, b: Marks, *, seed: int = 0) -> float:
    """The two-sided p-value of: `a` and `b`, two models on the same problems, are equally good.

    The exact McNemar test where all values are 0 or 1 (McNemar 1947: only the problems that exactly one of them got
    right count), else the paired permutation test (Fisher 1935: under the hypothesis every difference could as well
    have the other sign), counted out for few problems and else over 10,000 drawn patterns.
    """
    return difference_p(_differences(a, b), seed=seed)


def difference_p(differences: Values | np.ndarray, *, seed: int = 0) -> float:
    """`paired_p` from the differences of two models on the same problems."""
    difference = np.asarray(differences, dtype=float)
    if np.isin(difference, (-1.0, 0.0, 1.0)).all():
        return _mcnemar(int((difference > 0).sum()), int((difference < 0).sum()))
    return _permutation_p(difference[difference != 0], seed)


def _differences(a: Marks, b: Marks) -> np.ndarray:
    """a - b by problem, shape (n,), in an order that is the problems' own: the same whatever order they come in."""
    _same_problems(a, b)
    return np.array([a[problem] - b[problem] for problem in sorted(a)], dtype=float)


def _same_problems(first: Marks, *others: Marks) -> Sequence[Marks]:
    for other in others:
        if first.keys() != other.keys():
            raise ValueError(
                "Models can be compared on the same problems only: "
                f"of {len(first)} and {len(other)} they share {len(first.keys() & other.keys())}."
            )
    if not first:
        raise ValueError("Models cannot be compared on no problem.")
    return first, *others


def _mcnemar(only_a: int, only_b: int) -> float:
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def _permutation_p(difference: np.ndarray, seed: int, draws: int = 10_000) -> float:
    n = len(difference)
    if n == 0:
        return 1.0
    observed = abs(difference.sum())
    if n <= _EXACT_FLIPS:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(_as_far(signs @ difference, observed)))
    generator, sums = np.random.default_rng(seed), []
    for size in _pieces(draws, n):
        sums.append((1 - 2 * generator.integers(0, 2, (size, n))) @ difference)
    return _share_as_far(np.concatenate(sums), observed)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    generator, n = np.random.default_rng(seed), len(values)
    return np.concatenate([values[generator.integers(0, n, (size, n))].mean(axis=1) for size in _pieces(resamples, n)])


def _pieces(total: int, width: int) -> list[int]:
    """`total` rows of `width` numbers in pieces that fit into memory."""
    most = max(1, _AT_ONCE // width)
    return [most] * (total // most) + ([total % most] if total % most else [])


def _share_as_far(drawn: np.ndarray, observed: float) -> float:
    # What was observed is itself one of the patterns, so that p is never 0 (Phipson & Smyth 2010).
    return float((_as_far(drawn, observed).sum() + 1) / (len(drawn) + 1))


def _as_far(drawn: np.ndarray, observed: float) -> np.ndarray:
    # Sums of the same floats in another order may differ in the last bits; a tie counts.
    return np.abs(drawn) >= observed - 1e-12 * max(1.0, observed)
