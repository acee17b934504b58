"""Searches by edits: paths as they stand, each a small change away from what is tried next."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from searchertools import run, told

from hubmerge.errors import SearchError
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.explore import Exploration, explore
from hubmerge.evolve.records.evaluation import Evaluation
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.report import repeats
from hubmerge.evolve.report.repeats import repeated
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.data_flow import DataFlow
from hubmerge.evolve.spaces.edits import Edits
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.spec.data_flow import DataFlowSpace
from hubmerge.evolve.spec.fitness import Fitness
from hubmerge.evolve.spec.searcher import Searcher
from hubmerge.evolve.workers.pool import LocalPool
from hubmerge.reference import ModelRef

TASK = {"examples": {"search": [{"question": "1+1?", "answer": 2}]}}
COUNTS = [(8, 8), (1,), (1, 1), (2, 3), (3, 2, 9)]


def genome(counts: tuple[int, ...] = (8, 8), **options: Any) -> Edits:
    return Edits(DataFlowSpace(**options), [ModelRef(f"org/m{n}") for n in range(len(counts))], counts)


def names(path: LayerPath) -> list[str]:
    return [f"{'abc'[model]}{layer}" for model, layer in path.layers]


@pytest.mark.parametrize("most", [None, 2, 5])
@pytest.mark.parametrize("counts", COUNTS)
def test_every_edit_of_a_path_is_a_path(counts: tuple[int, ...], most: int | None) -> None:
    made, generator = genome(counts, max_layers=most, scale_range=(0.4, 2)), np.random.default_rng(1)
    found = set()
    for vector in (made.start, *made.seeds(), *made.grid(7)):
        for _ in range(20):
            path = made.decode(vector)
            assert len(path.layers) <= made.most_layers == (most or 2 * counts[0])
            assert all(0.4 <= scale <= 2 for scale in path.scales)
            found.add((path.layers, path.scales))
            vector = made.edited(vector, generator)
        assert len(made.decode(made.random(generator)).layers) <= made.most_layers
    assert len(found) > 5


def test_a_vector_is_the_path_and_an_edit_leaves_the_rest_alone() -> None:
    made, generator = genome(), np.random.default_rng(3)
    far = made.seeds()[20]
    kinds = set()
    for _ in range(300):
        before, after = made.decode(far), made.decode(made.edited(far, generator))
        assert (before.layers, before.scales) != (after.layers, after.scales)
        assert abs(len(after.layers) - len(before.layers)) <= 3  # two edits, and the last layer
        kinds.add((len(after.layers) - len(before.layers), set(after.scales) == {1.0}))
    assert {(0, False), (1, True), (-1, True), (0, True)} <= kinds


def test_a_search_begins_with_the_first_model_and_with_what_people_make_by_hand() -> None:
    first, *others = (names(made) for made in map(genome().decode, genome().seeds()))
    assert first == [f"a{layer}" for layer in range(8)]
    assert ["a0", "a1", "b2", "b3", "b4", "b5", "b6", "b7", "a7"] in others  # a splice
    assert ["a0", "b0", "b1", "a4", "a5", "a6", "a7"] in others  # the other way round
    assert ["a0", "a1", "a2", "a3", "a2", "a3", "a4", "a5", "a6", "a7"] in others  # a block twice
    assert ["a0", "a1", "b2", "b3", "b4", "b5", "a6", "a7"] in others  # inner layers between outer ones
    assert len({tuple(path) for path in others}) == len(others) and first not in others


def test_of_what_another_search_ended_with_only_that() -> None:
    winner = Edits(DataFlowSpace(), [ModelRef.parse("stage:recipe"), ModelRef("org/a")], (4, 4))
    assert [names(winner.decode(vector)) for vector in winner.seeds()] == [["a0", "a1", "a2", "a3"]]


def test_without_scales_there_are_none() -> None:
    made, generator = genome(scaling="none"), np.random.default_rng(5)
    vector = made.start
    for _ in range(100):
        vector = made.edited(vector, generator)
        assert set(made.decode(vector).scales) == set(made.decode(made.random(generator)).scales) == {1.0}


def test_of_one_model_every_block_is_tried_twice_over() -> None:
    alone = genome((16,), scaling="none")
    blocks = [repeated(alone.decode(vector).layers, 16) for vector in alone.seeds()]
    assert blocks[0] == (0, 0) and len(blocks) == len(set(blocks)) == 37
    assert set(blocks[1:]) == {(start, stop) for stop in range(2, 17, 2) for start in range(0, stop, 2)}
    assert repeated([(0, 0), (0, 2), (0, 1), (0, 3)], 4) is None and repeated([(0, 0), (1, 0), (0, 1)], 2) is None


def searched(spec: Searcher, objectives: tuple[str, ...], made: Edits, measure, folder: Path) -> Exploration:
    worker = SimpleNamespace(measure=lambda candidate, job: measure(candidate))
    with Journal(folder / "journal.jsonl", "key", {}, resume=False) as journal, LocalPool(lambda: worker) as pool:
        return explore(spec, Fitness(objectives), [lambda start: made], journal, pool, longest=10)


def test_what_a_block_is_worth_twice_over_is_drawn(tmp_path: Path) -> None:
    """Layers 2 and 3 of four are worth ten points the second time, the others cost five each."""

    def measure(path: LayerPath) -> Measurement:
        more = [layer for place, (_, layer) in enumerate(path.layers) if (0, layer) in path.layers[:place]]
        return Measurement(0.5 + sum(0.1 if layer > 1 else -0.05 for layer in more), 0.0, 0.0, 1)

    made = genome((4,), scaling="none")
    found = searched(Searcher("edits", 60, seed=1), ("score",), made, measure, tmp_path)
    drawn = repeats.panel(found.evaluations, ["org/a"])
    assert drawn is not None and drawn.columns == ("0", "1", "2", "3")
    table = {(start, stop): value for start, row in enumerate(drawn.cells) for stop, value in enumerate(row)}
    assert table[2, 3] == pytest.approx(20) and table[0, 1] == pytest.approx(-10) and table[1, 2] == pytest.approx(5)
    assert table[3, 0] is None and max(e.score for e in found.evaluations) >= 0.7
    assert repeats.panel(found.evaluations, ["org/a", "org/b"]) is None
    assert repeats.panel(found.evaluations[1:], ["org/a"]) is None  # the model itself is not known


def test_brief_is_how_much_shorter_answers_are_than_they_may_be(tmp_path: Path) -> None:
    def measure(path: LayerPath) -> Measurement:
        return Measurement(0.5, 0.0, 0.0, 4, (0.5,) * 4, tokens=2 * len(path.layers))

    found = searched(Searcher("edits", 40, seed=1), ("score", "brief"), genome((4,)), measure, tmp_path)
    for evaluation in found.evaluations:
        assert evaluation.fitness[1] == pytest.approx(1 - 2 * len(evaluation.solution["layers"]) / 40)
    assert found.front[0].fitness[1] == max(e.fitness[1] for e in found.evaluations)


def near(target: list[str]):
    """A judge that counts which neighbours of the path that is looked for a candidate has, and its length."""
    wanted = set(pairwise(target))

    def judge(made: Edits, vector: np.ndarray) -> Evaluation:
        path = names(made.decode(vector))
        pairs = set(pairwise(path))
        return told((len(wanted & pairs) / len(wanted | pairs),), (1.0,))

    return judge


TARGETS = [
    ["a0", "b1", "b2", "b3", "b3", "a3", "a4", "b4", "b5", "a7"],
    ["a0", "a1", "a2", "b2", "b3", "b4", "b5", "b4", "b6", "a6", "a7"],
    ["a0", "b4", "b5", "a2", "a3", "b1", "b6", "a5", "a7"],
]


@pytest.mark.parametrize("target", TARGETS, ids="-".join)
def test_a_known_path_is_found_where_chance_and_the_hand_come_nowhere_near(target: list[str]) -> None:
    def best(name: str, budget: int, seed: int) -> float:
        made = genome(scaling="none")
        asked = run(Searcher(name, budget, seed=seed), made, lambda vector: near(target)(made, vector))
        return max(one.fitness[0] for one in asked.told)

    found = [best("edits", 800, seed) for seed in range(4)]
    assert min(found) > 0.5 and max(found) == 1
    assert max(best("random", 800, seed) for seed in range(4)) < 0.45
    assert best("grid", 800, 0) < 0.45


def test_nothing_is_asked_twice() -> None:
    made = genome()
    asked = run(Searcher("edits", 160, seed=2), made, lambda vector: near(TARGETS[0])(made, vector))
    assert len({vector.tobytes() for vector in asked.vectors}) == 160


def document(**changes: Any) -> dict[str, Any]:
    return {"models": ["org/a", "org/b"], "task": TASK, "data_flow": {"max_layers": 9}, **changes}


RECIPES = {"merge_method": "linear", "genome": {"genes": {"weight": [0, 1]}}}


@pytest.mark.parametrize(
    ("changes", "names", "by_edits"),
    [
        ({}, ("edits", None), True),
        ({"searcher": {"seed": 4}}, ("edits", None), True),
        ({"data_flow": {"paper": True}}, ("cmaes", None), False),
        ({"searcher": {"name": "cmaes"}}, ("cmaes", None), False),
        ({"searcher": {"name": "random"}}, ("random", None), False),
        (RECIPES, ("cmaes", "edits"), True),
        (RECIPES | {"searcher": {"name": "nsga2", "popsize": 9}}, ("nsga2", "edits"), True),
        (RECIPES | {"data_flow": {"searcher": {"evaluations": 60}}}, ("cmaes", "edits"), True),
        (RECIPES | {"data_flow": {"searcher": {"name": "ga"}}}, ("cmaes", "ga"), False),
        (RECIPES | {"data_flow": {"paper": True}}, ("cmaes", None), False),
    ],
)
def test_paths_are_searched_by_edits_unless_another_is_named(changes, names, by_edits) -> None:
    search = Search.from_dict(document(**changes))
    assert (search.searcher.name, search.path_searcher and search.path_searcher.name) == names
    assert search.by_edits is by_edits
    assert Search.from_dict(search.to_dict()) == search
    assert search.beside("random", 50).by_edits is by_edits  # what it is compared with draws from the same paths


def test_the_second_part_takes_budget_and_seed_of_the_first() -> None:
    given = {"name": "cmaes", "evaluations": 90, "popsize": 9, "seed": 4}
    search = Search.from_dict(document(**RECIPES, searcher=given))
    assert search.path_searcher == Searcher("edits", 90, seed=4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_flow": {"paper": True}, "searcher": {"name": "edits"}}, "edits is not for the paper's genome"),
        ({"data_flow": {"paper": False}, "searcher": {"name": "cmaes"}}, "cmaes searches the paper's genome"),
        ({"data_flow": {"paper": "yes"}}, "data_flow.paper"),
        ({"data_flow": {"scale_range": [-2, -1]}}, "must hold 1"),
        ({"data_flow": {"scale_range": [1e300, 1e301]}}, "must hold 1"),
        ({"data_flow": {"max_layers": 10**9}}, "at most 10,000; got 1,000,000,000"),
        ({"searcher": "edits"}, "searcher"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SearchError, match=said):
        Search.from_dict(document(**changes))


def test_the_papers_genome_is_still_there() -> None:
    paper = DataFlow(DataFlowSpace(repeats=2, paper=True), (ModelRef("org/a"),), (3,))
    assert paper.size == 2 * 3 + 3 * 3
