"""A search on real files runs, dies and comes back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from hubmerge.cards import card_again
from hubmerge.errors import Interrupted, SearchError, TaskError
from hubmerge.evaluate.generation import generate
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.result import card_for, read_result
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub.card import named
from hubmerge.hub.push import push_folder
from hubmerge.progress import Event
from hubmerge.publish import renamed
from hubmerge.recipe import Output, Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

PROMPTS = [f"w{i} {i} w{(i * 7) % 30}" for i in range(24)]
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def strangers(tiny_llama, tmp_path_factory) -> dict[str, Path]:
    """Models with untied random weights, so different that their merges answer differently."""
    root = tmp_path_factory.mktemp("strangers")
    names = ("base", "math", "japanese")
    return {name: tiny_llama(root / name, seed=seed, tie_word_embeddings=False) for seed, name in enumerate(names)}


def search_of(folders: dict[str, Path], *, evaluations: int = 24, seed: int = 1, **changes) -> Search:
    """A small search whose right answers are what one particular merge says, so that the fitness has a slope."""
    right = {"math": {"weight": [1.3, 0.3, 0.4]}, "japanese": {"weight": [1.1, 0.6, 0.3]}}
    recipe = Recipe.from_dict(
        {
            "merge_method": "task_arithmetic",
            "base_model": str(folders["base"]),
            "models": [{"model": str(folders[name]), "parameters": right[name]} for name in right],
            "chat_template": PLAIN,
        }
    )
    resident = ResidentModel(make_plan(recipe))
    outputs = generate(resident.model, resident.tokenizer, PROMPTS, max_new_tokens=3)
    rows = [{"question": prompt, "answer": output} for prompt, output in zip(PROMPTS, outputs, strict=True)]
    return Search.from_dict(
        {
            "models": [str(folders["math"]), str(folders["japanese"])],
            "base_model": str(folders["base"]),
            "merge_method": "task_arithmetic",
            "genome": {"granularity": "layer", "genes": {"weight": [-1, 3]}, "start": {"weight": 0.5}},
            "task": {
                "name": "echo",
                "examples": {"search": rows[:10], "validation": rows[10:16], "test": rows[16:]},
                "metric": "exact_match",
                "max_new_tokens": 3,
            },
            "searcher": {"evaluations": evaluations, "seed": seed, "popsize": 6},
            "select": 3,
            "chat_template": PLAIN,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(strangers, tmp_path_factory):
    """A finished run: its search, folder and result."""
    out = tmp_path_factory.mktemp("runs") / "evolved-echo"
    search = search_of(strangers)
    return search, out, evolve(search, out)


def test_a_run_leaves_a_model_a_table_a_picture_and_a_card(finished) -> None:
    from transformers import AutoModelForCausalLM

    _, out, result = finished
    assert [row.model for row in result.rows[-6:]] == [
        "average",
        "task arithmetic, untuned",
        "TIES, untuned",
        "DARE-TIES, untuned",
        "task arithmetic, best of five scales",
        "evolved",
    ]
    assert len(result.rows) == 1 + 2 + 5 + 1
    assert {row.n for row in result.rows} == {8}
    evolved = result.rows[-1]
    assert evolved.p_value is None
    assert evolved.low <= evolved.value <= evolved.high
    assert all(0 <= row.p_value <= 1 for row in result.rows[:-1])
    evaluations = read_evaluations(out / "journal.jsonl")
    assert len(evaluations) == 24
    assert all(e.error is None and e.n == 10 for e in evaluations)
    assert len({e.fitness for e in evaluations}) > 2  # the fitness has a slope to follow
    assert result.curve.read_bytes().startswith(b"\x89PNG")
    assert Recipe.from_yaml(out / "best.yaml") == result.recipe
    AutoModelForCausalLM.from_pretrained(result.folder)
    card = (result.folder / "README.md").read_text()
    assert "evolved-echo" in card
    assert "| evolved-echo" in card.replace("**", "") or "evolved-echo |" in card.replace("**", "")
    assert (result.folder / "curve.png").exists()
    assert "org/pushed" in card_for(result, "org/pushed")
    document = json.loads((out / "results.json").read_text())
    assert document["search"]["evaluations"] == 24
    assert document["rows"][-1]["values"].count("1") == round(evolved.value * evolved.n)


def test_a_card_is_renamed_as_it_would_be_written(finished) -> None:
    """The text of the card of a folder, renamed, is what a push by the search itself says."""
    _, _, result = finished
    there = (result.folder / "README.md").read_text()
    for repo_id in ("org/pushed", "org/1e3", "org/its_own.name"):
        assert named(there, repo_id) == card_for(result, repo_id) != there
        assert "evolved-echo" not in card_for(result, repo_id)
    assert named(there.replace("# evolved-echo\n", "# Mine\n"), "org/new").count("| **evolved-echo** |") == 1


def test_a_pushed_winner_goes_by_the_name_of_its_repository(finished, hub) -> None:
    _, _, result = finished
    assert push_folder(result.folder, "alice/winner", files=renamed(result.folder, "alice/winner")).repo_id
    there = ModelCard.load("alice/winner")
    assert there.text.lstrip().startswith("# winner\n") and "| **winner** |" in there.text
    assert (there.data.model_name, "runs/winner" in there.text) == ("winner", True)
    again = ModelCard(card_again(ModelRef(str(result.folder)), "alice/other"))
    assert again.data.model_name == "other" and "| **other** |" in again.text


def test_best_yaml_merges_to_the_runs_model(finished, tmp_path: Path) -> None:
    _, out, result = finished
    merge(Recipe.from_yaml(out / "best.yaml"), tmp_path / "again")
    again, first = (load_file(folder / "model.safetensors") for folder in (tmp_path / "again", result.folder))
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_a_finished_run_is_only_read(finished) -> None:
    search, out, result = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "search.yaml"}
    again = evolve(search, out, resume=True)
    assert (again.rows, again.recipe, again.facts) == (result.rows, result.recipe, result.facts)
    assert card_for(again, "org/name") == card_for(result, "org/name")
    for read in (read_result(out, search), read_result(out)):
        assert (read.rows, read.recipe, read.facts, read.seconds) == (
            result.rows,
            result.recipe,
            result.facts,
            result.seconds,
        )
        assert card_for(read, "org/name") == card_for(result, "org/name")
        assert repr(read).count("\n") == read._repr_html_().count("<tr>") == len(result.rows)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(SearchError, match="--resume"):
        evolve(search, out)


def test_what_is_no_finished_search_has_no_result(finished, strangers, tmp_path: Path) -> None:
    search, out, _ = finished
    with pytest.raises(SearchError, match="holds no finished search"):
        read_result(tmp_path)
    with pytest.raises(SearchError, match="another search"):
        read_result(out, search_of(strangers, seed=2))
    for name in ("search.yaml", "journal.jsonl"):
        shutil.copy(out / name, tmp_path)
    kept = {name: value for name, value in json.loads((out / "results.json").read_text()).items() if name != "task"}
    (tmp_path / "results.json").write_text(json.dumps(kept))
    with pytest.raises(SearchError, match="does not hold what a card tells"):
        read_result(tmp_path, search)


def test_another_search_does_not_resume_a_run(finished, strangers) -> None:
    _, out, _ = finished
    with pytest.raises(SearchError, match="another search"):
        evolve(search_of(strangers, seed=2), out, resume=True)


def test_a_task_without_a_search_split_is_refused(siblings, tmp_path: Path) -> None:
    task = {"examples": {"test": [{"question": "?", "answer": 1}]}}
    with pytest.raises((SearchError, TaskError), match="no search split"):
        evolve(search_of(siblings, task=task), tmp_path / "run")


def test_what_kill_9_leaves_is_resumed_and_ends_in_the_same_winner(finished, tmp_path: Path) -> None:
    """A copy of the folder, taken in the middle, is what is left where the process is killed there."""
    search, whole, result = finished
    out = tmp_path / "killed" / "evolved-echo"

    def kill(event: Event) -> None:
        if event.stage == "search" and event.done == 12:
            shutil.copytree(tmp_path / "evolved-echo", out)
            raise Interrupted("Killed.")

    with pytest.raises(Interrupted):
        evolve(search, tmp_path / "evolved-echo", progress=kill)
    journal = out / "journal.jsonl"
    assert not (out / "results.json").exists()
    assert 9 <= len(read_evaluations(journal)) < 24
    resumed = evolve(search, out, resume=True)
    drop = ("seconds",)
    assert [{k: v for k, v in vars(e).items() if k not in drop} for e in read_evaluations(journal)] == [
        {k: v for k, v in vars(e).items() if k not in drop} for e in read_evaluations(whole / "journal.jsonl")
    ]
    assert (resumed.recipe, resumed.rows) == (result.recipe, result.rows)
    assert (out / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def test_a_resumed_run_keeps_to_the_commits_it_began_with(hub, strangers, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    api, repositories = HfApi(), {}
    for name, folder in strangers.items():
        repositories[name] = f"alice/evolve-{name}"
        api.create_repo(repositories[name], exist_ok=True)
        api.upload_folder(repo_id=repositories[name], folder_path=folder)
    search = replace(
        search_of(strangers, evaluations=12),
        models=(ModelRef(repositories["math"]), ModelRef(repositories["japanese"])),
        base_model=ModelRef(repositories["base"]),
        output=Output(tokenizer_source=repositories["math"]),
        baselines=("average",),
    )
    out = tmp_path / "run"

    def stop(event) -> None:
        if event.stage == "search" and event.done == 7:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        evolve(search, out, progress=stop)
    began = Search.from_yaml(out / "search.yaml")
    assert began.base_model is not None
    commit = api.model_info(repositories["math"]).sha
    assert began.models[0] == ModelRef(repositories["math"], commit)
    api.upload_file(path_or_fileobj=b"moved", path_in_repo="NOTES.md", repo_id=repositories["math"])
    assert api.model_info(repositories["math"]).sha != commit
    result = evolve(search, out, resume=True)
    assert len(read_evaluations(result.journal)) == 12
    assert result.recipe.models[0].model == ModelRef(repositories["math"], commit)
    assert result.recipe.output.tokenizer_source == f"{repositories['math']}@{commit}"
    assert [row.model for row in result.rows] == [
        "alice/evolve-base (base)",
        "alice/evolve-math",
        "alice/evolve-japanese",
        "average",
        "evolved",
    ]
    assert commit in (result.folder / "README.md").read_text()
