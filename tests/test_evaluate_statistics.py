"""Statistics of scores: exact where values are 0 or 1, resampled else, and calibrated where nothing differs."""

from itertools import product
from math import erfc, sqrt

import numpy as np
import pytest

from hubmerge.evaluate.statistics import (
    bootstrap_interval,
    interval,
    paired_bootstrap_p,
    paired_interval,
    paired_p,
    wilson,
)


def test_interval_is_wilsons_for_shares_and_the_bootstraps_for_the_rest() -> None:
    assert interval([1.0] * 81 + [0.0] * 182) == wilson(81, 263)
    values = np.random.default_rng(0).beta(2, 3, 400).tolist()
    low, high = interval(values)
    half = 1.96 * np.std(values) / np.sqrt(len(values))
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.003)
    assert interval(values) == (low, high)
    assert bootstrap_interval([0.25] * 10) == (0.25, 0.25)


def test_paired_p_of_few_floats_counts_every_sign_pattern() -> None:
    random = np.random.default_rng(1)
    a, b = random.random(9), random.random(9)
    difference = a - b
    sums = [abs(np.dot(signs, difference)) for signs in product((1, -1), repeat=9)]
    expected = np.mean([total >= abs(difference.sum()) - 1e-12 for total in sums])
    assert paired_p(a.tolist(), b.tolist()) == pytest.approx(expected)


def test_paired_p_of_many_floats_agrees_with_the_normal_approximation() -> None:
    random = np.random.default_rng(2)
    a = random.random(300)
    b = np.clip(a - 0.015 + random.normal(0, 0.1, 300), 0, 1)
    difference = a - b
    z = difference.mean() / (difference.std() / np.sqrt(300))
    normal = erfc(abs(z) / sqrt(2))
    assert paired_p(a.tolist(), b.tolist()) == pytest.approx(normal, abs=0.01)
    assert paired_bootstrap_p(a.tolist(), b.tolist()) == pytest.approx(normal, abs=0.01)
    assert paired_p(a.tolist(), b.tolist()) == paired_p(b.tolist(), a.tolist())


@pytest.mark.parametrize("test", [paired_p, paired_bootstrap_p])
def test_p_values_are_uniform_where_nothing_differs(test) -> None:
    random = np.random.default_rng(3)
    found = [test(random.random(60).tolist(), random.random(60).tolist()) for _ in range(100)]
    assert 0.0 <= np.mean([p < 0.1 for p in found]) <= 0.2
    assert 0.4 < np.mean(found) < 0.6


def test_equal_models_are_equal() -> None:
    a = [0.1, 0.7, 1.0]
    assert paired_p(a, a) == 1.0
    assert paired_bootstrap_p(a, a) == 1.0
    assert paired_interval(a, a) == (0.0, 0.0)


def test_pairs_need_two_values_each() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired_p([0.0, 1.0], [1.0])
