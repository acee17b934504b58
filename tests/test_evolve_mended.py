"""What would stop a search is said before it starts, and a mended one goes on."""

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hubmerge.errors import Interrupted, NetworkError, ResourceError, SearchError, TaskError
from hubmerge.evolve.export import candidate_recipe
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search

ROWS = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
SPLITS = {"search": ROWS[:4], "validation": ROWS[4:6], "test": ROWS[6:]}


def of(search: Search, **task) -> Search:
    return replace(search, task={**search.task, **task}, baselines=())


def test_what_does_not_fit_is_said_by_plan_and_before_the_search(tiny_search, tmp_path: Path) -> None:
    long = {"question": "w1 " * 100, "answer": "1"}
    search = of(tiny_search(), examples={**SPLITS, "test": [*ROWS[6:], long]}, max_new_tokens=60)
    (problem,) = [one for one in plan_search(search).findings if one.level == "error"]
    for part in ("test split", "max_new_tokens is 60", "at most 128", "write `max_new_tokens: "):
        assert part in problem.message
    with pytest.raises(TaskError, match="longest example of the test split"):
        evolve(search, tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists()
    room = int(problem.message.split("`max_new_tokens: ")[1].split("`")[0])
    fits = of(search, max_new_tokens=room)
    assert not [one for one in plan_search(fits).findings if one.level == "error"]
    assert plan_search(fits).demand.prompt_tokens == 128 - room
    assert [one for one in plan_search(of(search, max_new_tokens=room + 1)).findings if one.level == "error"]


def test_a_disk_without_room_for_the_winner_is_said_before_the_search(tiny_search, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000))
    with pytest.raises(ResourceError, match=r"free and the merge needs .*; make room or choose another"):
        evolve(of(tiny_search(), examples=SPLITS), tmp_path / "run")
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_a_judge_that_is_away_and_missing_splits_are_said(tiny_search, tmp_path: Path) -> None:
    judge = {"base_url": "http://127.0.0.1:9/v1", "model": "j", "retries": 0}
    search = of(tiny_search(), judge=judge)
    messages = [problem.message for problem in plan_search(search).findings]
    assert any("did not answer" in message for message in messages)
    assert any("no validation split" in message for message in messages)
    with pytest.raises(NetworkError, match="did not answer"):
        evolve(search, tmp_path / "run")
    few = Search.from_dict({**tiny_search().to_dict(), "economy": {"examples": 8}})
    assert any("economy.examples is 8" in problem.message for problem in plan_search(few).findings)


def stopped(search: Search, out: Path, after: int) -> None:
    def stop(event) -> None:
        if event.stage == "search" and event.done == after:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        evolve(search, out, progress=stop)


def test_what_an_earlier_run_did_and_which_search_it_is_are_told(tiny_search, tmp_path: Path) -> None:
    """Searches beside the main one have their own names, and no share in its curve."""
    search, events = replace(of(tiny_search(), examples=SPLITS), baselines=("random", "grid")), []

    def stop(event) -> None:
        if event.stage == "random search" and event.done == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        evolve(search, tmp_path, progress=stop)
    there = len(read_evaluations(tmp_path / "random" / "journal.jsonl"))
    evolve(search, tmp_path, resume=True, progress=events.append)
    told = {name: [event for event in events if event.stage == name] for name in ("search", "random search", "grid")}
    assert [(event.done, event.kept) for event in told["search"][1:]] == [(done, done) for done in range(1, 9)]
    assert {event.kept for event in told["random search"] if event.done > there} == {there} and 3 <= there < 8
    assert {event.kept for event in told["grid"]} == {0} and len(told["grid"]) > 1
    assert all(event.data for event in told["search"][1:])
    assert not any(event.data for name in ("random search", "grid") for event in told[name])
    assert {"validate", "validate random search", "validate grid"} <= {event.stage for event in events}


def fail_all(journal: Path) -> None:
    """The journal as a run leaves it whose candidates could all not be asked."""
    header, *lines = journal.read_text().splitlines()
    failed = [json.loads(line) | {"error": "too long", "n": 0, "values": "", "fitness": [-1.0]} for line in lines]
    journal.write_text("\n".join([header, *map(json.dumps, failed), ""]))


def test_a_search_without_scores_may_be_mended_in_everything(tiny_search, tmp_path: Path) -> None:
    search = of(tiny_search(), examples=SPLITS)
    stopped(search, tmp_path, 4)
    fail_all(tmp_path / "journal.jsonl")
    with pytest.raises(SearchError, match=r"Candidate 1 .* has no score.*too long"):
        candidate_recipe(tmp_path, 1)
    result = evolve(of(search, max_new_tokens=3), tmp_path, resume=True)
    assert result.facts["evaluations"] == 8
    assert all(one.error is None for one in read_evaluations(tmp_path / "journal.jsonl"))
    assert Search.from_yaml(tmp_path / "search.yaml").task["max_new_tokens"] == 3


def test_chosen_examples_are_forgotten_by_nobody_else(tiny_search, tmp_path: Path) -> None:
    """A mended search has its own chosen; but while another process is at work in the folder they are that one's."""
    search = of(tiny_search(), examples={"search": ROWS[:10], "validation": ROWS[10:]})
    search = Search.from_dict({**search.to_dict(), "economy": {"examples": 8}})
    stopped(search, tmp_path, 4)
    fail_all(tmp_path / "journal.jsonl")
    before = (tmp_path / "examples.json").read_bytes()
    with (tmp_path / "journal.jsonl").open("a+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SearchError, match="in use"):
            evolve(of(search, max_new_tokens=3), tmp_path, resume=True)
    assert (tmp_path / "examples.json").read_bytes() == before
    assert evolve(of(search, max_new_tokens=3), tmp_path, resume=True).facts["evaluations"] == 8
    assert json.loads(before)["key"] != json.loads((tmp_path / "examples.json").read_bytes())["key"]


def test_what_cannot_change_what_was_measured_may_change(tiny_search, tmp_path: Path) -> None:
    search = of(tiny_search(), examples=SPLITS)
    stopped(search, tmp_path, 5)
    before = read_evaluations(tmp_path / "journal.jsonl")
    changes = {
        "task.max_new_tokens": of(search, max_new_tokens=3),
        "searcher.seed": replace(search, searcher=replace(search.searcher, seed=5)),
        "searcher.popsize": replace(search, searcher=replace(search.searcher, popsize=5)),
        "genes": replace(search, genes=(replace(search.genes[0], high=3.0),)),
        "models": replace(search, models=search.models[::-1]),
    }
    for name, changed in changes.items():
        part = {"genes": "genome"}.get(name, name)
        with pytest.raises(SearchError, match=rf"another search.*{part}"):
            evolve(changed, tmp_path, resume=True)
    longer = replace(search, searcher=replace(search.searcher, evaluations=12), select=2, batch_size=3)
    result = evolve(longer, tmp_path, resume=True)
    after = read_evaluations(tmp_path / "journal.jsonl")
    assert (len(after), result.facts["evaluations"]) == (12, 12)
    assert after[: len(before)] == before
    assert evolve(longer, tmp_path, resume=True).rows == result.rows
    # Not after the end: which candidate wins would be decided by somebody who knows the test split's answer.
    longest = replace(longer, searcher=replace(search.searcher, evaluations=16))
    with pytest.raises(SearchError, match=r"searcher.evaluations differs, and its test split was opened"):
        evolve(longest, tmp_path, resume=True)
    assert evolve(longer, tmp_path, resume=True).rows == result.rows
