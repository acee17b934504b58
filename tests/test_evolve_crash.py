"""kill -9 at random moments of every searcher: the run that goes on is the run that was never interrupted.

HUBMERGE_CRASHES sets how often each search is killed; --thorough searches for longer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import crashing_search
import pytest

from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.records.results import Results
from hubmerge.evolve.searchers import SEARCHERS

CRASHES = int(os.environ.get("HUBMERGE_CRASHES", "2"))
RECIPES = {
    "merge_method": "task_arithmetic",
    "base_model": "org/base",
    "genome": {"granularity": ["model", "layer"], "genes": {"weight": [0, 2]}, "start": {"weight": 1.0}},
}
PATHS = {"data_flow": {"repeats": 2}}


@pytest.fixture(scope="module")
def crash() -> Iterator[Callable[..., dict[str, Any]]]:
    """A function `(document, folder)` that runs a search whole and, beside it, killed again and again."""
    driver = subprocess.Popen(
        [sys.executable, "-W", "ignore", crashing_search.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert driver.stdin and driver.stdout and driver.stderr

    def crash(document: dict[str, Any], folder: Path) -> dict[str, Any]:
        driver.stdin.write(json.dumps([document, str(folder), CRASHES, 7]) + "\n")
        driver.stdin.flush()
        answer = driver.stdout.readline()
        assert answer, driver.stderr.read()
        return json.loads(answer)

    yield crash
    driver.stdin.close()
    assert driver.wait(120) == 0
    driver.stdout.close()
    driver.stderr.close()


def told(folder: Path) -> list[dict[str, Any]]:
    """All that a journal says but the seconds, line by line."""
    return [{**vars(one), "seconds": None} for one in read_evaluations(folder / "journal.jsonl")]


@pytest.mark.parametrize(
    ("name", "space"),
    [*((name, RECIPES) for name in SEARCHERS), *((name, PATHS) for name in ("cmaes", "ga", "nsga2", "m2n2", "edits"))],
    ids=lambda value: value if isinstance(value, str) else "paths" if value is PATHS else "recipes",
)
def test_a_killed_search_ends_like_one_that_was_not(
    name: str, space: dict[str, Any], crash, thorough: bool, tmp_path: Path
) -> None:
    require_same(crash(document_of(name, space, thorough), tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("name", "space"),
    [*((name, RECIPES) for name in ("cmaes", "xnes", "ga", "m2n2")), ("edits", PATHS)],
    ids=lambda value: value if isinstance(value, str) else "paths" if value is PATHS else "recipes",
)
def test_a_killed_search_that_began_with_a_run_does_too(
    name: str, space: dict[str, Any], crash, thorough: bool, tmp_path: Path
) -> None:
    document = document_of(name, space, thorough)
    crash(document, tmp_path / "first")
    earlier = tmp_path / "first" / "whole"
    best = max(read_evaluations(earlier / "journal.jsonl"), key=lambda one: one.fitness)
    kind = "path" if space is PATHS else "recipe"
    winner = {"candidate": {kind: best.solution}, "recipe": {}}
    (earlier / "results.json").write_bytes(Results("key", {}, winner).to_json())
    begun = {**document, "from": str(earlier), "searcher": {**document["searcher"], "seed": 6}}
    require_same(crash(begun, tmp_path / "second"), tmp_path / "second")
    first = min(read_evaluations(tmp_path / "second" / "whole" / "journal.jsonl"), key=lambda one: one.number)
    assert name != "edits" or first.solution == best.solution


def document_of(name: str, space: dict[str, Any], thorough: bool) -> dict[str, Any]:
    return {
        "models": ["org/math", "org/japanese"],
        **space,
        "task": {"examples": {"search": [{"question": "1+1?", "answer": 2}]}},
        "searcher": {"name": name, "evaluations": 72 if thorough else 36, "popsize": 6, "seed": 5},
        "fitness": {"objectives": ["score"] if SEARCHERS[name].least == 1 else ["metric", "language"]},
    }


def require_same(done: dict[str, Any], tmp_path: Path) -> None:
    """Raises unless both runs came to one end, and what was measured was measured once."""
    assert done["ended"]
    assert done["killed"] >= CRASHES - 1  # the last moment may come when all is over
    whole, broken = told(tmp_path / "whole"), told(tmp_path / "broken")
    assert len(whole) > 12 and broken == whole
    assert any(one["error"] for one in whole) and len({one["fitness"] for one in whole}) > 2
    begun = (tmp_path / "broken" / "log").read_bytes().split(b"\n")[:-1]
    again = [key for place, key in enumerate(begun) if key != crashing_search.KILL and key in begun[place + 1 :]]
    lost = [begun[place - 1] for place, key in enumerate(begun) if key == crashing_search.KILL and place]
    assert set(again) <= set(lost), "only what was being measured at a kill is measured again"
    assert len(again) <= done["killed"]
    assert len(set(begun) - {crashing_search.KILL}) == len({one["candidate_key"] for one in whole})
