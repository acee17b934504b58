"""Pushes leave the model of another merge alone, and a public one names no model that others cannot see."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hubtools import publish
from huggingface_hub import HfApi
from lineagetools import beginning, drawing, pipeline

from hubmerge.errors import RefusedError
from hubmerge.hub.holdings import Told
from hubmerge.hub.push import push_folder
from hubmerge.hub.source import open_source
from hubmerge.publish import merge
from hubmerge.recipe import Recipe

A = "alice/held-"


@pytest.fixture(scope="module")
def parents(siblings, hub) -> None:
    for name, folder in siblings.items():
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        publish(A + name, files)
        publish(f"{A}hidden-{name}", files, private=True)

    zoo = Path(__file__).parent.parent / "hubmerge" / "zoo" / "checkpoints" / "math"
    publish(f"{A}hidden-zoo", {path.name: path.read_bytes() for path in zoo.iterdir()}, private=True)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, method: str = "linear", prefix: str = A, **more: Any) -> Path:
        models = [{"model": prefix + one, "parameters": {"weight": 0.5}} for one in ("math", "japanese")]
        document = {"merge_method": method, "models": models, "base_model": f"{A}base", **more}
        (tmp_path / name).write_text(yaml.safe_dump(document))
        return tmp_path / name

    return write


def newest(repo_id: str) -> str:
    return str(HfApi().model_info(repo_id).sha)


def test_a_repository_with_another_merge_is_left_as_it_is(parents, siblings, write, call, tmp_path) -> None:
    mine, other = write("mine.yaml"), write("other.yaml", "ties", parameters={"density": 0.5})
    moe = tmp_path / "moe.yaml"
    experts = [{"source_model": A + name, "positive_prompts": [f"w{at} 3"]} for at, name in enumerate(("math", "base"))]
    moe.write_text(yaml.safe_dump({"base_model": f"{A}base", "experts": experts, "gate_mode": "random"}))
    target = f"{A}kept"
    assert call("merge", mine, "--push", target).returncode == 0
    assert call("merge", other, "--out", tmp_path / "other").returncode == 0
    before = newest(target)
    for command in (
        ("merge", other, "--push", target),
        ("merge", other, "--push", target, "--stream"),
        ("push", tmp_path / "other", target),
        ("push", siblings["math"], target),
        ("moe", moe, "--push", target),
        ("extract-lora", f"{A}math", "--base", f"{A}base", "--rank", 2, "--push", target),
        ("transplant", f"{A}math", "--tokenizer", f"{A}base", "--push", target),
    ):
        done = call(*command)
        assert done.returncode == 2, (command, done.stderr)
        assert f"{target} already holds the model of another merge (linear), and is left as it is" in done.stderr
        assert newest(target) == before
    assert call("push", tmp_path / "other", target, "--overwrite").returncode == 0 and newest(target) != before


def test_the_same_recipe_is_pushed_again_also_of_newer_models(parents, siblings, write, call, tmp_path) -> None:
    mine, target = write("mine.yaml"), f"{A}again"
    assert call("merge", mine, "--push", target).returncode == 0
    publish(f"{A}math", {"notes.txt": newest(target).encode()})
    assert call("merge", mine, "--push", target, "--stream", "--shard-size", "10kB").returncode == 0
    assert call("merge", mine, "--out", tmp_path / "out").returncode == 0
    assert call("push", tmp_path / "out", target).returncode == 0


def test_a_merge_does_not_take_the_place_of_a_model_that_no_recipe_made(parents, siblings, write, call) -> None:
    target = f"{A}trained"
    assert call("push", siblings["math"], target).returncode == 0
    assert call("push", siblings["math"], target).returncode == 0  # as it is trained on
    done = call("merge", write("mine.yaml"), "--push", target)
    assert done.returncode == 2 and f"{target} already holds another model (model.safetensors)" in done.stderr


def test_a_public_push_names_no_private_model_unless_that_is_said(parents, siblings, write, call, tmp_path) -> None:
    hidden, target = write("hidden.yaml", prefix=f"{A}hidden-"), f"{A}open"
    assert call("merge", hidden, "--out", tmp_path / "out").returncode == 0
    api = HfApi()
    for command in (
        ("merge", hidden, "--push", target),
        ("push", tmp_path / "out", target),
        *([("gguf", f"{A}hidden-zoo", "--out", tmp_path, "--push", target)] if find_spec("gguf") else []),
        ("transplant", f"{A}math", "--tokenizer", f"{A}hidden-base", "--push", target),
        ("extract-lora", f"{A}hidden-math", "--base", f"{A}base", "--rank", 2, "--push", target),
    ):
        done = call(*command, "--public")
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert f"{A}hidden-" in done.stderr and "--name-private" in done.stderr
        assert not api.repo_exists(target)
    assert call("merge", write("mine.yaml"), "--push", target, "--public").returncode == 0
    done = call("merge", hidden, "--push", f"{A}named", "--public", "--name-private")
    assert done.returncode == 0 and not api.model_info(f"{A}named").private
    assert call("merge", hidden, "--push", f"{A}closed").returncode == 0 and api.model_info(f"{A}closed").private


def test_a_search_says_it_before_it_searches(parents, tiny_search, call, tmp_path) -> None:
    search = tiny_search(base_model=f"{A}base", models=[f"{A}math", f"{A}hidden-japanese"])
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(search.to_dict()))
    done = call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "run", "--push", f"{A}found", "--public")
    assert done.returncode == 2 and f"{A}hidden-japanese is private, or gone" in done.stderr
    HfApi().create_repo(f"{A}rows", repo_type="dataset", private=True, exist_ok=True)
    task = {"examples": {"repo_id": f"{A}rows", "search": "rows.jsonl"}}
    told = search.to_dict() | {"models": [f"{A}math", f"{A}japanese"], "task": task}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(told))
    done = call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "run", "--push", f"{A}found", "--public")
    assert done.returncode == 2 and f"datasets/{A}rows is private, or gone" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_a_manifest_names() -> None:
    manifest = {"recipe": {}, "sources": [{"model": "org/a"}, 3], "calibration": [{"dataset": "org/texts@main"}, {}]}
    assert Told.read(json.dumps(manifest), ["org/b"]).models == ("org/a", "datasets/org/texts@main", "org/b")
    for broken in (None, "", "[", "[]", '{"sources": 3, "calibration": {}, "recipe": []}'):
        assert Told.read(broken) == Told(None)


def test_in_python(parents, write, tmp_path) -> None:
    merge(Recipe.from_yaml(write("hidden.yaml", prefix=f"{A}hidden-")), tmp_path / "out")
    for private in (True, False):
        how = {"private": private, "names_private": True}
        assert open_source(push_folder(tmp_path / "out", f"{A}python-{private}", **how).repo_id).tensors
    with pytest.raises(RefusedError, match="are private, or gone"):
        push_folder(tmp_path / "out", f"{A}python", private=False)


def test_what_does_not_talk_is_not_offered_to_talk_to(hub, siblings, call, tmp_path) -> None:
    for name, content in pipeline({"unet": drawing(1), "text_encoder": beginning(2)}).items():
        (tmp_path / "draws" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "draws" / name).write_bytes(content)
    done = call("push", tmp_path / "draws", f"{A}draws")
    assert done.returncode == 0 and "Talk to it" not in done.stdout, done.stderr
    assert "Talk to it" in call("push", siblings["math"], f"{A}talks").stdout
