"""Searches evaluated by two actors on Ray, from the command line: the run of one process, whatever becomes of them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_evolve_run import search_of, strangers  # noqa: F401 (a fixture)
from waiting import until

from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search

pytestmark = pytest.mark.slow


def told(folder: Path) -> list[dict[str, Any]]:
    """All that a journal says but the seconds, by number: actors finish in an order of their own."""
    found = [{**vars(one), "seconds": None} for one in read_evaluations(folder / "journal.jsonl")]
    return sorted(found, key=lambda one: one["number"])


def actors_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes of the actors that a search has begun."""
    return [child for child in process.children(recursive=True) if child.name().startswith("ray::_Actor")]


@pytest.mark.parametrize("name", ["cmaes", pytest.param("m2n2", marks=pytest.mark.thorough)])
def test_two_actors_walk_the_path_of_one(name: str, strangers, tmp_path: Path) -> None:  # noqa: F811
    """Each of them within a limit of its own, which the one does not have."""
    searcher = {"name": name, "evaluations": 18, "popsize": 6, "seed": 1}
    search: Search = search_of(strangers, searcher=searcher, baselines=["average"])
    alone = evolve(search, tmp_path / "alone" / "run")
    (tmp_path / "search.yaml").write_text(search.to_yaml())
    out, how = tmp_path / "run", ["--actors", "2", "--memory", "200MB"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hubmerge", "evolve", tmp_path / "search.yaml", "--out", out, *how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    journal, killed = out / "journal.jsonl", False

    def at_work() -> list[psutil.Process]:
        begun = journal.exists() and journal.read_bytes().count(b"\n") > 4
        return actors_of(psutil.Process(process.pid)) if begun else []

    try:
        until(lambda: process.poll() is not None or at_work(), "no actor is at work")
        if actors := at_work():
            actors[0].send_signal(signal.SIGKILL)
            killed = True
        printed, _ = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, printed
    assert killed
    assert told(out) == told(tmp_path / "alone" / "run")
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["values"] for row in rows] == [row.values for row in alone.rows]
    weights = "model/model.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "alone" / "run" / weights).read_bytes()
