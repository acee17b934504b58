"""A search tells a tracker what it finds, and never stops for it."""

import sys
from threading import Event
from types import ModuleType
from typing import Any

import pytest

from hubmerge.errors import HubmergeError
from hubmerge.evolve import run, tracking
from hubmerge.evolve.records.journal import read_evaluations


class Library(ModuleType):
    """trackio or wandb, as far as a search calls them; from step `breaks` on it fails, at `hangs` it waits for ever.

    Step 0 is its beginning.
    """

    def __init__(self, name: str, breaks: int = 10**9, hangs: int | None = None) -> None:
        super().__init__(name)
        self.begun: dict[str, Any] = {}
        self.told: list[tuple[int, dict[str, float]]] = []
        self.finished, self.breaks, self.hangs = 0, breaks, hangs
        self.answers = Event()

    def init(self, **begun: Any) -> None:
        self.log({}, 0)
        self.begun = begun
        self.told.clear()

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.hangs:
            self.answers.wait()
        if step >= self.breaks:
            raise ConnectionError("no server at /home/alice with hf_abcdefghijklmnopqrstuvwxyz")
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch):
    def install(name: str, **how: Any) -> Library:
        made = Library(name, **how)
        monkeypatch.setitem(sys.modules, name, made)
        monkeypatch.setattr(tracking, "require", lambda name: None)
        return made

    return install


def test_every_evaluation_and_the_table_are_told(library, tiny_search, tmp_path) -> None:
    trackio = library("trackio")
    result = run.evolve(tiny_search(), tmp_path / "mine", track="trackio")
    assert trackio.begun["project"] == "hubmerge" and trackio.begun["name"] == "mine"
    assert trackio.begun["config"]["models"] == "base, math, japanese"  # folders by their names, no paths
    assert str(tmp_path) not in str(trackio.begun)
    *searched, (_, table) = trackio.told
    evaluations = read_evaluations(tmp_path / "mine" / "journal.jsonl")
    assert [step for step, _ in searched] == [*range(1, len(evaluations) + 1)]
    assert searched[-1][1]["best"] == max(evaluation.fitness[0] for evaluation in evaluations)
    assert table == {f"test/{row.model}": row.value for row in result.rows}
    assert trackio.finished == 1


def test_steps_go_on_where_another_search_of_the_run_begins(library, tiny_search, tmp_path) -> None:
    wandb = library("wandb")
    search = tiny_search(data_flow={}, baselines=[], searcher={"name": "cmaes", "popsize": 4, "evaluations": 4})
    run.evolve(search, tmp_path / "run", track="wandb")
    steps = [step for step, _ in wandb.told[:-1]]
    assert steps == [*range(1, len(steps) + 1)] and len(steps) > 4


def test_a_tracker_that_breaks_costs_the_search_nothing(library, tiny_search, tmp_path, caplog) -> None:
    trackio = library("trackio", breaks=3)
    result = run.evolve(tiny_search(baselines=[]), tmp_path / "run", track="trackio")
    assert len(trackio.told) == 2 and result.rows
    assert [record.message for record in caplog.records if record.name == "hubmerge.evolve.tracking"] != []


def test_trackio_is_told_where_it_is_installed_unless_somebody_says_no(
    library, tiny_search, tmp_path, call, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(tracking, "find_spec", sys.modules.get)
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert tracking.chosen("auto") is tracking.chosen("none") is tracking.chosen(None) is None
    trackio = library("trackio")
    search = tiny_search(baselines=[], searcher={"name": "random", "popsize": 4, "evaluations": 4})
    (tmp_path / "search.yaml").write_text(search.to_yaml())
    assert call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "none", "--track", "none").returncode == 0
    assert not trackio.told
    assert call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "told").returncode == 0
    assert len(trackio.told) == 5 and trackio.finished == 1
    monkeypatch.setattr(trackio, "init", trackio.log)  # which fails: it is called otherwise
    assert call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "broken").returncode == 0
    assert "the search is not tracked, for trackio does not begin (TypeError" in caplog.text
    said = call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "asked", "--track", "trackio")
    assert said.returncode == 2 and "trackio does not begin (TypeError" in said.stderr


@pytest.mark.parametrize("step", [0, 3, 10**6])
def test_a_tracker_that_does_not_answer_is_not_waited_for(
    step: int, library, tiny_search, tmp_path, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.01)
    trackio = library("trackio", hangs=step)
    if step == 10**6:
        monkeypatch.setattr(trackio, "finish", trackio.answers.wait)
    assert run.evolve(tiny_search(baselines=[]), tmp_path / "run", track="trackio").rows
    assert "has not answered" in [one.message for one in caplog.records if one.name.endswith("tracking")][-1]
    trackio.answers.set()


def test_a_folder_that_takes_no_board_is_said_before_the_search(tiny_search, tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="an extra of its own")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    with pytest.raises(HubmergeError, match="tensorboard does not begin"):
        run.evolve(tiny_search(baselines=[]), tmp_path / "run", track="tensorboard")
    assert (tmp_path / "run" / "tensorboard").read_text() == "in the way"


def test_what_is_missing_or_unknown_is_said_before_the_search(call, tiny_search, tmp_path) -> None:
    (tmp_path / "search.yaml").write_text(tiny_search().to_yaml())
    for name, said in (("wandb", "hubmerge[wandb]"), ("trackoi", "did you mean trackio?")):
        done = call("evolve", tmp_path / "search.yaml", "--out", tmp_path / name, "--track", name)
        assert done.returncode == 2 and said in done.stderr
        assert not (tmp_path / name / "journal.jsonl").exists()
    with pytest.raises(HubmergeError, match="There is no tracker"):
        run.evolve(tiny_search(), tmp_path / "other", track="mlflow")


def test_tensorboard_reads_what_is_written(tiny_search, tmp_path) -> None:
    pytest.importorskip("tensorboard", reason="an extra of its own")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run.evolve(tiny_search(baselines=[]), tmp_path / "run", track="tensorboard")
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    best = read.Scalars("best")
    assert [event.step for event in best] == [*range(1, len(best) + 1)]
    assert read.Scalars("test/evolved")[0].value == pytest.approx(result.rows[-1].value, abs=1e-6)
