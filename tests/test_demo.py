"""The demo, end to end and from outside: its own Hub, a search, a push, the model back by ID."""

import json
import os
import re
import subprocess
import sys

import pytest

# Runs the demo twice, each time in a fork: the larger imports, which do not read the environment, are paid for once.
SCRIPT = """
import os
import shutil
import sys
from dataclasses import replace

import evotorch
from hubmerge import demo

root = Path(sys.argv[1])
for number in range(2):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(root / f"printed {number}", os.O_WRONLY | os.O_CREAT), 1)
        search = demo.demo_search()
        search = replace(
            search,
            searcher=replace(search.searcher, evaluations=6, popsize=6),
            splits={"search": 10, "validation": 10, "test": 20},
            baselines=("average",),
        )
        demo.run(root / "demo", search)
        sys.exit()
    if status := os.waitpid(child, 0)[1]:
        sys.exit(f"run {number} ended with {os.waitstatus_to_exitcode(status)}")
    shutil.copy(root / "demo" / "run" / "journal.jsonl", root / f"journal {number}")
"""


@pytest.mark.slow
def test_demo_runs_whole_and_again(tmp_path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
        timeout=800,
    )
    first, second = (path.read_text() if (path := tmp_path / f"printed {n}").exists() else "" for n in range(2))
    assert done.returncode == 0, first + second + done.stderr
    for name in ("zoo-base", "zoo-math", "zoo-japanese", "average", "evolved"):
        assert name in first
    assert len(re.findall(r"^A .*(?:right|expected \d+) *$", first, re.MULTILINE)) == 3
    run = tmp_path / "demo" / "run"
    for file in ("search.yaml", "journal.jsonl", "best.yaml", "curve.png", "results.json", "model/README.md"):
        assert (run / file).stat().st_size > 0
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert all(row["n"] == 20 and row["low"] <= row["value"] <= row["high"] for row in rows)

    assert (tmp_path / "journal 1").read_bytes() == (tmp_path / "journal 0").read_bytes()
    table = [line for line in first.splitlines() if re.search(r"\d% +[\d.]+% - ", line)]
    assert table
    assert table == [line for line in second.splitlines() if re.search(r"\d% +[\d.]+% - ", line)]
