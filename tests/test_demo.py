"""The demo, end to end and from outside: its own Hub, a search, a push, the model back by ID."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from hubmerge import demo
from hubmerge.zoo.kinds import demo_search

kind = sys.argv[2]
run, beside = {
    "words": (demo.run, "average"),
    "vlm": (demo.vlm, "average"),
    "image": (demo.image, "random"),
}[kind]
search = demo_search(kind)
search = replace(
    search,
    searcher=replace(search.searcher, evaluations=8, popsize=4),
    splits={"search": 10, "validation": 10, "test": 20},
    baselines=(beside,),
)
run(Path(sys.argv[1]), search, memory=400_000_000)
"""


def run_demo(out: Path, kind: str = "words") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(out), kind],
        capture_output=True,
        text=True,
        env={**environment, "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_demo_runs_whole_and_again(tmp_path) -> None:
    first = run_demo(tmp_path / "demo")
    for name in ("zoo-base", "zoo-math", "zoo-japanese", "average", "evolved"):
        assert name in first
    assert len(re.findall(r"^A .*(?:right|expected \d+) *$", first, re.MULTILINE)) == 3
    run = tmp_path / "demo" / "run"
    for file in ("search.yaml", "journal.jsonl", "best.yaml", "curve.png", "results.json", "model/README.md"):
        assert (run / file).stat().st_size > 0
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert all(row["n"] == 20 and row["low"] <= row["value"] <= row["high"] for row in rows)

    before = (run / "journal.jsonl").read_bytes()
    second = run_demo(tmp_path / "demo")
    assert (run / "journal.jsonl").read_bytes() == before
    table = [line for line in first.splitlines() if re.search(r"\d% +[\d.]+% - ", line)]
    assert table
    assert table == [line for line in second.splitlines() if re.search(r"\d% +[\d.]+% - ", line)]


@pytest.mark.slow
def test_demo_of_models_that_see(tmp_path) -> None:
    """Its table, the rows beside it, twelve pictures with answers; again, nothing is asked a second time."""
    from PIL import Image

    first = run_demo(tmp_path / "demo", "vlm")
    for name in (
        "vlm-base",
        "vlm-english",
        "vlm-japanese",
        "average",
        "evolved",
        "another picture",
        "told “日本語で。”",
    ):
        assert name in first
    assert len(re.findall(r"^A .*(?:right|expected .*)$", first, re.MULTILINE)) == 3
    with Image.open(tmp_path / "demo" / "answers.png") as sheet:
        assert sheet.width > 1000
    run = tmp_path / "demo" / "run"
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "image-text-to-text" in card and "AutoProcessor" in card and '"image"' in card
    kept = (tmp_path / "demo" / "beside.json").read_bytes()
    answers = json.loads(kept)["answers"]
    assert {len(said) for said in answers.values()} == {12} and {*answers} > {"VLM", "evolved"}
    rows = {row["model"]: row for row in json.loads(kept)["rows"]}
    assert all(row["n"] == 20 and len(row["problems"]) == 20 for row in rows.values())
    assert rows["evolved, without the picture"]["value"] == rows["VLM, told “日本語で。”"]["value"] == 0
    second = run_demo(tmp_path / "demo", "vlm")
    assert (tmp_path / "demo" / "beside.json").read_bytes() == kept

    def table(text: str) -> list[str]:
        return [line for line in text.splitlines() if re.search(r"\d% +[\d.]+% - ", line)]

    assert table(first) == table(second) != []


@pytest.mark.slow
def test_demo_of_models_that_draw(tmp_path) -> None:
    """Its table, the one by another judge, a sheet of pictures, and the pushed pipeline's own."""
    from PIL import Image

    told = run_demo(tmp_path / "demo", "image")
    for name in ("image-base", "image-fine", "image-japanese", "evolved", "by hand: attention", "random search"):
        assert name in told
    assert len(re.findall(r"the judge sees: .*(?:right|expected .*)$", told, re.MULTILINE)) == 3
    out = tmp_path / "demo"
    rows = {row["model"]: row for row in json.loads((out / "beside.json").read_bytes())["rows"]}
    assert all(row["n"] == 5 * 20 == len(set(row["problems"])) for row in rows.values()) and len(rows) == 12
    assert {row["value"] for name, row in rows.items() if name in ("base", "fine", "Japanese")} == {0}
    with Image.open(out / "pictures.png") as sheet, Image.open(out / "drawn-3.png") as drawn:
        assert sheet.height > 12 * 64 and drawn.size == (32, 32)
    card = (out / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "text-to-image" in card and "DiffusionPipeline" in card
