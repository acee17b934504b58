"""Each searcher finds a known best point within a stated budget, and beats random search."""

from functools import cache

import numpy as np
import pytest
from searchertools import numbers, planted_path, run, signs, sphere

from hubmerge.evolve.spec.searcher import Searcher

GENES, SLOTS = 12, 24
MOST = 2000
"""Evaluations that any searcher is given. Random search learns nothing: with fewer it makes the first of these."""


def best_scores(name: str, problem: str, budget: int, runs: int) -> tuple[float, ...]:
    """The best score of each of so many runs, each with a best point of its own."""
    given = MOST if name == "random" else budget
    return tuple(float(scores[:budget].max()) for scores in all_scores(name, problem, given, runs))


@cache
def all_scores(name: str, problem: str, budget: int, runs: int) -> list[np.ndarray]:
    objectives = 2 if name in ("nsga2", "cycleqd") else 1
    found = []
    for seed in range(runs):
        generator = np.random.default_rng(1000 + seed)
        if problem == "sphere":
            genome, judge = numbers(GENES), sphere(generator.uniform(0.15, 0.85, GENES), objectives)
        else:
            genome, judge = signs(SLOTS), planted_path(generator.random(SLOTS) < 0.5, objectives)
        found.append(run(Searcher(name, budget, seed=seed), genome, judge, objectives).scores)
    return found


def mann_whitney(high: tuple[float, ...], low: tuple[float, ...]) -> float:
    """The exact one-sided p of Mann and Whitney's test, ties included: how many of all ways to pick as many of the
    pooled ranks give a sum at least as high."""
    pooled = np.array([*high, *low])
    ranks = [int((pooled < x).sum() * 2 + (pooled == x).sum() + 1) for x in pooled]  # twice the mean rank
    observed = sum(ranks[: len(high)])
    ways = np.zeros((len(high) + 1, sum(ranks) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        for picked in range(len(high), 0, -1):
            ways[picked, rank:] += ways[picked - 1, : ways.shape[1] - rank]
    return ways[-1, observed:].sum() / ways[-1].sum()


def test_mann_whitney_agrees_with_its_table() -> None:
    assert mann_whitney((3, 4), (1, 2)) == pytest.approx(1 / 6)
    assert mann_whitney((1, 2), (3, 4)) == 1
    assert mann_whitney((1, 1), (1, 1)) == 1
    # U = 21 of 25: 12 of the 252 ways to pick five of ten ranks do as well.
    assert mann_whitney((10, 9, 8, 7, 2), (6, 5, 4, 3, 1)) == pytest.approx(12 / 252)


def check(name: str, problem: str, budget: int, tolerance: float, thorough: bool) -> tuple[float, ...]:
    runs = 10 if thorough else 5
    found = best_scores(name, problem, budget, runs)
    assert min(found) >= 1 - tolerance
    assert mann_whitney(found, best_scores("random", problem, budget, runs)) < 0.01
    return found


@pytest.mark.parametrize(
    ("name", "budget", "tolerance"),
    [
        ("cmaes", 400, 0.02),
        ("snes", 400, 0.015),
        ("xnes", 1000, 0.02),
        ("ga", 600, 0.015),
        ("nsga2", 600, 0.015),
        ("map_elites", 1000, 0.02),
        ("cycleqd", 1000, 0.08),
        ("m2n2", 600, 0.015),
    ],
)
def test_the_top_of_a_sphere_is_found(name: str, budget: int, tolerance: float, thorough: bool) -> None:
    check(name, "sphere", budget, tolerance, thorough)


@pytest.mark.parametrize(
    ("name", "budget", "tolerance"),
    [
        ("cmaes", 800, 0),
        ("snes", 400, 0.1),  # without a margin a distribution may narrow around a wrong slot or two
        ("xnes", 400, 0.1),
        ("ga", 600, 0),
        ("nsga2", 600, 0),
        ("map_elites", 1500, 0),
        ("cycleqd", 2000, 0.05),
        ("m2n2", 600, 0),
    ],
)
def test_the_best_of_2_to_the_24_paths_is_found(name: str, budget: int, tolerance: float, thorough: bool) -> None:
    assert np.median(check(name, "path", budget, tolerance, thorough)) == 1
