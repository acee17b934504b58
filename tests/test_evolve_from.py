"""A search that begins with an earlier run: what it takes over, how that is pinned, how many candidates it saves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from crashing_search import Worker
from searchertools import FakeEvaluator, FakeGenome, make, numbers, planted_path, sphere

from hubmerge.evolve import searchers
from hubmerge.evolve.choose import finalists
from hubmerge.evolve.explore import explore
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.search import Search
from hubmerge.evolve.searchers.gaussian import beginning
from hubmerge.evolve.spaces.edits import Edits
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.spec.data_flow import DataFlowSpace
from hubmerge.evolve.spec.searcher import Searcher
from hubmerge.evolve.workers.pool import LocalPool
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef

NAMES = [
    *(f"model.layers.{n}.{part}.weight" for n in range(3) for part in ("self_attn.q_proj", "mlp.up_proj")),
    "lm_head.weight",
]
MODELS = ["org/math@" + "1" * 40, "org/japanese"]


def search_of(models: Sequence[str] = MODELS, **changes) -> Search:
    document = {
        "models": list(models),
        "base_model": "org/base",
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}, "start": {"weight": 0.5}},
        "task": {"examples": {"search": [{"question": "1+1?", "answer": 2}]}},
    }
    return Search.from_dict(document | changes)


def genome_of(search: Search, *learnt: Recipe, start: Recipe | None = None) -> ParameterGenome:
    return ParameterGenome(search, NAMES, None, start, learnt)


def weights(genome: ParameterGenome, vector: np.ndarray) -> dict[tuple[str, str], float]:
    """The value of each model at each place."""
    named = [(genome.search.models[slot.model].title, genome.places[slot.place].name) for slot in genome.slots]
    return dict(zip(named, genome.values(vector).tolist(), strict=True))


def test_values_go_by_the_names_of_model_gene_and_place() -> None:
    earlier = genome_of(search_of())
    recipe = earlier.decode(earlier.encode(np.arange(1, 9) / 5))
    known = weights(earlier, earlier.encode(np.arange(1, 9) / 5))
    assert np.allclose(genome_of(search_of(), recipe).start, earlier.encode(np.arange(1, 9) / 5))
    # Turned round, at another commit, one more, another range: each is where its name says.
    genes = {"weight": [-1, 1.2]}
    other = search_of(["org/code", "org/japanese", "org/math"], genome={"granularity": "layer", "genes": genes})
    found = weights(genome_of(other, recipe), genome_of(other, recipe).start)
    for (model, place), value in known.items():
        assert found[model, place] == pytest.approx(min(value, 1.2), abs=0.02)
    assert {value for (model, _), value in found.items() if model == "org/code"} == {0.0}  # as if it were not there
    # A coarser place has the mean of its tensors, a finer one what it lies in.
    coarse = search_of(genome={"granularity": "model", "genes": {"weight": [0, 2]}})
    of_math = [value for (model, place), value in known.items() if model == "org/math" and place != "rest"]
    whole = weights(genome_of(coarse, recipe), genome_of(coarse, recipe).start)
    assert whole["org/math", "rest"] == pytest.approx((2 * sum(of_math) + known["org/math", "rest"]) / 7, abs=1e-5)
    fine = search_of(genome={"granularity": "layer_group", "genes": {"weight": [0, 2]}})
    found = weights(genome_of(fine, recipe), genome_of(fine, recipe).start)
    for (model, place), value in known.items():
        parts = [".attention", ".mlp"] if place != "rest" else [""]
        assert [found[model, place + part] for part in parts] == pytest.approx([value] * len(parts), abs=1e-5)


def test_a_new_weight_begins_where_it_still_moves_and_a_new_gene_at_its_start() -> None:
    earlier = genome_of(search_of())
    recipe = earlier.decode(earlier.start)
    genes = {"genes": {"weight": [0, 2], "density": [0.1, 1]}, "start": {"density": 0.7}, "granularity": "model"}
    made = genome_of(search_of([*MODELS, "org/code"], merge_method="ties", genome=genes), recipe)
    found = made.values(made.start).tolist()
    assert found == pytest.approx([0.5, 0.5, 0.1, 0.7, 0.7, 0.7])
    # What the earlier run kept fixed is known too.
    fixed = replace(recipe, merge_method="ties", parameters={"density": 0.3})
    assert genome_of(search_of(merge_method="ties", genome=genes), fixed).values(
        genome_of(search_of(merge_method="ties", genome=genes), fixed).start
    ).tolist() == pytest.approx([0.5, 0.5, 0.3, 0.3])


def test_paths_go_by_the_names_of_models() -> None:
    a, b, c = (ModelRef.parse(f"org/{name}") for name in "abc")
    path = LayerPath((a, b, c), ((0, 0), (1, 3), (2, 2), (1, 1), (0, 3)), (1.0, 0.7, 1.2, 3.0, 1.0))
    made = Edits(DataFlowSpace(scale_range=(0.5, 1.5)), (a, b), (4, 4), learnt=[path])
    assert made.decode(made.learnt[0]).layers == ((0, 0), (1, 3), (0, 2), (1, 1), (0, 3))
    assert made.decode(made.learnt[0]).scales == (1.0, 0.7, 1.2, 1.5, 1.0)
    assert made.decode(made.finals[0]).layers == tuple((0, layer) for layer in range(4))
    swapped = Edits(DataFlowSpace(scaling="none"), (b, a), (3, 4), learnt=[path])
    assert swapped.decode(swapped.learnt[0]).layers == ((0, 0), (1, 0), (0, 2), (0, 2), (0, 1), (1, 3), (0, 2))
    short = Edits(DataFlowSpace(max_layers=4), (a, b), (4, 4), learnt=[path])
    assert short.learnt == () and len(short.finals) == 1
    # It is asked first, before all that people make by hand.
    evaluator = FakeEvaluator(planted_path(np.ones(made.size, dtype=bool)))
    searcher = make(Searcher("edits", 8), made, evaluator, 1)
    searcher.step()
    assert np.array_equal(evaluator.vectors[0], made.learnt[0]) and np.array_equal(evaluator.vectors[1], made.start)


def test_a_distribution_begins_at_the_mean_of_the_best_with_steps_from_their_spread() -> None:
    generator, spec = np.random.default_rng(3), Searcher("cmaes", 40, popsize=8)
    found = generator.normal([0.2, 0.8, 0.5], [0.01, 0.3, 0.12], (12, 3))
    genome = replace(numbers(3), learnt=tuple(found))
    problem = make(spec, genome, FakeEvaluator(sphere(np.full(3, 0.5))), 1).problem
    centre, steps = beginning(spec, genome, problem)
    ranks = np.log(12.5) - np.log(np.arange(1, 13))
    assert np.allclose(centre, (ranks / ranks.sum()) @ found)
    sigma = genome.sigma
    assert steps[0] == pytest.approx(0.6 * sigma, rel=0.02) and steps[1] == sigma and 0.6 * sigma < steps[2] < sigma
    for name in ("cmaes", "snes", "xnes"):
        evaluator = FakeEvaluator(sphere(np.full(3, 0.5)))
        searcher = make(replace(spec, name=name, evaluations=4000, popsize=4000), genome, evaluator, 1)
        searcher.step()
        assert np.allclose(np.mean(evaluator.vectors, axis=0), centre, atol=0.02)
        assert np.allclose(np.std(evaluator.vectors, axis=0), steps, rtol=0.06)
    # Of few candidates the spread says nothing: then it is the winner's place.
    few = replace(genome, learnt=tuple(found[:5]))
    centre, steps = beginning(spec, few, problem)
    assert np.array_equal(centre, found[0]) and np.allclose(steps, 0.6 * sigma)


def test_populations_and_archives_begin_with_what_was_found() -> None:
    found = tuple(np.full(4, value) for value in np.linspace(0.1, 0.9, 9))
    genome = replace(numbers(4), learnt=found)
    for name in ("ga", "map_elites", "m2n2", "nsga2", "cycleqd"):
        objectives = searchers.SEARCHERS[name].least
        evaluator = FakeEvaluator(sphere(np.full(4, 0.5), objectives))
        searcher = make(Searcher(name, 12, popsize=12), genome, evaluator, objectives)
        for _ in range(searchers.planned(Searcher(name, 12, popsize=12), genome)[0]):
            searcher.step()
        assert np.array_equal(evaluator.vectors[:6], found[:6])


def candidates_needed(genome: FakeGenome, target: np.ndarray, seed: int, name: str) -> int:
    """How many candidates a search asks for until one is within 3% of the best point's fitness."""
    evaluator = FakeEvaluator(sphere(target))
    spec = Searcher(name, 600, seed=seed)
    searcher = make(spec, genome, evaluator, 1)
    for _ in range(searchers.planned(spec, genome)[0]):
        searcher.step()
        if evaluator.scores.max() >= 0.97:
            return int(np.argmax(evaluator.scores >= 0.97)) + 1
    return spec.evaluations + 1


@pytest.mark.parametrize("name", ["cmaes", "snes", "ga"])
def test_a_known_optimum_is_found_with_fewer_candidates(name: str) -> None:
    """A task's best point lies near that of the earlier run, as tasks of one kind have theirs; paired over five seeds,
    and each time with fewer."""
    saved = []
    for seed in range(5):
        generator = np.random.default_rng(500 + seed)
        first = generator.uniform(0.2, 0.8, 12)
        target = np.clip(first + generator.normal(0, 0.08, 12), 0.1, 0.9)
        earlier = FakeEvaluator(sphere(first))
        spec = Searcher("cmaes", 150, seed=seed)
        searcher = make(spec, numbers(12), earlier, 1)
        for _ in range(searchers.planned(spec, numbers(12))[0]):
            searcher.step()
        best = [earlier.vectors[row] for row in np.argsort(-earlier.scores)[:15]]
        warm = candidates_needed(replace(numbers(12), learnt=tuple(best)), target, seed, name)
        cold = candidates_needed(numbers(12), target, seed, name)
        saved.append(cold - warm)
    assert min(saved) > 0, saved


def test_finalists_have_the_start_whatever_it_scored(tmp_path: Path) -> None:
    search = search_of(searcher={"evaluations": 8, "popsize": 4})
    winner = genome_of(search).decode(np.full(8, 0.9))
    with (
        Journal(tmp_path / "journal.jsonl", "key", {}, resume=True) as journal,
        LocalPool(lambda: Worker(tmp_path / "log")) as pool,
    ):
        found = explore(
            search.searcher, search.fitness, [lambda start: genome_of(search, winner, start=start)], journal, pool
        )
    assert winner in [one.candidate for one in finalists(found, 1)]
