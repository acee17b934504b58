"""Merges of the page that measure models on texts: what a stranger may name, the form, the job, what is kept."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from calibrationtools import measured_in
from huggingface_hub import HfApi

from hubmerge.errors import AccessError, RecipeError, ResourceError
from hubmerge.methods import METHODS
from hubmerge.progress import Event, silent
from hubmerge.recipe import Recipe
from space.forms.recipe import Texts, compose, measured_by, texts_of
from space.forms.share import pack
from space.limits import Limits
from space.settings import Settings
from space.views.job import describe_job
from space.views.plan import describe_plan
from space.visitors.access import require_hub_ids
from space.work import cache
from space.work.job import Job, Work
from space.work.runners import run_merge, run_publish
from space.work.zero_gpu import ZeroGpu

MODELS = ("alice/measured-math", "alice/measured-japanese")
TEXTS = {"dataset": "alice/measured-texts", "file": "train.jsonl", "examples": 4, "tokens": 8}
ALLOWED: list[dict[str, Any]] = [
    {"task": "gsm8k"},
    TEXTS,
    {"dataset": "org/texts@v1", "file": "data/train.parquet", "text": "{q} {a}", "labels": "text", "seed": 3},
    {"task": {"examples": {"repo_id": "org/texts", "search": "search.jsonl"}}},
]
REFUSED: list[dict[str, Any]] = [
    {"file": "secret.jsonl"},
    {"task": "secret.yaml"},
    {"task": {"examples": {"folder": ".", "search": "secret.jsonl"}}},
    {"task": {"examples": {"search": "secret.jsonl"}}},
    {"task": {"examples": {"repo_id": "org/texts", "search": "../secret.jsonl"}}},
    {"task": {"python": "secret.py:score", "examples": {"repo_id": "org/texts", "search": "search.jsonl"}}},
    {"task": {"lm_eval": {"task": "x", "include_path": "."}, "examples": {"search": "test"}}},
    *({"dataset": name, "file": "x.jsonl"} for name in (".", "./here", "/etc", "~/x", "a/../b", "http://x/y", "a/b/c")),
    *({"dataset": "org/texts", "file": name} for name in ("/etc/passwd", "../x", "~/x", "http://x/y", "a\\b")),
    {"dataset": "org/texts", "file": "x.jsonl", "examples": 100_000},
    {"dataset": "org/texts", "file": "x.jsonl", "tokens": 32_768},
    {"dataset": "org/texts", "file": "x.jsonl", "text": "{text}" * 20_000},
]


def recipe(calibration: dict[str, Any], **more: Any) -> Recipe:
    document = {"merge_method": "regmean", "models": [{"model": name} for name in MODELS]}
    return Recipe.from_dict({**document, "calibration": calibration, **more})


@pytest.mark.parametrize("where", ["recipe", "model", "stage"])
def test_a_stranger_names_texts_of_the_hub_alone(where: str, tmp_path: Path) -> None:
    own, space = Settings(tmp_path), Settings(tmp_path, on_space=True)

    def placed(given: dict[str, Any]) -> Recipe:
        if where == "recipe":
            return recipe(given)
        if where == "model":
            return recipe({"task": "gsm8k"}, models=[{"model": "org/a"}, {"model": "org/b", "calibration": given}])
        merge = [{"model": "stage:first"}, {"model": "org/c"}]
        stages = [{"name": "first", **recipe(given).to_dict()}]
        return Recipe.from_dict({"merge_method": "linear", "models": merge, "stages": stages})

    for given in ALLOWED:
        assert require_hub_ids(space, placed(given)) == placed(given)
    for given in REFUSED:
        made = placed(given)
        with pytest.raises(AccessError) as refused:
            require_hub_ids(space, made)
        assert len(str(refused.value)) < 400 and "passwd" not in str(refused.value)
        assert require_hub_ids(own, made) is made


def test_the_form_says_by_which_texts_each_model_is_measured() -> None:
    made = compose(METHODS["regmean"], MODELS, None)
    assert made is not None and texts_of(made.models[0].calibration) == Texts()
    by_task = measured_by(made, 0, Texts("gsm8k"))
    rows = Texts("org/texts@v1/data/train.jsonl", "{q}")
    both = measured_by(by_task, 1, rows)
    assert Recipe.from_yaml(both.to_yaml()) == both
    assert [texts_of(entry.calibration) for entry in both.models] == [Texts("gsm8k"), rows]
    assert (
        both.models[1].calibration.dataset == "org/texts@v1" and both.models[1].calibration.file == "data/train.jsonl"
    )
    # How many there are stays, whoever's they were before.
    few = measured_by(replace(made, calibration=recipe(TEXTS).calibration), 0, Texts("gsm8k"))
    assert (few.models[0].calibration.examples, few.models[0].calibration.tokens) == (4, 8)
    assert measured_by(both, 0, Texts("")).models[0].calibration is None
    more = compose(METHODS["fisher"], [*MODELS, "org/code"], None, both)
    assert [entry.calibration for entry in more.models] == [*(entry.calibration for entry in both.models), None]
    assert all(entry.calibration is None for entry in compose(METHODS["linear"], MODELS, None, both).models)
    assert texts_of(recipe({"task": {"examples": {"repo_id": "org/texts", "search": "x.jsonl"}}}).calibration) is None


def test_a_link_tells_no_place_of_texts() -> None:
    assert pack(recipe(TEXTS).to_yaml())
    with pytest.raises(RecipeError, match="texts of this machine, which nobody else has"):
        pack(recipe({"file": "/home/me/texts.jsonl"}).to_yaml())


@pytest.fixture
def published(hub, siblings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models and texts on the Hub; the folder where what is measured is kept."""
    api = HfApi()
    for repo_id, name in zip(MODELS, ("math", "japanese"), strict=True):
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(folder_path=siblings[name], repo_id=repo_id)
    api.create_repo(TEXTS["dataset"], repo_type="dataset", exist_ok=True)
    rows = "".join(f'{{"text": "{n} w{n} {n + 1} w3"}}\n' for n in range(6)).encode()
    api.upload_file(path_or_fileobj=rows, path_in_repo=TEXTS["file"], repo_id=TEXTS["dataset"], repo_type="dataset")
    return measured_in(tmp_path, monkeypatch)


def work(spec: dict[str, Any], folder: Path, report: Any = silent) -> Work:
    return Work(spec, folder, None, report, False)


def test_a_job_measures_merges_and_is_published_with_what_it_was_measured_by(published: Path, tmp_path: Path) -> None:
    spec, events = {"recipe": recipe(TEXTS).to_yaml()}, list[Event]()
    plan = Limits().plan(recipe(TEXTS), None)
    told = describe_plan(plan)
    assert told.count("Measured: ") == 2 and "by 4 texts of train.jsonl of alice/measured-texts@" in told
    few = Limits(disk_gb=plan.disk_bytes / 1e9).plan(recipe(TEXTS), None)
    assert "The merge takes up to" in few.errors[0].message
    with pytest.raises(ResourceError, match="regmean runs models to measure them, which a page on ZeroGPU"):
        run_merge(work(spec, tmp_path / "none"), Limits(), ZeroGpu(None, None))  # type: ignore[arg-type]
    result = run_merge(work(spec, tmp_path, events.append), Limits())
    steps = [event for event in events if event.stage == "measure"]
    drawn = describe_job(Job("1", "me", "merge", "", {}, "running", started=1.0, event=vars(steps[-2])))
    assert f"measure · {steps[-2].done} of {steps[-2].total} layers" in drawn and "aria-valuenow" in drawn
    assert describe_plan(Limits().plan(recipe(TEXTS), None)).count("done already") == 2
    repo_id = "alice/measured-merge"
    push = {"kind": "merge", **result, "repo_id": repo_id, "private": False}
    assert run_publish(work(push, tmp_path), Limits())["repo_id"] == repo_id
    card = Path(HfApi().hf_hub_download(repo_id, "README.md")).read_text()
    assert "regmean" in card and TEXTS["dataset"] in card


def test_statistics_that_nobody_used_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = measured_in(tmp_path, monkeypatch)
    assert cache.trim_statistics(0) == 0
    for hours in (1, 2, 3):
        (folder / str(hours)).mkdir(parents=True)
        (folder / str(hours) / "grams.safetensors").write_bytes(b"x" * 1000)
        then = time.time() - 3600 * hours - 60
        os.utime(folder / str(hours) / "grams.safetensors", (then, then))
    assert cache.trim_statistics(3000) == 0
    assert cache.trim_statistics(2500) == 1000
    assert cache.trim_statistics(0, spared=1.5 * 3600) == 1000
    assert [one.name for one in folder.iterdir()] == ["1"]
