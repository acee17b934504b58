"""The load test in small: users at once, none of whom sees what is another's; and that it would notice."""

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio.queueing import Queue
from gradio_client.exceptions import AppError
from test_benchmarks import BENCHMARKS, run, tables

from space.upkeep import LOOK, rest

KINDS = ("merge", "evolve", "publish")


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="figures come from /proc")
def test_users_at_once_see_only_their_own() -> None:
    lines = run("space_load.py", "--users", 4, "--minutes", 0.25, "--settle", 8, "--tolerate", 0.5)
    asked, server = tables(lines)
    requests = {row["what"]: int(row["requests"]) for row in asked}
    assert requests["list jobs"] >= 12 and requests["open the page"] == 4
    assert {row["server"] for row in server} == {"resident MB", "of it not shared MB", "open files", "threads"}
    assert "failures: 0" in lines and "violations of isolation: 0" in lines


@pytest.fixture
def visitor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A user of a page that keeps nothing apart, with one job of somebody else to pry into."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import space_visitor

    class Careless:
        def __init__(self, page: str, **options: object) -> None:
            panels = list(enumerate(KINDS))
            self.config = {
                "components": [{"id": at, "props": {"elem_id": f"hm-{kind}-job"}} for at, kind in panels],
                "dependencies": [{"id": at, "targets": [[9, "tick"]], "outputs": [at]} for at, _ in panels],
            }
            self.endpoints = {at: type("Endpoint", (), {})() for at, _ in panels}

    monkeypatch.setattr(space_visitor, "Client", Careless)
    monkeypatch.setattr(space_visitor.Visitor, "_call", lambda self, *arguments, **where: "the job of another")
    monkeypatch.setattr(space_visitor.Visitor, "_file", lambda self, job: "the file of another")
    tally = space_visitor.Tally()
    tally.own("other", "0123")
    tally.hide("other", "0123", "hf_other")
    return space_visitor.Visitor("http://page/", tmp_path, "curious", "hf_curious", None, tally, seed=0)


def test_what_prying_gets_is_a_violation(visitor) -> None:
    visitor.do("pry_everywhere")
    ways = {name.partition(":")[0] for name in visitor.tally.violations}
    assert ways >= {"job", "cancel", "chat with a job", "chat with a private model", "publish a job", "file"}
    assert len(visitor.tally.violations) == 8
    assert not visitor.tally.failures and not visitor.tally.refused


def test_a_refusal_counts_only_with_its_sentence(visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **where: object) -> str:
        raise AppError("Something went wrong inside hubmerge (KeyError).")

    monkeypatch.setattr(visitor, "_call", refuse)
    monkeypatch.setattr(visitor, "_file", refuse)
    visitor.do("pry")
    assert visitor.tally.failures and not visitor.tally.refused


def test_an_answer_that_names_what_is_another_s_is_a_violation(visitor) -> None:
    visitor._check("plan", {"sources": ["curious/secret"], "token": "hf_curious"})
    assert not visitor.tally.violations
    visitor._check("job", {"id": "0123"})
    assert list(visitor.tally.violations) == ["job: curious was shown 0123"]


def test_a_page_that_nobody_visits_sleeps() -> None:
    blocks = SimpleNamespace(_queue=SimpleNamespace(sleep_when_free=0.001))
    rest(blocks)
    assert blocks._queue.sleep_when_free == LOOK
    assert "sleep(self.sleep_when_free)" in inspect.getsource(Queue), "it still goes by this name"
