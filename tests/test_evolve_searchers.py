"""What every searcher keeps to, and the parts of each family."""

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from searchertools import (
    FakeEvaluator,
    FakeGenome,
    Judge,
    make,
    mixed,
    numbers,
    planted_path,
    run,
    shares,
    signs,
    sphere,
    told,
    worth,
)

from hubmerge.errors import SearchError
from hubmerge.evolve import searchers
from hubmerge.evolve.pareto import best_first, fronts
from hubmerge.evolve.records.evaluation import WORST, Evaluation
from hubmerge.evolve.searchers import edits, elites, niches, operators
from hubmerge.evolve.spec.searcher import SEARCHERS, Searcher

NAMES = list(searchers.SEARCHERS)
LEARNING = [name for name in NAMES if name not in ("random", "grid")]


def objectives(name: str) -> int:
    return searchers.SEARCHERS[name].least


def bumpy(count: int) -> Judge:
    """A mixture of slots and numbers: every other gene wants to be on, the rest want to be .7."""

    def judge(vector: np.ndarray) -> Evaluation:
        binary = np.arange(len(vector)) % 2 == 0
        return worth(np.where(binary, vector > 0, np.exp(-8 * (shares(vector) - 0.7) ** 2)), count)

    return judge


def test_the_table_names_what_a_spec_may_name() -> None:
    assert tuple(searchers.SEARCHERS) == SEARCHERS


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_a_function_of_its_seed_and_evaluations(name: str) -> None:
    genome, count = mixed(8), objectives(name)
    spec = Searcher(name, 103, seed=3, lag=4)
    before = (random.getstate(), np.random.get_state()[1].tolist())
    whole = run(spec, genome, bumpy(count), count)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert len(whole.vectors) == searchers.planned(spec, genome)[1] <= 103
    assert all(vector.shape == (8,) for vector in whole.vectors)
    torch.rand(3)  # evotorch draws from the global generator too, to no effect; so where that stands must not matter
    recorded = iter(whole.told)
    replayed = run(spec, genome, lambda vector: next(recorded), count)
    np.testing.assert_array_equal(whole.vectors, replayed.vectors)
    if name != "grid":
        other = run(Searcher(name, 103, seed=4, lag=4), genome, bumpy(count), count)
        assert not np.array_equal(whole.vectors, other.vectors)
    contrary = run(spec, genome, lambda vector: worth(1 - np.array(bumpy(1)(vector).values), count), count)
    assert np.array_equal(whole.vectors, contrary.vectors) == (name not in LEARNING)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("binary", [False, True])
def test_a_single_gene_is_enough(name: str, binary: bool) -> None:
    genome, count = (signs(1) if binary else numbers(1)), objectives(name)
    spec = Searcher(name, 60)
    evaluator = run(spec, genome, lambda vector: worth(np.full(2, vector[0] > 0.3, dtype=float), count), count)
    assert {vector.shape for vector in evaluator.vectors} == {(1,)}
    assert evaluator.scores.max() == 1


@pytest.mark.parametrize("name", LEARNING)
def test_failed_candidates_neither_stop_a_run_nor_live_on(name: str) -> None:
    count = objectives(name)

    def judge(vector: np.ndarray) -> Evaluation:
        # Half of the space fails, the better half by its genes.
        return told((WORST,) * count) if shares(vector)[0] > 0.5 else sphere(np.full(6, 0.8), count)(vector)

    genome, evaluator = numbers(6), FakeEvaluator(judge)
    spec = Searcher(name, 300, seed=2)
    searcher = make(spec, genome, evaluator, count)
    for _ in range(searchers.planned(spec, genome)[0]):
        searcher.step()
        for vector in survivors(searcher):
            assert not judge(vector).failed
    assert 0 < sum(one.failed for one in evaluator.told) < 250
    assert evaluator.scores.max() > 0.8


def survivors(searcher) -> list[np.ndarray]:
    """What the searcher keeps to breed from; distributions keep nothing."""
    if isinstance(searcher, elites.Elites):
        return [elite.vector for archive in searcher.archives for elite in archive.elites.values()]
    if isinstance(searcher, niches.NaturalNiches):
        return [member.vector for member in searcher.archive]
    if isinstance(searcher, edits.Edits):
        return [vector for vector, _ in searcher.members]
    return [] if searcher.has_status_key("center") else list(searcher.population.values.numpy())


@pytest.mark.parametrize("name", LEARNING)
def test_a_run_goes_on_where_everything_fails_at_first(name: str) -> None:
    count, asked = objectives(name), []

    def judge(vector: np.ndarray) -> Evaluation:
        asked.append(vector)
        return told((WORST,) * count) if len(asked) <= 40 else planted_path(np.ones(8, dtype=bool), count)(vector)

    assert run(Searcher(name, 400, seed=1), signs(8), judge, count).scores.max() == 1


@pytest.mark.parametrize(("lag", "flying"), [(4, 8), (20, 20)])
def test_what_follows_no_fitness_waits_for_no_generation(lag: int, flying: int) -> None:
    ahead: list[int] = []

    class Watched(FakeEvaluator):
        def collect(self, number: int) -> Evaluation:
            ahead.append(len(self.vectors) - number)
            return super().collect(number)

    spec, genome, evaluator = Searcher("random", 45, popsize=8, lag=lag), numbers(3), Watched(bumpy(1))
    searcher = make(spec, genome, evaluator, 1)
    steps, total = searchers.planned(spec, genome)
    for _ in range(steps):
        searcher.step()
    assert len(evaluator.vectors) == len(ahead) == total == 40
    assert ahead == [min(flying, total - number) for number in range(total)]


def test_popsize_follows_the_spec_or_the_rule() -> None:
    assert searchers.popsize(Searcher("cmaes"), 12) == 4 + 7
    assert searchers.popsize(Searcher("cmaes", popsize=6), 12) == 6
    assert searchers.popsize(Searcher("cmaes", 5), 12) == 5
    assert searchers.popsize(Searcher("ga"), 12) == searchers.POPULATION
    assert searchers.popsize(Searcher("ga"), 10**6) == 4 + 41
    assert searchers.popsize(Searcher("m2n2", 15), 12) == 15
    assert searchers.planned(Searcher("cmaes", 60), numbers(12)) == (5, 55)
    assert searchers.planned(Searcher("m2n2", 60), numbers(12)) == (60, 60)
    assert searchers.planned(Searcher("grid", 60, popsize=7), numbers(12)) == (9, 60)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        (
            "cmaes",
            2,
            "cmaes takes one objective, got 2; for these use nsga2, map_elites, cycleqd, edits, random, grid.",
        ),
        ("m2n2", 3, "m2n2 takes one objective, got 3"),
        ("nsga2", 1, "nsga2 takes 2 objectives or more, got 1; for these use cmaes, snes, xnes, ga, map_elites, m2n2"),
        ("cycleqd", 1, "cycleqd takes 2 objectives or more, got 1"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(name: str, count: int, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        make(Searcher(name), numbers(4), FakeEvaluator(sphere(np.zeros(4), count)), count)


def test_many_genes_make_cmaes_separable_and_are_refused_by_xnes() -> None:
    evaluator = FakeEvaluator(sphere(np.zeros(1001)))
    assert make(Searcher("cmaes"), numbers(1001), evaluator, 1).separable
    assert not make(Searcher("cmaes"), numbers(100), evaluator, 1).separable
    assert not make(Searcher("cmaes", separable=False), numbers(1001), evaluator, 1).separable
    assert make(Searcher("cmaes", separable=True), numbers(100), evaluator, 1).separable
    with pytest.raises(SearchError, match="xnes is too slow for 1001 genes"):
        make(Searcher("xnes"), numbers(1001), evaluator, 1)


@pytest.mark.parametrize("name", ["cmaes", "snes", "xnes"])
def test_the_centre_of_a_distribution_is_known(name: str) -> None:
    genome, target = numbers(3), np.array([0.3, 0.6, 0.8])
    spec = Searcher(name, 600)
    searcher = make(spec, genome, FakeEvaluator(sphere(target)), 1)
    np.testing.assert_array_equal(searchers.centre(searcher, genome), genome.start)
    for _ in range(searchers.planned(spec, genome)[0]):
        searcher.step()
    centre = searchers.centre(searcher, genome)
    assert centre is not None
    assert shares(centre) == pytest.approx(target, abs=0.02)
    assert searchers.centre(make(Searcher("ga"), genome, FakeEvaluator(sphere(target)), 1), genome) is None


@pytest.mark.parametrize("separable", [False, True])
def test_cmaes_never_settles_on_a_sign_for_good(separable: bool) -> None:
    genome, asked = signs(6), []

    def judge(vector: np.ndarray) -> Evaluation:
        asked.append(vector)
        return planted_path(np.full(6, len(asked) <= 2000))(vector)

    run(Searcher("cmaes", 4000, separable=separable), genome, judge)
    on = np.array(asked) > 0
    assert 0.8 < on[1000:2000].mean() < 1  # it knows what is best, and still tries the other sign
    assert 0 < on[3000:].mean() < 0.2  # so it finds out when the world has changed


def test_fronts_agree_with_their_definition() -> None:
    generator = np.random.default_rng(0)
    for count in (1, 2, 3, 4):
        for _ in range(20):
            points = generator.integers(0, 6, (30, count)).astype(float)
            left, expected = set(range(30)), []
            while left:
                free = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
                expected.append(sorted(free))
                left -= set(free)
            assert [front.tolist() for front in fronts(points)] == expected
    assert fronts(np.empty((0, 2))) == []


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def test_a_front_is_cut_where_it_is_most_crowded() -> None:
    points = np.array([[0, 10], [4.9, 5.1], [5, 5], [10, 0], [1, 1], [10, 0]], dtype=float)
    # Both ends; the middle two, of which the second has 1.02 around it, the first 1.00; the copy; the dominated one.
    assert best_first(points).tolist() == [0, 3, 2, 1, 5, 4]
    generator = np.random.default_rng(1)
    for _ in range(50):
        points = generator.random((40, 3))
        front = fronts(points)[0]
        kept = set(best_first(points)[: len(front)].tolist())
        assert kept == set(front.tolist())  # evotorch's take_best keeps a part of them


def test_nsga2_keeps_a_known_pareto_front() -> None:
    """Leading ones against trailing zeros: the front of 8 slots has 9 points, one for each place to turn."""

    def judge(vector: np.ndarray) -> Evaluation:
        on = vector > 0
        return told((float(np.cumprod(on).mean()), float(np.cumprod(~on[::-1]).mean())), (1.0,))

    genome, evaluator = signs(8), FakeEvaluator(judge)
    spec = Searcher("nsga2", 2400, popsize=24, seed=1)
    searcher = make(spec, genome, evaluator, 2)
    for _ in range(100):
        searcher.step()
    population = {tuple(row) for row in searcher.population.evals.numpy().tolist()}
    assert population >= {(ones / 8, 1 - ones / 8) for ones in range(9)}


@pytest.mark.parametrize(("name", "count"), [("map_elites", 1), ("map_elites", 3), ("cycleqd", 2), ("cycleqd", 3)])
def test_archives_hold_the_best_of_every_cell(name: str, count: int) -> None:
    genome, evaluator = mixed(6), FakeEvaluator(bumpy(count))
    searcher = make(Searcher(name, 200, seed=5), genome, evaluator, count)
    for _ in range(10):
        searcher.step()
    assert len(searcher.archives) == (count if name == "cycleqd" else 1)
    for quality, archive in enumerate(searcher.archives):
        best: dict[tuple[int, ...], float] = {}
        for vector, one in zip(evaluator.vectors, evaluator.told, strict=True):
            behaviour = [x for i, x in enumerate(one.fitness) if i != quality] or elites.descriptors(vector, genome)
            cell = elites.cell_of(behaviour)
            best[cell] = max(best.get(cell, WORST), one.fitness[quality])
        assert {cell: elite.quality for cell, elite in archive.elites.items()} == best
        assert len(best) > 3


def test_cells_and_descriptors_stay_inside() -> None:
    assert elites.cell_of([0.0]) == (0,)
    assert elites.cell_of([1.0]) == elites.cell_of([1.3]) == (9,)
    assert elites.cell_of([0.19, 0.21]) == (0, 1)
    for genome in (signs(5), numbers(5), mixed(5), signs(1)):
        for factor in (-50.0, 0.0, 50.0):
            assert all(0 <= share <= 1 for share in elites.descriptors(np.full(genome.size, factor), genome))
    slots, rest = elites.descriptors(np.array([1, 0.5, -1, 0.5, 1, 0.5]), mixed(6))
    assert (slots, rest) == pytest.approx((2 / 3, 0.5))


def test_elite_odds_favour_the_good_within_the_papers_bounds() -> None:
    made = [elites.Elite(np.zeros(1), q, (b,)) for q, b in ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (1.0, 1.0))]
    odds = elites.elite_odds(made)
    assert odds.sum() == pytest.approx(1)
    assert odds / odds[0] == pytest.approx([1, 1.6, 1.3 * 1.6, 1.6**2])
    assert elites.elite_odds(made[:1]) == pytest.approx([1])


def test_m2n2_shares_examples_and_mates_complements() -> None:
    values = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]], dtype=float)
    catch = niches.shares(values)
    assert catch.sum(axis=1) == pytest.approx([1 / 3 + 1 / 2, 1 / 3 + 1 / 2, 1, 1 / 3])
    assert catch.sum(axis=0) == pytest.approx([1, 1, 1, 0])
    # The specialist is all that the first member lacks; its copy attracts it as little as it does itself.
    assert niches.attraction(catch, 0) == pytest.approx([0, 0, 1, 0])


class SlowEvaluator(FakeEvaluator):
    """Evaluates in threads that end in an order of their own, and counts what is under way."""

    def __init__(self, judge: Judge, seed: int) -> None:
        super().__init__(judge)
        self.pool = ThreadPoolExecutor(4)
        self.delays = random.Random(seed)
        self.futures: list[Future] = []
        self.collected: list[int] = []
        self.most = 0
        self.ended: list[int] = []

    def submit(self, vector: np.ndarray) -> int:
        number, delay = len(self.futures), self.delays.random() * 0.004
        self.vectors.append(vector)
        self.futures.append(self.pool.submit(self.work, number, vector, delay))
        self.most = max(self.most, len(self.futures) - len(self.collected))
        return number

    def work(self, number: int, vector: np.ndarray, delay: float) -> Evaluation:
        threading.Event().wait(delay)
        self.ended.append(number)
        return self.judge(vector)

    def collect(self, number: int) -> Evaluation:
        self.collected.append(number)
        return self.futures[number].result()


def test_m2n2_does_not_depend_on_what_ends_first() -> None:
    genome, judge, spec = mixed(8), bumpy(1), Searcher("m2n2", 90, seed=7, lag=4)
    straight = run(spec, genome, judge)
    for seed in (1, 2):
        slow = SlowEvaluator(judge, seed)
        searcher = make(spec, genome, slow, 1)
        for _ in range(90):
            searcher.step()
        slow.pool.shutdown()
        assert slow.collected == list(range(90))
        assert slow.most == 4
        assert slow.ended != sorted(slow.ended)
        np.testing.assert_array_equal(slow.vectors, straight.vectors)
    assert not np.array_equal(run(Searcher("m2n2", 90, seed=7, lag=1), genome, judge).vectors, straight.vectors)


def test_populations_begin_with_the_genomes_seeds_and_scatter_about_its_start() -> None:
    class Pair(FakeGenome):
        def seeds(self) -> list[np.ndarray]:
            return [np.array([1.0, 0.0]), np.array([0.0, 1.0]), self.start]

    genome = Pair(np.zeros(2, dtype=bool))
    for name in ("ga", "nsga2", "map_elites", "cycleqd", "m2n2"):
        asked = run(Searcher(name, 20), genome, sphere(np.full(2, 0.5), objectives(name)), objectives(name)).vectors
        np.testing.assert_array_equal(asked[:3], genome.seeds())
        first = operators.beginners(genome, genome.sigma, 20, np.random.default_rng(Searcher(name, 20).seed))
        np.testing.assert_array_equal(asked, first)


def test_crossover_and_mutation_of_mixed_genes() -> None:
    generator = np.random.default_rng(0)
    binary = np.arange(6) < 3
    mothers = np.tile([1.0, -2.0, 3.0, 0.0, 0.2, 0.4], (4000, 1))
    fathers = np.tile([-4.0, -5.0, 6.0, 1.0, 0.2, 0.8], (4000, 1))
    children = operators.crossover(mothers, fathers, binary, generator)
    assert set(children[:, 0]) == {1.0, -4.0}
    assert children[:, 3:].mean(axis=0) == pytest.approx([0.5, 0.2, 0.6], abs=0.03)
    assert children[:, 3:].std(axis=0) == pytest.approx([0.5, 0, 0.2], abs=0.1)  # as far apart as the parents
    mutants = operators.mutate(mothers, binary, 0.1, generator)
    changed = mutants != mothers
    assert changed.any(axis=1).all()
    assert changed[:, :3].mean() == pytest.approx(changed[:, 3:].mean(), abs=0.03)
    assert 2 < changed.sum(axis=1).mean() < 2.2
    few = np.arange(400) < 4
    assert 1 < (operators.mutate(np.ones((4000, 400)), few, 0.1, generator) != 1)[:, few].sum(axis=1).mean() < 1.2
    assert set(np.unique(mutants[:, :3])) == {1.0, -1.0, 2.0, -2.0, 3.0, -3.0}
    off = operators.mutate(np.zeros((50, 1)), np.array([True]), 0.5, generator)
    assert (off == 0.5).all()
