"""Searches run over made-up fitness: known optima, seeds, resuming, limits, failing candidates - without a model."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from genometools import NAMES, document, genome, peak, run, weights

from hubmerge.errors import Interrupted, ResourceError, SearchError
from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve import searchers
from hubmerge.evolve.records.evaluation import WORST
from hubmerge.evolve.records.journal import Journal, read_evaluations
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.recipes import ParameterGenome
from hubmerge.evolve.workers import pool
from hubmerge.recipe import Recipe


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
