"""The search file, the genome and its growth - without a model."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from genometools import NAMES, document, genome, peak, run, weights

from hubmerge.errors import SearchError
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.explore import explore
from hubmerge.evolve.records.journal import Journal
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.spaces.squash import squash, unsquash
from hubmerge.evolve.spec.searcher import Searcher
from hubmerge.evolve.workers.pool import LocalPool
from hubmerge.recipe import Recipe, value_at


def test_search_round_trip(tmp_path: Path) -> None:
    search = Search.from_dict(document())
    (tmp_path / "search.yaml").write_text(search.to_yaml())
    assert Search.from_yaml(tmp_path / "search.yaml") == search
    assert [(gene.name, gene.start) for gene in search.genes] == [("weight", 0.5), ("density", 0.55)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge_metod": "ties"}, "did you mean 'merge_method'"),
        ({"merge_method": "blend"}, "Unknown merge_method"),
        ({"merge_method": "tise"}, r"did you mean ties\?"),
        ({"genome": {"genes": {"wieght": [0, 1]}}}, r"did you mean weight\?"),
        ({"genome": {"genes": {"weight 0": None}}}, "as in `weight: 0`"),
        ({"parameters": {"normalize true": None}}, "as in `normalize: true`"),
        ({"base_model": None}, "needs a base_model"),
        ({"models": []}, "needs `models`"),
        ({"models": ["org/a", "org/a"]}, "named twice"),
        ({"models": ["not a name"]}, "neither a Hub ID"),
        ({"merge_method": "slerp", "genome": {"genes": {"t": [0, 1]}}}, "merges at most 1"),
        ({"genome": {"genes": {"wait": [0, 1]}}}, "no gene 'wait'.*weight, density"),
        ({"genome": {"genes": {"seed": [0, 9]}}}, "no gene 'seed'"),
        ({"genome": {"genes": {"density": [0.1, 1.5]}}}, "leaves the limits"),
        ({"genome": {"genes": {"weight": [2, 0]}}}, "must rise"),
        ({"genome": {"genes": {"weight": [0, 1]}, "start": {"weight": 3}}}, "outside"),
        ({"genome": {"granularity": "tensor", "genes": {"weight": [0, 1]}}}, "Unknown granularity"),
        ({"parameters": {"weight": 1}}, "both a gene and a fixed"),
        ({"parameters": {"t": 1}}, "no parameter 't'"),
        ({"searcher": {"name": "nsga"}}, "Unknown searcher.*nsga2"),
        ({"searcher": {"seed": "1"}}, "searcher.seed must be a whole number"),
        ({"searcher": {"popsize": 8, "evaluations": 4}}, "at least popsize"),
        ({"splits": {"train": 5}}, "Unknown key 'train'"),
        ({"baselines": ["soup"]}, "Unknown baseline"),
        ({"dtype": "int8"}, "dtype must be one of"),
    ],
)
def test_bad_searches_say_what_is_wrong(change: dict, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Search.from_dict(document(**change))


def test_squash_is_a_smooth_rising_map_that_inverts() -> None:
    positions = np.linspace(-3, 4, 2001)
    values = np.array([squash(x, 0.1, 1.0) for x in positions])
    assert (np.diff(values) > 0).all()
    assert values.min() > 0.1
    assert values.max() < 1.0
    assert squash(0.5, -1, 3) == 1.0
    assert (squash(0.5 + 1e-6, -1, 3) - squash(0.5 - 1e-6, -1, 3)) / 2e-6 / 4 == pytest.approx(1)
    for value in (0.12, 0.5, 0.99):
        assert squash(unsquash(value, 0.1, 1.0), 0.1, 1.0) == pytest.approx(value, abs=1e-12)
    assert 0.99 < squash(unsquash(1.0, 0.1, 1.0), 0.1, 1.0) < 1.0
    assert math.isfinite(squash(1e300, 0, 1) + squash(-1e300, 0, 1))


@pytest.mark.parametrize(
    ("granularity", "places"), [("model", 1), ("layer", 13), ("group", 3), ("layer_group", 37), ("filter", 3)]
)
def test_every_tensor_gets_its_own_genes_value(granularity: str, places: int) -> None:
    genes = {"granularity": granularity, "genes": {"weight": [0, 2], "density": [0.1, 1], "lambda": [0.5, 1.5]}}
    if granularity == "filter":
        genes["filters"] = ["q_proj", "layers.3."]
    made = ParameterGenome(Search.from_dict(document(genome=genes)), NAMES)
    assert made.size == places * (2 + 2 + 1)
    vector = np.random.default_rng(0).normal(0.5, 0.4, made.size)
    recipe = made.decode(vector)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    values = made.values(vector).reshape(5, places)
    for name in NAMES:
        if granularity == "layer":
            place = int(name.split(".")[2]) if ".layers." in name else 12
        elif granularity == "group":
            place = 0 if "q_proj" in name else 1 if "mlp" in name else 2
        elif granularity == "layer_group":
            part = 0 if "q_proj" in name else 1 if "mlp" in name else 2
            place = 3 * int(name.split(".")[2]) + part if ".layers." in name else 36
        elif granularity == "filter":
            place = 0 if "q_proj" in name else 1 if "layers.3." in name else 2
        else:
            place = 0
        got = [value_at(entry.parameters[gene], name, 0.5) for gene in ("weight", "density") for entry in recipe.models]
        assert got == [values[row][place] for row in range(4)]
        assert value_at(recipe.parameters["lambda"], name, 0.5) == values[4][place]


@pytest.mark.parametrize(("coarse", "fine"), [("model", "group"), ("group", "layer_group"), ("layer", "layer_group")])
def test_a_finer_genome_starts_where_the_coarse_one_ended(coarse: str, fine: str) -> None:
    spec = Search.from_dict(document(genome={"granularity": [coarse, fine], "genes": {"weight": [0, 2]}}))
    first = ParameterGenome(spec, NAMES, coarse)
    best = first.decode(np.random.default_rng(1).normal(0.5, 0.2, first.size))
    second = ParameterGenome(spec, NAMES, fine, best)
    assert second.size > first.size
    assert weights(second.decode(second.start)) == pytest.approx(weights(best), abs=1e-5)


def test_a_search_grows_from_its_best_point(tmp_path: Path) -> None:
    spec = Search.from_dict(
        document(
            merge_method="task_arithmetic",
            genome={"granularity": ["model", "layer"], "genes": {"weight": [0, 2]}},
            searcher={"evaluations": 120, "seed": 2},
        )
    )
    stages = [lambda start, name=name: ParameterGenome(spec, NAMES, name, start) for name in spec.granularity]
    worker = SimpleNamespace(measure=lambda candidate, job: peak(candidate))
    with Journal(tmp_path / "journal.jsonl", "key", {}, resume=False) as journal, LocalPool(lambda: worker) as pool:
        found = explore(spec.searcher, spec.fitness, stages, journal, pool)
    assert {e.stage: len(e.genome) for e in found.evaluations} == {0: 2, 1: 26}
    assert [e.number for e in found.evaluations] == list(range(len(found.evaluations)))
    first, second = ([e.score for e in found.evaluations if e.stage == stage] for stage in (0, 1))
    assert np.mean(second) > np.mean(first)
    assert max(second) > 0.95


def test_several_objectives_keep_their_pareto_front(tmp_path: Path) -> None:
    spec = {"name": "nsga2", "evaluations": 200, "popsize": 20, "seed": 1}
    made = genome(searcher=spec, fitness={"objectives": ["metric", "language"]})

    def torn(recipe: Recipe) -> Measurement:
        w = weights(recipe)[:: len(NAMES)]
        return Measurement(0.0, float(1 - w[0] / 2), float(w[0] / 2 - abs(w[1] - 1) / 4), 1)

    found = run(tmp_path, made, torn)
    front = np.array([e.fitness for e in found.front])
    assert len(front) > 10
    assert (np.diff(front[:, 0]) <= 0).all() and (np.diff(front[:, 1]) >= 0).all()
    assert front.sum(axis=1).min() > 0.9


def test_the_start_decodes_to_the_asked_values() -> None:
    recipe = ParameterGenome(Search.from_dict(document()), NAMES).decode(
        ParameterGenome(Search.from_dict(document()), NAMES).start
    )
    for entry in recipe.models:
        assert value_at(entry.parameters["weight"], NAMES[1], 0) == 0.5
        assert value_at(entry.parameters["density"], NAMES[0], 0) == 0.55


def test_slerp_lists_both_ends_and_shares_t() -> None:
    search = Search.from_dict(
        document(models=["org/math"], merge_method="slerp", genome={"granularity": "model", "genes": {"t": [0, 1]}})
    )
    recipe = ParameterGenome(search, NAMES).decode(np.array([0.5]))
    assert [str(entry.model) for entry in recipe.models] == ["org/base", "org/math"]
    assert recipe.parameters["t"] == 0.5


def test_minutes_are_said_only_where_they_are_given() -> None:
    search = Search.from_dict(document())
    assert "minutes" not in search.to_dict()["searcher"]
    short = search.within(30)
    assert Search.from_dict(short.to_dict()) == short and short.searcher.minutes == 30
    assert short.beside("random", 17).searcher == Searcher("random", 17, popsize=None, seed=7)
    assert search.beside("grid", 17).searcher.evaluations == 60
    both = Search.from_dict(document(data_flow={"repeats": 1})).within(30)
    assert (both.searcher.minutes, both.path_searcher.minutes) == (15, 15)
    with pytest.raises(SearchError, match="minutes must be above 0"):
        search.within(0)
