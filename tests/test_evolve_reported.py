"""Scores that leave with a model: to a benchmark of the Hub, and on the card of any candidate of a search."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, parse_eval_result_entries

from hubmerge import load_task, read_result
from hubmerge.errors import TaskError
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.run import evolve
from hubmerge.hub import render
from hubmerge.publish import push_result

ROWS = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
REGISTERED = {"name": "Sums", "tasks": [{"id": "sums", "config": "default", "split": "test"}, {"id": "products"}]}


@pytest.fixture(scope="module")
def benchmark(hub) -> dict[str, object]:
    """A task whose examples are a dataset that is a benchmark, which one beside it is not."""
    files = {
        f"{name}.jsonl": "\n".join(map(json.dumps, rows)) for name, rows in (("search", ROWS[:4]), ("test", ROWS[4:]))
    }
    for name, more in (("sums", {"eval.yaml": yaml.safe_dump(REGISTERED)}), ("no-benchmark", {})):
        HfApi().create_repo(f"alice/{name}", repo_type="dataset", exist_ok=True)
        added = [CommitOperationAdd(file, text.encode()) for file, text in (files | more).items()]
        HfApi().create_commit(f"alice/{name}", added, commit_message="Rows", repo_type="dataset")
    examples = {"repo_id": "alice/sums", "search": "search.jsonl", "test": "test.jsonl"}
    return {"name": "sums", "examples": examples, "max_new_tokens": 4, "benchmark": "sums"}


def test_the_winners_score_is_reported_as_the_hub_reads_it(benchmark, tiny_search, tmp_path: Path) -> None:
    result = evolve(tiny_search(task=benchmark, baselines=[]), tmp_path / "run")
    push_result(result, "alice/reported")
    assert read_result(tmp_path / "run", tiny_search(task=benchmark, baselines=[])).reported == result.reported
    there = HfApi().hf_hub_download("alice/reported", ".eval_results/sums.yaml")
    (entry,) = parse_eval_result_entries(yaml.safe_load(Path(there).read_text(encoding="utf-8")))
    own = next(row for row in result.rows if row.model == "evolved")
    assert (entry.dataset_id, entry.task_id, entry.value) == ("alice/sums", "sums", round(100 * own.value, 2))
    assert entry.dataset_revision == HfApi().dataset_info("alice/sums").sha
    assert entry.notes is not None and f"n = {own.n}" in entry.notes


def test_a_part_of_the_test_split_is_no_score_of_the_benchmark(benchmark, tiny_search, tmp_path: Path) -> None:
    part = evolve(tiny_search(task=benchmark, baselines=[], splits={"test": 4}), tmp_path / "run")
    assert part.rows[-1].n == 4 and part.reported == {}


def test_without_a_chat_template_the_cards_code_runs(siblings, tiny_search, tmp_path, monkeypatch, capsys) -> None:
    """It asks as the search did: without a template, in plain text."""
    models = {name: shutil.copytree(folder, tmp_path / name) for name, folder in siblings.items()}
    for folder in models.values():
        (folder / "chat_template.jinja").unlink()
    named = {"base_model": str(models["base"]), "models": [str(models["math"]), str(models["japanese"])]}
    result = evolve(tiny_search(baselines=[], **named), tmp_path / "run")
    text = (result.folder / "README.md").read_text()
    assert "it has no chat template." in text and render(read_result(tmp_path / "run").card) == text
    code = text.split("```python\n")[1].split("```")[0]
    assert "apply_chat_template" not in code
    monkeypatch.chdir(result.folder)
    exec(code, {})
    assert capsys.readouterr().out.strip()


def test_a_card_speaks_to_who_never_saw_a_search(tiny_search, tmp_path: Path) -> None:
    """Every fact of the table has a name of words, and values that stand for something say for what."""
    searcher = {"name": "nsga2", "popsize": 4, "evaluations": 4}
    search = tiny_search(baselines=[], fitness={"objectives": ["score", "brief"]}, searcher=searcher)
    result = evolve(search, tmp_path / "run")
    assert "](heatmap.png)" in (result.folder / "README.md").read_text()
    assert (result.folder / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    text = (result.folder / "README.md").read_text().split("### The search")[1].split("\n## ")[0]
    facts = dict(re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", text, re.M))
    assert facts["What was searched"] == "numbers of a recipe (parameter space)"
    assert facts["What was to be as much as possible"] == "the score and tokens saved"
    assert not {name for name in facts.keys() - {"---"} if not name[0].isupper()}, "a word of ours"


@pytest.mark.parametrize(
    ("examples", "name"),
    [
        ({"repo_id": "alice/sums", "test": "test.jsonl"}, "sums"),
        ({"folder": ".", "test": "data/hard.jsonl"}, "hard.jsonl"),
        ({"test": ROWS}, "examples of its own"),
    ],
)
def test_a_task_without_a_name_is_called_by_its_examples(examples, name: str, benchmark, tmp_path: Path) -> None:
    if "folder" in examples:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "hard.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
        examples = {**examples, "folder": str(tmp_path)}
    assert load_task({"examples": examples}).name == name


def test_only_what_a_dataset_registers_is_a_benchmark(benchmark) -> None:
    examples = benchmark["examples"]
    for change, said in (
        ({"benchmark": "sum"}, "no task 'sum' .did you mean sums"),
        ({"examples": {**examples, "repo_id": "alice/no-benchmark"}}, "has no eval.yaml"),  # type: ignore[dict-item]
        ({"examples": {"search": ROWS[:4], "test": ROWS[4:]}}, "for examples of a dataset"),
    ):
        with pytest.raises(TaskError, match=said):
            load_task({**benchmark, **change})
    assert load_task(benchmark).benchmark == "sums"


@pytest.mark.parametrize("finished", [True, False])
def test_a_candidates_card_tells_its_score_and_the_search(tiny_search, tmp_path: Path, call, finished: bool) -> None:
    run = tmp_path / "run"
    evolve(tiny_search(baselines=[]), run)
    if not finished:
        (run / "results.json").unlink()
    evaluation = read_evaluations(run / "journal.jsonl")[3]
    done = call("export", run, "--candidate", 3, "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(tmp_path / "model" / "README.md")
    (result,) = card.data.eval_results
    assert result.metric_value == round(evaluation.score, 4) and result.dataset_split == "search"
    assert "number 3 of the journal" in card.text and "cmaes" in card.text
    assert "The score by `exact_number` is the share of answers whose last number is the right one." in card.text
