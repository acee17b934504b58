"""Searches for paths, for both, and for a front, from Hub IDs: what they leave is true, wherever they were stopped."""

import contextlib
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_evolve_run import PLAIN, PROMPTS, strangers  # noqa: F401 (a fixture)

from hubmerge import cli
from hubmerge.errors import Interrupted
from hubmerge.evaluate.generation import generate
from hubmerge.evolve.records.folder import small_files
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.records.mirror import Mirror
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.workers.path_model import PathModel
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.recipe import Output, Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.plan import make_plan

WORDS = 2
"""Tokens of an answer."""


def command(*arguments: object) -> str:
    """What a command prints; it must end well."""
    printed, complaints = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hubmerge", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "stdout", printed)
        patch.setattr(sys, "stderr", complaints)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    assert not stopped.value.code, complaints.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def published(hub, strangers) -> dict[str, str]:  # noqa: F811
    """The strangers on the Hub: name -> Hub ID."""
    from huggingface_hub import HfApi

    api, ids = HfApi(), {}
    for name, folder in strangers.items():
        ids[name] = f"alice/spaces-{name}"
        api.create_repo(ids[name], exist_ok=True)
        api.upload_folder(repo_id=ids[name], folder_path=folder)
    return ids


@pytest.fixture(scope="module")
def rows(published) -> list[dict[str, str]]:
    """Questions whose right answers are in turn what one merge and what one path says: both are worth finding."""
    math, japanese, base = (ModelRef(published[name]) for name in ("math", "japanese", "base"))
    recipe = Recipe.from_dict(
        {
            "merge_method": "task_arithmetic",
            "base_model": str(base),
            "models": [{"model": str(ref), "parameters": {"weight": [0.2, 1.1, 0.7]}} for ref in (math, japanese)],
            "chat_template": PLAIN,
        }
    )
    merged = ResidentModel(make_plan(recipe))
    path = PathModel((math, japanese))
    path.load(LayerPath((math, japanese), ((0, 0), (1, 1), (0, 2)), (1.0, 1.3, 0.8), Output(chat_template=PLAIN)))
    said = [
        generate(model, tokenizer, PROMPTS, max_new_tokens=WORDS)
        for model, tokenizer in ((merged.model, merged.tokenizer), (path.model, path.tokenizer))
    ]
    return [{"question": prompt, "answer": said[n % 2][n] or "nothing"} for n, prompt in enumerate(PROMPTS)]


SPACES: dict[str, dict[str, Any]] = {
    "ps": {
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "layer", "genes": {"weight": [-1, 3]}, "start": {"weight": 0.5}},
    },
    "dfs": {"data_flow": {"repeats": 2, "max_layers": 6}},
}
SPACES["ps-dfs"] = SPACES["ps"] | {"data_flow": {**SPACES["dfs"]["data_flow"], "paper": True}}
SPACES["nsga2"] = SPACES["ps"] | {
    "fitness": {"objectives": ["metric", "language"]},
    "searcher": {"name": "nsga2", "evaluations": 16, "popsize": 8, "seed": 1},
}


def document(name: str, ids: dict[str, str], rows: list[dict[str, str]], **changes: Any) -> dict[str, Any]:
    """A small search in one of the spaces."""
    return {
        "models": [ids["math"], ids["japanese"]],
        "base_model": ids["base"],
        "searcher": {"evaluations": 12, "seed": 1, "popsize": 6},
        "task": {
            "name": "echo",
            "examples": {"search": rows[:10], "validation": rows[10:14], "test": rows[14:]},
            "metric": "exact_match",
            "max_new_tokens": WORDS,
        },
        "select": 2,
        "baselines": ["average"],
        "chat_template": PLAIN,
        **SPACES[name],
        **changes,
    }


@dataclass(frozen=True)
class Run:
    """A finished run, its search as a file, and what its results say."""

    name: str
    folder: Path
    search: Path
    results: dict[str, Any]


@pytest.fixture(scope="module", params=["dfs", "ps-dfs", "nsga2"])
def finished(request, published, rows, tmp_path_factory) -> Iterator[Run]:
    """A run of the command line, from Hub IDs."""
    root = tmp_path_factory.mktemp("spaces")
    search, folder = root / "search.yaml", root / f"evolved-{request.param}"
    search.write_text(json.dumps(document(request.param, published, rows)))
    compare = ["--compare"] if request.param == "nsga2" else []
    printed = command("evolve", search, "--out", folder, *compare)
    assert "evolved" in printed
    return Run(request.param, folder, search, json.loads((folder / "results.json").read_text()))


def table(run: Run) -> dict[str, float]:
    return {row["model"]: row["value"] for row in run.results["rows"]}


def test_a_run_tells_everything(finished: Run) -> None:
    evaluations = read_evaluations(finished.folder / "journal.jsonl")
    assert all(one.error is None for one in evaluations)
    assert len({one.fitness for one in evaluations}) > 1
    names = ["alice/spaces-base (base)", "alice/spaces-math", "alice/spaces-japanese", "average"]
    if finished.name == "ps-dfs":
        names.append("evolved in parameter space")
        assert len(read_evaluations(finished.folder / "ps" / "journal.jsonl")) == 12
    if finished.name == "nsga2":
        names += ["random search, same budget", "grid of two scalars, same budget"]
        front = finished.results["front"]
        fitness = [evaluations[number].fitness for number in front]
        assert len(front) == len(set(front))
        beaten = [a for a in fitness if any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in fitness)]
        assert not beaten
    assert list(table(finished)) == [*names, "evolved"]
    # What the compared searches cost is not counted as this one's.
    own = len(evaluations) + (12 if finished.name == "ps-dfs" else 0)
    assert finished.results["search"]["evaluations"] == own
    best = Recipe.from_yaml(finished.folder / "best.yaml")
    assert best.merge_method == ("task_arithmetic" if finished.name == "nsga2" else "passthrough")


def test_the_cards_commands_make_the_same_weights(finished: Run, tmp_path: Path, monkeypatch) -> None:
    """They are run in an empty folder, with the files beside the card alone."""
    for file in (finished.folder / "model").glob("*.yaml"):
        shutil.copy(file, tmp_path)
    card = (finished.folder / "model" / "README.md").read_text()
    told = r"## Make it again\n\nThe model, by `best.yaml` .* by `search.yaml`:\n\n```bash\n(.*?)```"
    lines = re.search(told, card, re.DOTALL)[1].splitlines()
    assert lines[-1].startswith("hubmerge evolve search.yaml")
    walked = {"dfs": "Which layers follow one another was", "ps-dfs": "and which layers follow one another, was"}
    assert walked.get(finished.name, "How much of each parent goes in was") in card
    assert ("its layers are those of its parents" in card) == (finished.name == "dfs")
    assert re.search(r"That gives \d+ tensors, .* with torch \S+ on cpu; `hubmerge.json` has", card)
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    for line in lines[:-1]:
        command(*shlex.split(line)[1:])
    folders = (tmp_path / finished.folder.name, finished.folder / "model")
    again, first = (load_file(folder / "model.safetensors") for folder in folders)
    assert again.keys() == first.keys() and all(torch.equal(again[name], first[name]) for name in first)


def plain_score(folder: Path, rows: list[dict[str, str]]) -> float:
    """The share of right answers of a model folder, by transformers alone, one question at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right = 0
    for row in rows:
        messages = [{"role": "user", "content": row["question"]}]
        how = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        asked = tokenizer.apply_chat_template(messages, **how)
        answer = model.generate(**asked, do_sample=False, max_new_tokens=WORDS)[0, asked["input_ids"].shape[1] :]
        right += tokenizer.decode(answer, skip_special_tokens=True).strip() == row["answer"].strip()
    return right / len(rows)


def test_plain_transformers_gives_the_models_score(finished: Run, rows) -> None:
    assert plain_score(finished.folder / "model", rows[14:]) == pytest.approx(table(finished)["evolved"])


def test_any_candidate_becomes_a_model_of_its_score(finished: Run, rows, tmp_path: Path) -> None:
    evaluations = read_evaluations(finished.folder / "journal.jsonl")
    winner = finished.results["winner"]["number"]
    other = next(one for one in evaluations if one.number != winner and one.score > 0)
    command("export", finished.folder, "--candidate", other.number, "--out", tmp_path / "other")
    assert plain_score(tmp_path / "other", rows[:10]) == pytest.approx(other.score)


def test_nothing_that_leaves_the_machine_names_its_folders(finished: Run) -> None:
    texts = [file for file in finished.folder.rglob("*.*") if file.suffix in (".yaml", ".md", ".json", ".jsonl")]
    assert len(texts) > 5
    for text in texts:
        assert str(finished.folder.parent) not in text.read_text(), text


def test_a_run_is_whole_wherever_its_folder_goes(finished: Run, tmp_path: Path) -> None:
    here, other = tmp_path / "elsewhere", read_evaluations(finished.folder / "journal.jsonl")[1].number
    command("export", finished.folder, "--candidate", other, "--out", tmp_path / "before")
    shutil.move(finished.folder, here)
    try:
        command("export", here, "--candidate", other, "--out", tmp_path / "after")
        if finished.name == "nsga2":
            command("export", here / "random", "--candidate", 1, "--out", tmp_path / "random")
            assert "| searcher | random |" in (tmp_path / "random" / "README.md").read_text(encoding="utf-8").lower()
        result = evolve(Search.from_yaml(here / "search.yaml"), here, resume=True)
    finally:
        shutil.move(here, finished.folder)
    before, after = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "after"))
    assert before == after
    named = {entry.model for piece in result.recipe.slices or () for entry in piece.sources}
    staged = [str(ref) for ref in named if ref.stage]
    assert staged == (["stage:recipe"] if finished.name == "ps-dfs" else [])
    assert "name: recipe" in result.card.recipe_yaml or finished.name != "ps-dfs"
    assert not (here / "ps" / "model").exists(), "what is only a stage is not written"


@pytest.mark.parametrize("finished", ["ps-dfs"], indirect=True)  # the one that has a search in a search
def test_a_mirrored_run_goes_on_elsewhere_without_evaluating_anything_again(finished: Run, tmp_path: Path) -> None:
    with Mirror("alice/spaces-mirror", small_files(finished.folder)) as mirror:
        pass
    assert mirror.failures == 0, mirror.summary
    out, other = tmp_path / "again", tmp_path / "other"
    printed = command("evolve", finished.search, "--out", out, "--resume", "--mirror", "alice/spaces-mirror")
    assert "Going on with the run mirrored at alice/spaces-mirror" in printed
    for name in ("journal.jsonl", "ps/journal.jsonl", "best.yaml"):
        assert (out / name).read_bytes() == (finished.folder / name).read_bytes(), name
    assert json.loads((out / "results.json").read_text())["rows"] == finished.results["rows"]
    other.mkdir()
    (other / "search.yaml").write_text(json.dumps({**json.loads(finished.search.read_text()), "select": 1}))
    with pytest.raises(AssertionError, match="another search than the one given"):
        command("evolve", other / "search.yaml", "--out", other / "run", "--resume", "--mirror", "alice/spaces-mirror")


def test_a_finished_run_is_only_read(finished: Run) -> None:
    def written() -> dict[Path, int]:
        files = (file for file in finished.folder.rglob("*") if file.is_file())
        return {file: file.stat().st_mtime_ns for file in files if file.name != "search.yaml"}

    before = written()
    compare = ["--compare"] if finished.name == "nsga2" else []
    command("evolve", finished.search, "--out", finished.folder, "--resume", *compare)
    assert written() == before


def test_a_report_is_written(finished: Run, tmp_path: Path, call) -> None:
    page = tmp_path / "report.html"
    assert "Report:" in command("report", finished.folder, "--out", page)
    said = call("report", finished.folder, "--out", tmp_path / "report.pdf")
    assert said.returncode == 2 and "would hold HTML, which its name does not say; let it end in .html." in said.stderr
    text = page.read_text()
    assert "evolved" in text and "<svg" in text
    assert len(list((finished.folder / "report").glob("*.png"))) > 2


def told(folder: Path) -> list[dict[str, Any]]:
    """All that a journal says but the seconds."""
    return [{**vars(one), "seconds": None} for one in read_evaluations(folder / "journal.jsonl")]


# Not "nsga2": its stages are those of the run for recipes, which test_evolve_run.py kills.
@pytest.mark.parametrize("finished", ["dfs", "ps-dfs"], indirect=True)
def test_a_run_stopped_at_every_stage_ends_like_one_that_was_not(finished: Run, tmp_path: Path) -> None:
    search, out, stages, told_as = Search.from_yaml(finished.search), tmp_path / finished.folder.name, [], set()

    def stop(event) -> None:
        """At the first event of every stage, and in the middle of each search."""
        moment = (
            event.stage,
            event.done if event.stage == "search" and event.done == 8 else 0,
            (out / "ps" / "results.json").exists(),
        )
        told_as.update([event.note.partition(":")[0]] if event.stage == "search" else [])
        if moment not in stages:
            stages.append(moment)
            raise Interrupted("stopped")

    result = None
    while result is None:
        with contextlib.suppress(Interrupted):
            result = evolve(search, out, resume=True, progress=stop)
    assert {"search", "validate", "test"} <= {stage for stage, *_ in stages}
    assert told(out) == told(finished.folder)
    if finished.name == "ps-dfs":
        assert told_as == {"recipes", "paths"}
        assert told(out / "ps") == told(finished.folder / "ps")
    assert json.loads((out / "results.json").read_text())["rows"] == finished.results["rows"]
    for file in ("best.yaml", "model/model.safetensors", "model/config.json"):
        assert (out / file).read_bytes() == (finished.folder / file).read_bytes(), file
