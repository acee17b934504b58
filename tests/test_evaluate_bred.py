"""A model is not tested on what it was bred on, however the file of its questions is divided later."""

import json
from pathlib import Path

import pytest

from hubmerge import load_task
from hubmerge.errors import SourceError, TaskError
from hubmerge.evaluate.bred import BRED_FILE, bred_on, without_bred
from hubmerge.evolve.foresight import foresee
from hubmerge.evolve.opened import open_search
from hubmerge.evolve.run import evolve
from hubmerge.hub.source import open_source
from hubmerge.reference import ModelRef


@pytest.fixture
def divided(tiny_search, tmp_path: Path):
    """A task of one file, and a function that gives a search that divides it."""
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(24)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = dict.fromkeys(("search", "validation", "test"), "rows.jsonl")
    task = {"name": "tiny", "examples": {"folder": str(tmp_path), **files}, "max_new_tokens": 4}
    return task, lambda **changes: tiny_search(task=task, baselines=[], **changes)


def test_a_winner_is_not_asked_what_it_was_bred_on(call, divided, tmp_path: Path) -> None:
    task, search = divided
    sizes = {"search": 12, "validation": 8, "test": 4}
    out = tmp_path / "run"
    evolve(search(splits=sizes), out)
    asked = load_task(task, counts=sizes)
    bred = {*asked.problems("search"), *asked.problems("validation")}
    winner = open_source(ModelRef(str(out / "model")))
    assert bred_on(winner) == bred and len(bred) == 20
    whole = load_task(task)
    left, out_of = without_bred(whole, winner)
    assert bred.intersection(whole.problems("test")) and not bred.intersection(left.problems("test"))
    assert (left.problems("test"), out_of) == (asked.problems("test"), 4)
    assert without_bred(asked, winner) == (asked, 0)
    with pytest.raises(TaskError, match="asked all 12 test questions of tiny"):
        without_bred(load_task({**task, "examples": {"test": rows_of(asked)}}), winner)
    assert call("export", out, "--candidate", 0, "--out", tmp_path / "exported").returncode == 0
    assert bred_on(open_source(ModelRef(str(tmp_path / "exported")))) == bred
    file = tmp_path / "task.yaml"
    file.write_text(json.dumps(task))
    done = call("eval", out, "--task", file, "--json")
    assert (json.loads(done.stdout)["n"], json.loads(done.stdout)["left_out"]) == (4, 4), done.stderr
    assert "asked 4 of these 8 questions" in " ".join(done.stderr.split())


def rows_of(task) -> list[dict[str, str]]:
    return [{"question": example.prompt, "answer": example.answer} for example in task.search]


def test_a_search_among_winners_says_what_they_were_bred_on(divided, siblings, tmp_path: Path) -> None:
    _, search = divided
    sizes = {"search": 12, "validation": 8, "test": 4}
    evolve(search(splits=sizes), tmp_path / "run")
    models = [str(tmp_path / "run" / "model"), str(siblings["math"])]
    for splits, told in ((sizes, False), ({}, True)):
        opened = open_search(search(models=models, splits=splits), None)
        found = foresee(opened.search, opened.sources, opened.task).findings
        assert any("was bred on 4 of the 8 test questions" in finding.message for finding in found) == told


@pytest.mark.parametrize("content", ["[]", '{"search": 3}', '{"search": ["What is 3 + 4?"]}', '{"search": [3]}'])
def test_a_file_that_names_no_questions_is_damaged(tiny_llama, tmp_path: Path, content: str) -> None:
    folder = tiny_llama(tmp_path / "model")
    (folder / BRED_FILE).write_text(content)
    with pytest.raises(SourceError, match=BRED_FILE):
        bred_on(open_source(ModelRef(str(folder))))
