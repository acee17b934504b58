"""Merges of models that were measured on texts: what is kept, gone on with, told and refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from calibrationtools import READS, measured_in, read, size_of
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file

from hubmerge.calibration import planning
from hubmerge.calibration.stack import Stack
from hubmerge.errors import HubmergeError, Interrupted, SourceError
from hubmerge.planning import plan_again
from hubmerge.progress import Event
from hubmerge.publish import measured, merge, planned
from hubmerge.published import read_again
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.plan import make_plan
from hubmerge.stream.statistics import RECORD
from hubmerge.stream.verify import verify
from space.forms.search import searchable

METHODS = ("regmean", "fisher")


KINDS = {"regmean": "gram", "fisher": "fisher"}


KILLED = """
import os, signal, sys
from pathlib import Path
from huggingface_hub import constants
from hubmerge.publish import measured, planned
from hubmerge.recipe import Recipe
constants.HF_HOME = sys.argv[2]
left = 40
def progress(event):
    global left
    left -= event.stage == "measure"
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
measured(planned(Recipe.from_yaml(Path(sys.argv[1]))), progress)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A place of this test's own for what is measured."""
    return measured_in(tmp_path, monkeypatch)


@pytest.fixture
def texts(tmp_path) -> Path:
    """A file with a dozen texts."""
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n} w{n} {n + 1} w3 {n}"}) + "\n" for n in range(12)))
    return path


def recipe(siblings, texts: Path, method: str = "regmean", **more: Any) -> Recipe:
    document = {
        "merge_method": method,
        "models": [{"model": str(siblings["math"])}, {"model": str(siblings["japanese"])}],
        "calibration": {"file": str(texts), "examples": 8, "tokens": 16},
    }
    return Recipe.from_dict(document | more)


@pytest.mark.parametrize("method", METHODS)
def test_a_merge_is_the_method_of_what_was_measured(method: str, siblings, texts, tmp_path, home: Path) -> None:
    plan = planned(recipe(siblings, texts, method))
    assert not any(one.is_here for one in plan.statistics)
    before = plan.key
    assert plan.compute_seconds > 0
    done = merge(plan, tmp_path / "out")
    assert done.plan.key != before
    inputs = [load_file(siblings[name] / "model.safetensors") for name in ("math", "japanese")]
    result = load_file(tmp_path / "out" / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    given = [one[name].double() for one in inputs]
    known = [
        one.read(name, 0, size_of(one.shapes[name]), READS).view(one.shapes[name]).double() for one in plan.statistics
    ]
    if method == "regmean":
        known = [0.9 * one + 0.1 * torch.diag(one.diag()) for one in known]
        wanted = sum(w @ g for w, g in zip(given, known, strict=True)) @ torch.linalg.inv(sum(known))
        average = [one for one in result if not one.endswith("_proj.weight")]
    else:
        known = [one.clamp(min=1e-6) for one in known]
        wanted = sum(w * f for w, f in zip(given, known, strict=True)) / sum(known)
        average = []
    torch.testing.assert_close(result[name].double(), wanted, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(result[name], sum(given).float() / 2, atol=1e-5)
    for one in average:
        torch.testing.assert_close(result[one], (inputs[0][one] + inputs[1][one]) / 2)
    assert len(list(home.iterdir())) == 2


@pytest.mark.parametrize("method", METHODS)
def test_what_was_measured_is_used_again_until_model_or_texts_change(
    method: str, siblings, texts, tiny_llama, tmp_path, home: Path
) -> None:
    first = merge(recipe(siblings, texts, method), tmp_path / "out")
    kept = {path.name: (path / RECORD).stat().st_mtime_ns for path in home.iterdir()}

    def fail(*_: Any) -> None:
        raise AssertionError("measured again")

    again = planned(recipe(siblings, texts, method))
    assert [one.is_here for one in again.statistics] == [True, True]
    assert again.key == first.plan.key
    assert [one.by(fail).digest for one in again.statistics] == [one.digest for one in first.plan.statistics]
    assert merge(again, tmp_path / "out").kept == 1
    assert {path.name: (path / RECORD).stat().st_mtime_ns for path in home.iterdir()} == kept
    others = [
        recipe(siblings, texts, method, calibration={"file": str(texts), "examples": 8, "tokens": 4}),
        recipe(siblings, texts, method, calibration={"file": str(texts), "examples": 8, "tokens": 16, "seed": 3}),
        recipe({**siblings, "math": tiny_llama(tmp_path / "other", 9, sibling_of=siblings["base"])}, texts, method),
    ]
    assert [[one.is_here for one in planned(other).statistics] for other in others] == [
        [False, False],
        [False, False],
        [False, True],
    ]


def test_each_model_may_have_texts_of_its_own(siblings, texts, tmp_path) -> None:
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(9)]
    task = {"name": "tiny", "examples": {"search": rows[:6], "test": rows[6:]}, "metric": "exact_match"}
    own = {"model": str(siblings["math"]), "calibration": {"task": task, "examples": 4}}
    document = recipe(siblings, texts).to_dict()
    document["models"][0] = own
    read_back = Recipe.from_dict(Recipe.from_dict(document).to_dict())
    assert read_back == Recipe.from_dict(document)
    by_task, by_file = planned(read_back).statistics
    assert (by_task.texts.source, by_task.texts.examples) == ("the task tiny", 4)
    assert (by_file.texts.source, by_file.texts.examples) == ("the local file texts.jsonl", 8)


def test_a_test_split_is_never_read(siblings, texts) -> None:
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(4)]
    task = {"name": "tested", "examples": {"test": rows}}
    with pytest.raises(HubmergeError, match=r"The task tested has no search split"):
        planned(recipe(siblings, texts, calibration={"task": task}))


def test_a_task_that_is_graded_by_code_runs_none(siblings, texts, tmp_path) -> None:
    script = tmp_path / "score.py"
    script.write_text("raise SystemExit('run')")
    rows = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(4)]
    task = {"name": "coded", "examples": {"search": rows}, "python": f"{script}:grade"}
    assert planned(recipe(siblings, texts, calibration={"task": task})).statistics[0].texts.examples == 4


@dataclass
class Stop:
    """Ends the work after so many events of measuring."""

    after: int

    def __call__(self, event: Event) -> None:
        self.after -= event.stage == "measure"
        if self.after < 0:
            raise Interrupted("stopped")


@pytest.mark.parametrize("method", METHODS)
def test_measuring_that_was_stopped_goes_on_and_ends_in_the_same(method: str, siblings, texts, monkeypatch) -> None:
    wanted = [one.digest for one in measured(planned(recipe(siblings, texts, method))).statistics]
    ran: list[int] = []
    run = Stack.run
    monkeypatch.setattr(Stack, "run", lambda self, number, *rest: ran.append(number) or run(self, number, *rest))
    for after in (3, 20, 30, 45):
        monkeypatch.setattr(constants, "HF_HOME", f"{constants.HF_HOME}-{after}")
        plan = planned(recipe(siblings, texts, method))
        with pytest.raises(Interrupted):
            measured(plan, Stop(after))
        assert not all(one.is_here for one in plan.statistics)
        before = len(ran)
        assert [one.digest for one in measured(planned(recipe(siblings, texts, method))).statistics] == wanted
        if after > 20:
            assert len(ran) - before < (2 if method == "fisher" else 1) * 2 * 3 * 8


def test_a_run_that_is_killed_goes_on(siblings, texts, tmp_path, home: Path) -> None:
    (path := tmp_path / "recipe.yaml").write_text(recipe(siblings, texts, "fisher").to_yaml())
    command = [sys.executable, "-c", KILLED, str(path), constants.HF_HOME]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    assert list(home.glob("*/hidden-*")) and not list(home.glob(f"*/{RECORD}"))
    found = measured(planned(Recipe.from_yaml(path)))
    left = {path.name for one in found.statistics for path in one.folder.iterdir()}
    assert left == {".lock", RECORD, "rest.safetensors", *(f"layer-0000{number}.safetensors" for number in range(3))}


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_does_not_fit_is_read_layer_by_layer(
    method: str, tiny_llama, texts, tmp_path, monkeypatch
) -> None:
    base = tiny_llama(tmp_path / "base", 1, hidden_size=64, intermediate_size=256, num_hidden_layers=6)
    others = {name: tiny_llama(tmp_path / name, seed, sibling_of=base) for name, seed in (("math", 2), ("japanese", 3))}
    whole = measured(planned(recipe(others, texts, method)))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "tight"))
    loaded = []
    load = planning.load_model
    monkeypatch.setattr(planning, "load_model", lambda *a, **k: loaded.append(load(*a, **k)) or loaded[-1])
    limit = max(one.cost.memory for one in whole.statistics)
    monkeypatch.setattr(planning, "free_memory", lambda: int(limit / planning.FREE) + 1)
    plan = measured(planned(recipe(others, texts, method)))
    assert all("disk" in model.hf_device_map.values() for model, _ in loaded)
    assert all(weight.is_meta for model, _ in loaded for weight in model.model.layers[-1].parameters())
    for one, other in zip(whole.statistics, plan.statistics, strict=True):
        for name in one.shapes:
            torch.testing.assert_close(read(other, name), read(one, name), rtol=1e-4, atol=1e-8)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(planning, "free_memory", lambda: limit // 50)
    plan = planned(recipe(others, texts, method))
    with pytest.raises(HubmergeError, match=r"Measuring .* takes .* of memory, for its largest layer"):
        measured(plan)


def test_broken_statistics_are_refused(siblings, texts, tmp_path, home: Path) -> None:
    plan = measured(planned(recipe(siblings, texts)))
    folder = plan.statistics[0].folder
    layer = folder / "layer-00001.safetensors"
    content = bytearray(layer.read_bytes())
    content[-3] ^= 1
    layer.write_bytes(content)
    with pytest.raises(
        HubmergeError, match=r"layer-00001.safetensors does not hold what was written; delete that folder"
    ):
        merge(planned(recipe(siblings, texts)), tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()
    (folder / RECORD).write_text("{")
    with pytest.raises(HubmergeError, match=r"statistics.json: it cannot be read: not valid JSON .*; delete that"):
        planned(recipe(siblings, texts))
    (folder / RECORD).write_text("{}")
    with pytest.raises(HubmergeError, match=r"statistics.json is none; delete that folder"):
        merge(planned(recipe(siblings, texts)), tmp_path / "out")


@pytest.mark.parametrize("method", METHODS)
def test_manifest_card_and_verify_tell_of_the_texts(method: str, siblings, texts, tmp_path, home: Path) -> None:
    merge(recipe(siblings, texts, method), out := tmp_path / "out")
    manifest = json.loads((out / "hubmerge.json").read_text())
    told = manifest["calibration"]
    assert [(one["kind"], one["source"], one["examples"]) for one in told] == [
        (KINDS[method], "the local file texts.jsonl", 8)
    ] * 2
    assert all(len(one["sha256"]) == 64 and one["model"].startswith("./") for one in told)
    card = (out / "README.md").read_text()
    assert "## By which texts" in card and "the local file texts.jsonl" in card
    assert str(tmp_path) not in card + json.dumps(manifest)
    assert verify(ModelRef.parse(str(out)), recompute=True, read=read_again, plan=plan_again).ok


def test_a_dataset_is_pinned_and_named(siblings, texts, tmp_path, hub) -> None:
    api = HfApi()
    api.create_repo("alice/texts", repo_type="dataset", exist_ok=True)
    api.upload_file(path_or_fileobj=texts, path_in_repo="texts.jsonl", repo_id="alice/texts", repo_type="dataset")
    commit = api.dataset_info("alice/texts").sha
    by_dataset = {"dataset": "alice/texts", "file": "texts.jsonl", "examples": 5}
    task = {"name": "own", "examples": {"repo_id": "alice/texts", "search": "texts.jsonl"}, "prompt": "{text}"}
    document = recipe(siblings, texts, calibration=by_dataset).to_dict()
    document["models"][0]["calibration"] = {"task": task | {"answer": "-", "metric": "exact_match"}, "examples": 4}
    done = merge(Recipe.from_dict(document), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "hubmerge.json").read_text())["recipe"]
    assert written["calibration"]["dataset"] == f"alice/texts@{commit}"
    assert written["models"][0]["calibration"]["task"]["examples"]["revision"] == commit
    assert [one.texts.dataset for one in done.plan.statistics] == ["alice/texts"] * 2
    front = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    assert front["datasets"] == ["alice/texts"]


def test_a_strangers_manifest_reads_no_texts_of_this_machine(siblings, texts, tmp_path, hub) -> None:
    api = HfApi()
    for name in ("math", "japanese"):
        api.create_repo(f"alice/cal-{name}", exist_ok=True)
        api.upload_folder(folder_path=siblings[name], repo_id=f"alice/cal-{name}")
    document = recipe(siblings, texts).to_dict()
    document["models"] = [{"model": f"alice/cal-{name}"} for name in ("math", "japanese")]
    merge(Recipe.from_dict(document), tmp_path / "out")
    api.create_repo("alice/cal-merged", exist_ok=True)
    api.upload_folder(folder_path=tmp_path / "out", repo_id="alice/cal-merged")
    with pytest.raises(HubmergeError, match=r"was merged by texts of its maker's machine \(\./texts.jsonl@sha256:"):
        verify(ModelRef.parse("alice/cal-merged"), recompute=True, read=read_again, plan=plan_again)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"calibration": None}, r"regmean needs `calibration`, the texts that .* is measured by"),
    ({"merge_method": "linear"}, r"linear measures no model; leave `calibration` out"),
    ({"calibration": {"examples": 3}}, r"`calibration` needs `task: NAME`, or `dataset"),
    ({"calibration": {"file": "x.jsonl", "examples": 0}}, r"examples of `calibration` must be a whole number from 1"),
    ({"calibration": {"file": "nothing.jsonl"}}, r"There is no example file .*nothing.jsonl"),
    (
        {"models": [{"model": "org/llava#language_model"}, {"model": "org/other"}]},
        r"whole models, and org/llava#language_model is a part of a model; merge it with a method that needs no data",
    ),
    ({"calibration": {"fil": "x"}}, r"Unknown key 'fil' in `calibration`: did you mean 'file'\?"),
    ({"calibration": {"task": "gsm9k"}}, r"There is no task 'gsm9k'"),
    (
        {"calibration": {"task": "org/data"}},
        r"There is no task 'org/data'\. A dataset .* \{repo_id: org/data, ",
    ),
    ({"calibration": {"file": "x", "labels": "texts"}}, r"labels of `calibration` must be model or text"),
    ({"parameters": {"weight": -1.0}}, r"weight must be at least 0.0, got -1.0"),
]


@pytest.mark.parametrize(("changed", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_recipes_that_cannot_be_measured_are_refused(changed: dict[str, Any], said: str, siblings, texts) -> None:
    with pytest.raises(HubmergeError, match=said):
        planned(recipe(siblings, texts, **changed)).require()


def test_stages_are_no_models_to_measure_but_may_measure(siblings, texts, tmp_path) -> None:
    models = [{"model": str(siblings[name])} for name in ("math", "japanese")]
    stage = {"name": "mean", "merge_method": "linear", "models": models, "parameters": {"weight": 1.0}}
    with pytest.raises(
        HubmergeError, match=r"regmean measures whole models, and stage:mean is made on the way; merge it on its own"
    ):
        planned(recipe(siblings, texts, stages=[stage], models=[{"model": "stage:mean"}, models[0]]))
    stage = {"name": "mean", "merge_method": "regmean", "models": models, "calibration": {"file": str(texts)}}
    document = {"stages": [stage], "merge_method": "passthrough", "models": [{"model": "stage:mean"}]}
    alone = {key: value for key, value in stage.items() if key != "name"}
    found = [merge(Recipe.from_dict(one), tmp_path / str(n)).tensors for n, one in enumerate((document, alone))]
    assert found[0] == found[1]


def test_other_tokenizers_are_refused(siblings, texts, tiny_llama, tmp_path) -> None:
    other = tiny_llama(tmp_path / "other", 5, sibling_of=siblings["base"])
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["w5"], words["w6"] = words["w6"], words["w5"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(HubmergeError, match=r"regmean merges models of one tokenizer, and those of"):
        planned(recipe({**siblings, "math": other}, texts))


def test_a_merge_that_measures_nothing_says_who_does(siblings, texts) -> None:
    with pytest.raises(HubmergeError, match=r"regmean needs models measured on texts"):
        make_plan(recipe(siblings, texts)).require()


@pytest.mark.parametrize("method", METHODS)
def test_searches_measure_nothing(method: str, tiny_search) -> None:
    with pytest.raises(HubmergeError, match=rf"{method} measures models on texts, which a search does not"):
        tiny_search(merge_method=method, base_model=None)
    assert method not in searchable()


def test_one_model_may_tie_its_head(siblings, tiny_llama, texts, tmp_path) -> None:
    untied = tiny_llama(tmp_path / "untied", 4, tie_word_embeddings=False)
    for method in METHODS:
        plan = measured(planned(recipe({"math": untied, "japanese": siblings["japanese"]}, texts, method)))
        heads = [one for one in plan.tensors if one.name == "lm_head.weight"]
        assert [len(one.statistics) for one in heads] == [2]
        merge(plan, tmp_path / method)


def test_the_command_measures_and_goes_on(siblings, texts, tmp_path, call, home: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(siblings, texts).to_yaml())
    told: SimpleNamespace = call("plan", path)
    assert "forwards once, a layer at a time" in told.stdout and not home.exists()
    assert call("merge", path, "--out", tmp_path / "out").returncode == 0
    assert "done already" in call("plan", path).stdout
    assert "Already merged" in call("merge", path, "--out", tmp_path / "out").stdout


def test_other_weights_of_the_same_size_and_time_are_measured_anew(siblings, texts, tmp_path, home: Path) -> None:
    folder = shutil.copytree(siblings["math"], tmp_path / "math")
    file = folder / "model.safetensors"

    def is_here() -> bool:
        os.utime(file, (0, 0))
        return planned(recipe({**siblings, "math": folder}, texts)).statistics[0].is_here

    assert not is_here()
    measured(planned(recipe({**siblings, "math": folder}, texts)))
    assert is_here()
    file.write_bytes((siblings["japanese"] / "model.safetensors").read_bytes())
    assert not is_here()


@pytest.mark.parametrize("labels", ["model", "text"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_model_with_nan_is_refused_by_the_name_of_its_weight(
    name: str, method: str, labels: str, siblings, texts, tmp_path, home: Path
) -> None:
    broken = shutil.copytree(siblings["math"], tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    if name not in weights:
        name = "model.embed_tokens.weight"
    weights[name].view(-1)[:] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    calibration = {"file": str(texts), "examples": 8, "tokens": 16, "labels": labels}
    for _ in range(2):
        with pytest.raises(SourceError, match=rf"^{re.escape(name)} of .*broken has NaN or infinite values"):
            merge(recipe({**siblings, "math": broken}, texts, method, calibration=calibration), tmp_path / "out")
    assert not [path for path in home.rglob("*") if "broken" in path.parent.name and path.suffix == ".safetensors"]
    assert not list(home.rglob("hidden-*")) and not list(home.rglob("slope-*"))


@pytest.mark.parametrize(
    ("template", "row", "said"),
    [
        ("hello", {"text": "a"}, "names no field, so all texts would be the same"),
        ("{text", {"text": "a"}, "names no field"),
        ("{text.__class__}", {"text": "a"}, "names no field"),
        ("{text}", {"text": None}, r"row 1 of the calibration's .*given.jsonl has null as 'text', which is no text"),
        ("{text}", {"text": ["a", "b"]}, r"has a list as 'text', which is no text"),
        ("{txt}", {"text": "a"}, r"there is no field 'txt' in this row \(did you mean text\?\)"),
        ("{text}", {"text": {"en": "a"}}, r"has a dict as 'text', which is no text"),
    ],
)
def test_what_is_no_text_is_refused(template: str, row: dict[str, Any], said: str, siblings, tmp_path) -> None:
    (tmp_path / "given.jsonl").write_text(json.dumps(row) + "\n")
    given = {"file": str(tmp_path / "given.jsonl"), "text": template}
    with pytest.raises(HubmergeError, match=said):
        planned(recipe(siblings, tmp_path, calibration=given))
