"""The search file, the genome, the searchers and the journal - without a model."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hubmerge.errors import Interrupted, ResourceError, SearchError
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve import searchers
from hubmerge.evolve.explore import explore
from hubmerge.evolve.records.evaluation import WORST
from hubmerge.evolve.records.journal import Journal, read_evaluations
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.spaces.squash import squash, unsquash
from hubmerge.evolve.spec.searcher import Searcher
from hubmerge.evolve.workers import pool
from hubmerge.evolve.workers.pool import LocalPool
from hubmerge.recipe import Recipe, value_at

NAMES = [
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{suffix}.weight"
        for layer in range(12)
        for suffix in ("self_attn.q_proj", "self_attn.q_norm", "mlp.up_proj", "input_layernorm")
    ),
    "model.norm.weight",
    "lm_head.weight",
]
TASK = {"examples": {"search": [{"question": "1+1?", "answer": 2}]}}


def document(**changes) -> dict:
    return {
        "models": ["org/math", "org/japanese"],
        "base_model": "org/base",
        "merge_method": "dare_ties",
        "genome": {"granularity": "layer", "genes": {"weight": [0, 2], "density": [0.1, 1]}, "start": {"weight": 0.5}},
        "task": TASK,
        "searcher": {"evaluations": 60, "seed": 7},
        **changes,
    }


def genome(granularity: str = "model", **changes) -> ParameterGenome:
    genes = {"granularity": granularity, "genes": {"weight": [0, 2]}, "start": {"weight": 1.0}}
    return ParameterGenome(Search.from_dict(document(merge_method="task_arithmetic", genome=genes, **changes)), NAMES)


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


def weights(recipe: Recipe) -> np.ndarray:
    return np.array([value_at(entry.parameters["weight"], name, 0) for entry in recipe.models for name in NAMES])


def peak(recipe: Recipe) -> Measurement:
    """A synthetic fitness whose best point is weight 1.4 for the first model, 0.3 for the second."""
    half = len(NAMES)
    w = weights(recipe)
    error = np.mean((w[:half] - 1.4) ** 2) + np.mean((w[half:] - 0.3) ** 2)
    return Measurement(math.exp(-4 * error), 0.0, 0.0, 1)


def run(folder: Path, made: ParameterGenome, measure=peak, resume: bool = False, progress=lambda event: None):
    folder.mkdir(exist_ok=True)
    with Journal(folder / "journal.jsonl", "key", {}, resume=resume) as journal:
        spec = made.search
        worker = SimpleNamespace(measure=lambda candidate, job: measure(candidate))
        with LocalPool(lambda: worker) as pool:
            return explore(spec.searcher, spec.fitness, [lambda start: made], journal, pool, progress=progress)


@pytest.mark.parametrize("granularity", ["model", "layer"])
def test_cmaes_finds_a_known_optimum(tmp_path: Path, granularity: str) -> None:
    evaluations = 160 if granularity == "model" else 900
    made = genome(granularity, searcher={"evaluations": evaluations, "seed": 1})
    found = run(tmp_path, made)
    best = max(found.evaluations, key=lambda e: e.fitness[0])
    assert best.score > 0.97
    centre = weights(made.decode(found.centre)).reshape(2, -1).mean(1)
    assert centre == pytest.approx([1.4, 0.3], abs=0.12)
    assert len(found.evaluations) <= evaluations


def test_cmaes_works_with_a_single_gene(tmp_path: Path) -> None:
    genes = {"granularity": "model", "genes": {"t": [0, 1]}}
    search = Search.from_dict(
        document(models=["org/math"], merge_method="slerp", genome=genes, searcher={"evaluations": 80})
    )
    made = ParameterGenome(search, NAMES)
    found = run(
        tmp_path,
        made,
        lambda recipe: Measurement(1 - abs(float(recipe.parameters["t"]) - 0.8), 0, 0, 1),  # type: ignore[arg-type]
    )
    assert max(e.score for e in found.evaluations) > 0.99
    assert {len(e.genome) for e in found.evaluations} == {1}


def test_a_seed_fixes_the_run_and_another_changes_it(tmp_path: Path) -> None:
    made = genome(searcher={"evaluations": 40, "seed": 3})
    runs = [run(tmp_path / name, made).evaluations for name in ("a", "b")]
    other = run(tmp_path / "c", genome(searcher={"evaluations": 40, "seed": 4})).evaluations
    assert [e.genome for e in runs[0]] == [e.genome for e in runs[1]]
    assert runs[0][0].genome != other[0].genome


def test_random_and_grid_are_searchers_too(tmp_path: Path) -> None:
    spec = {"evaluations": 26, "seed": 1}
    found = run(tmp_path / "random", genome("layer", searcher={**spec, "name": "random", "popsize": 5}))
    assert len(found.evaluations) == 25
    values = [genome("layer").values(np.array(e.genome)) for e in found.evaluations]
    assert 0.85 < np.mean(values) < 1.15
    assert found.centre is None
    made = genome("layer", searcher={**spec, "name": "grid", "popsize": 6})
    found = run(tmp_path / "grid", made)
    pairs = {tuple(np.unique(weights(made.decode(np.array(e.genome))).reshape(2, -1))) for e in found.evaluations}
    assert len(found.evaluations) == 25  # a square of 5 x 5 scalars, the same in every layer
    assert len({e.candidate_key for e in found.evaluations}) == 25
    assert max(len(pair) for pair in pairs) <= 2
    assert searchers.planned(made.search.searcher, made) == (5, 25)


def test_an_interrupted_run_resumes_to_the_same_end(tmp_path: Path) -> None:
    made = genome(searcher={"evaluations": 48, "seed": 5})
    whole = run(tmp_path / "whole", made)

    def stop(event) -> None:
        if event.done == 21:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run(tmp_path / "broken", made, progress=stop)
    journal = tmp_path / "broken" / "journal.jsonl"
    assert len(read_evaluations(journal)) == 21
    with journal.open("ab") as file:
        file.write(b'{"number": 21, "gen')  # the line that a kill tore
    measured = []
    resumed = run(tmp_path / "broken", made, lambda recipe: measured.append(recipe) or peak(recipe), resume=True)
    assert len(measured) == len(whole.evaluations) - 21
    strip = [(e.genome, e.fitness, e.generation, e.number) for e in whole.evaluations]
    assert [(e.genome, e.fitness, e.generation, e.number) for e in resumed.evaluations] == strip
    assert [(e.genome, e.fitness, e.generation, e.number) for e in read_evaluations(journal)] == strip


@pytest.mark.parametrize("name", ["cmaes", "m2n2"])
def test_minutes_end_a_search_and_a_resumed_one_at_the_same_candidate(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A candidate takes a minute: 20 of them, whole generations of 8, and what is under way is waited for.
    made = genome(searcher={"name": name, "evaluations": 2_000, "popsize": 8, "seed": 5, "minutes": 20})
    endless = genome(searcher={"name": name, "evaluations": 2_000, "popsize": 8, "seed": 5})

    clock = [0.0]
    monkeypatch.setattr(pool, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def slow(recipe: Recipe) -> Measurement:
        clock[0] += 60
        return peak(recipe)

    whole = run(tmp_path / "run", made, slow)
    made_by = len(whole.evaluations)
    assert 20 <= made_by < 40 and sum(e.seconds for e in whole.evaluations) >= 20 * 60
    assert name == "m2n2" or made_by % 8 == 0

    def stop(event) -> None:
        if event.done == made_by + 4:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        run(tmp_path / "endless", endless, progress=stop)
    longer = [e.genome for e in read_evaluations(tmp_path / "endless" / "journal.jsonl")]
    journal = tmp_path / "run" / "journal.jsonl"
    assert sorted(e.genome for e in read_evaluations(journal)) == sorted(longer[:made_by])
    # Of a run that was cut off in its middle, the seconds are still known.
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:10]))
    measured = []
    resumed = run(tmp_path / "run", made, lambda recipe: measured.append(recipe) or slow(recipe), resume=True)
    assert measured and len(measured) < made_by
    again = run(tmp_path / "run", made, lambda recipe: pytest.fail("it is finished"), resume=True)
    assert [e.genome for e in again.evaluations] == [e.genome for e in resumed.evaluations]


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


def test_a_failing_candidate_costs_only_itself(tmp_path: Path) -> None:
    calls = []

    def measure(recipe: Recipe) -> Measurement:
        calls.append(recipe)
        if len(calls) == 3:
            raise ValueError("broken")
        if len(calls) == 5:
            return Measurement(math.nan, 0, 0, 1)
        return peak(recipe)

    found = run(tmp_path, genome(searcher={"evaluations": 24, "seed": 1}), measure)
    assert found.failed == 2
    assert [e.error for e in found.evaluations if e.error] == [
        "ValueError: broken",
        "The measurement is not a finite number.",
    ]
    assert {e.fitness for e in found.evaluations if e.error} == {(WORST,)}
    assert len(found.evaluations) == 24


def test_a_search_where_nothing_works_says_why(tmp_path: Path) -> None:
    def broken(recipe: Recipe) -> Measurement:
        raise ValueError("no such operator")

    with pytest.raises(SearchError, match="no such operator"):
        run(tmp_path, genome(), broken)


def test_the_same_recipe_is_measured_once(tmp_path: Path, monkeypatch) -> None:
    measured = []
    made = genome(searcher={"name": "grid", "evaluations": 16, "popsize": 4})
    vectors = made.grid(16)
    twice = [*vectors[:2], *vectors[:2], *vectors[4:]]
    monkeypatch.setattr(made, "grid", lambda evaluations: twice)
    found = run(tmp_path, made, lambda recipe: measured.append(recipe) or peak(recipe))
    assert len(found.evaluations) == 16
    assert len(measured) == 14
    assert found.evaluations[0].score == found.evaluations[2].score


def test_a_disk_without_room_is_one_sentence_and_the_search_goes_on(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "journal.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = [one.genome for one in run(tmp_path, genome()).evaluations]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:6]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"Writing to .*journal.jsonl failed: File too large; raise the limit"):
            run(tmp_path, genome(), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(read_evaluations(path)) == 5
    run(tmp_path, genome(), resume=True)
    assert [one.genome for one in read_evaluations(path)] == whole


def test_journals_are_kept_apart(tmp_path: Path) -> None:
    run(tmp_path, genome())
    path = tmp_path / "journal.jsonl"
    with pytest.raises(SearchError, match="already holds a search"):
        Journal(path, "key", {}, resume=False)
    with pytest.raises(SearchError, match="another search"):
        Journal(path, "other key", {}, resume=True)
    with Journal(path, "key", {}, resume=True), pytest.raises(SearchError, match="in use"):
        Journal(path, "key", {}, resume=True)
    lines = path.read_text().splitlines()
    lines[3] = "nonsense"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SearchError, match="Line 4"):
        Journal(path, "key", {}, resume=True)


def test_a_journal_of_other_candidates_is_refused(tmp_path: Path) -> None:
    run(tmp_path, genome())
    path = tmp_path / "journal.jsonl"
    header, first, *rest = path.read_text().splitlines()
    known = json.loads(first)
    another, few = "not the one that this searcher asks for", "line 2: not an evaluation"
    for changed, says in (
        ({"genome": [known["genome"][0] + 0.5, *known["genome"][1:]]}, another),
        ({"genome": known["genome"][1:]}, another),
        ({"fitness": [*known["fitness"], 0.5]}, another),
        ({"n": known["n"] + 1, "values": [0.5]}, few),
        ({"generation": -1}, few),
    ):
        path.write_text("\n".join([header, json.dumps(known | changed), *rest]) + "\n")
        with pytest.raises(SearchError, match=says):
            run(tmp_path, genome(), resume=True)


def test_progress_carries_what_a_chart_needs(tmp_path: Path) -> None:
    events = []
    found = run(tmp_path, genome(searcher={"evaluations": 24, "seed": 2}), progress=events.append)
    assert [event.done for event in events] == list(range(25)) and not events[0].data
    last = events[-1].data
    assert last["best"] == max(e.fitness[0] for e in found.evaluations)
    final = [e.fitness[0] for e in found.evaluations if e.generation == last["generation"]]
    assert last["mean"] == pytest.approx(np.mean(final))
    assert events[0].total == 24
