"""Statistics of scores: exact where values are 0 or 1, resampled else, and calibrated where nothing differs."""

import random
from itertools import product
from math import erfc, sqrt

import numpy as np
import pytest

from hubmerge.evaluate.statistics import (
    bootstrap_interval,
    gain_interval,
    interval,
    marks_of,
    mean_marks,
    paired_interval,
    paired_p,
    wilson,
)


def marks(values) -> dict[str, float]:
    return {f"p{place}": float(value) for place, value in enumerate(values)}


def test_interval_is_wilsons_for_shares_and_the_bootstraps_for_the_rest() -> None:
    assert interval([1.0] * 81 + [0.0] * 182) == wilson(81, 263)
    values = np.random.default_rng(0).beta(2, 3, 400).tolist()
    low, high = interval(values)
    half = 1.96 * np.std(values) / np.sqrt(len(values))
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.003)
    assert interval(values) == (low, high)
    assert bootstrap_interval([0.25] * 10) == (0.25, 0.25)


def test_paired_p_of_few_floats_counts_every_sign_pattern() -> None:
    drawn = np.random.default_rng(1)
    a, b = drawn.random(9), drawn.random(9)
    difference = a - b
    sums = [abs(np.dot(signs, difference)) for signs in product((1, -1), repeat=9)]
    expected = np.mean([total >= abs(difference.sum()) - 1e-12 for total in sums])
    assert paired_p(marks(a), marks(b)) == pytest.approx(expected)


def test_paired_p_of_many_floats_agrees_with_the_normal_approximation() -> None:
    drawn = np.random.default_rng(2)
    a = drawn.random(300)
    b = np.clip(a - 0.015 + drawn.normal(0, 0.1, 300), 0, 1)
    difference = a - b
    z = difference.mean() / (difference.std() / np.sqrt(300))
    normal = erfc(abs(z) / sqrt(2))
    assert paired_p(marks(a), marks(b)) == pytest.approx(normal, abs=0.01)
    assert paired_p(marks(a), marks(b)) == paired_p(marks(b), marks(a))


def test_p_values_are_uniform_where_nothing_differs() -> None:
    drawn = np.random.default_rng(3)
    found = [paired_p(marks(drawn.random(60)), marks(drawn.random(60))) for _ in range(100)]
    assert 0.0 <= np.mean([p < 0.1 for p in found]) <= 0.2
    assert 0.4 < np.mean(found) < 0.6


def test_equal_models_are_equal() -> None:
    a = marks([0.1, 0.7, 1.0])
    assert paired_p(a, a) == 1.0
    assert paired_interval(a, a) == (0.0, 0.0)


def test_values_are_joined_by_problem_and_never_by_place() -> None:
    a = {"x": 1.0, "y": 1.0, "z": 0.0, "w": 1.0}
    b = {"w": 0.0, "z": 0.0, "y": 1.0, "x": 0.0}
    assert paired_p(a, b) == paired_p(a, dict(sorted(b.items()))) == 0.5
    assert paired_interval(a, b) == paired_interval(a, dict(sorted(b.items())))
    assert mean_marks([a, b]) == {"x": 0.5, "y": 1.0, "z": 0.0, "w": 0.5}
    for compare in (paired_p, paired_interval, lambda a, b: mean_marks([a, b])):
        with pytest.raises(ValueError, match="of 4 and 4 they share 3"):
            compare(a, {"v": 1.0, "x": 1.0, "y": 0.0, "z": 0.0})
    with pytest.raises(ValueError, match="on no problem"):
        paired_p({}, {})
    with pytest.raises(ValueError, match="only 1 names"):
        marks_of(["x", "x"], [1.0, 0.0])


def by_hand(gains: list[dict[str, float]], draws: int = 4000) -> tuple[float, float]:
    """A two-way bootstrap, one draw after the other, with nothing of the package's."""
    generator, found = random.Random(7), []
    problems = list(gains[0])
    for _ in range(draws):
        seeds = generator.choices(gains, k=len(gains))
        asked = generator.choices(problems, k=len(problems))
        found.append(sum(gain[problem] for gain in seeds for problem in asked) / len(seeds) / len(asked))
    found.sort()
    return found[round(0.025 * draws)], found[round(0.975 * draws)]


def test_gains_over_two_seeds_against_a_row_without_one_are_those_of_a_bootstrap_by_hand() -> None:
    generator = random.Random(3)
    problems = [f"p{number}" for number in range(120)]
    hard = {problem: generator.random() for problem in problems}

    def asked(ease: float) -> dict[str, float]:
        order = generator.sample(problems, len(problems))  # every run met the problems in an order of its own
        return {problem: float(generator.random() ** ease > hard[problem]) for problem in order}

    ours, theirs = [asked(0.4), asked(0.7)], asked(1.0)
    gains = [{problem: run[problem] - theirs[problem] for problem in problems} for run in ours]
    assert gain_interval(ours, [theirs]) == pytest.approx(by_hand(gains), abs=0.012)
    assert gain_interval(ours, [theirs, theirs]) == gain_interval(ours, [theirs])
    # One seed tells of problems alone; two that differ are wider than their mean taken as one.
    assert gain_interval(ours[:1], [theirs]) == pytest.approx(paired_interval(ours[0], theirs), abs=0.02)
    low, high = gain_interval(ours, [theirs])
    narrow = paired_interval(mean_marks(ours), theirs)
    assert high - low > narrow[1] - narrow[0]
    with pytest.raises(ValueError, match="as many runs"):
        gain_interval(ours, [theirs] * 3)
