"""A model in a folder of a repository, and one file with weights of several."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hubtools import publish
from safetensors.torch import save_file
from streamtools import weights
from test_stream_merge import Siblings, recipe

from hubmerge.errors import RecipeError, SourceError
from hubmerge.hub import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan


def small_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/name/sub", ("org/name", "sub", None)),
        ("org/name/sub/of/it@main", ("org/name", "sub/of/it", "main")),
        ("org/name/model.q4.gguf", ("org/name", "model.q4.gguf", None)),
        ("./math/x.safetensors@sha256:0123456789ab", ("./math", "x.safetensors", "sha256:0123456789ab")),
    ],
)
def test_names_are_read_and_written(text: str, parts: tuple) -> None:
    ref = ModelRef.parse(text)
    assert (ref.repo_id, ref.inside, ref.revision) == parts
    assert str(ref) == text
    assert str(ModelRef.parse(f"{text}+org/lora/checkpoint-5").lora) == "org/lora/checkpoint-5"


@pytest.mark.parametrize("text", ["org/name/../x", "org/name//x", "org/name/.", "ftp://a/b/c"])
def test_names_that_leave(text: str) -> None:
    with pytest.raises(RecipeError):
        ModelRef.parse(text)


def test_a_folder_of_a_repository_by_range_and_downloaded(siblings: Siblings, hub, tmp_path: Path) -> None:
    repo_id = "alice/with-folders"
    files = small_files(siblings["math"])
    publish(repo_id, {"notes.txt": b"hello", **{f"runs/last/{name}": content for name, content in files.items()}})
    named = f"{repo_id}/runs/last"
    expected = merge(recipe(siblings), tmp_path / "expected").tensors
    plan = make_plan(recipe({**siblings, "math": named}), ranged=True)
    assert plan.sources[1].name == named
    assert merge(plan, tmp_path / "ranged").tensors == expected
    assert f"{named}@{plan.sources[1].commit}" in (tmp_path / "ranged" / "hubmerge.json").read_text()
    pinned = Recipe.from_yaml(plan.recipe.to_yaml())
    assert merge(pinned, tmp_path / "again").tensors == expected
    with pytest.raises(SourceError, match="has no folder or file called runs/first"):
        open_source(ModelRef.parse(f"{repo_id}/runs/first"))


def test_one_file_of_several(siblings: Siblings, hub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siblings["math"], tmp_path / "math"))
    state = weights(folder)
    (folder / "model.safetensors").rename(folder / "epoch-1.safetensors")
    save_file({name: tensor + 1 for name, tensor in state.items()}, folder / "epoch-2.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match="2 safetensors files"):
        open_source(ModelRef.parse(str(folder)))
    expected = merge(recipe(siblings), tmp_path / "expected").tensors
    plan = make_plan(recipe({**siblings, "math": folder / "epoch-1.safetensors"}))
    assert merge(plan, tmp_path / "file").tensors == expected
    pinned = Recipe.from_yaml(plan.recipe.to_yaml())
    assert "./math/epoch-1.safetensors@sha256:" in str(pinned.models[0].model)
    assert merge(pinned, tmp_path / "again").tensors == expected
    repo_id = "alice/epochs"
    publish(repo_id, small_files(folder))
    named = recipe({**siblings, "math": f"{repo_id}/epoch-1.safetensors"})
    assert merge(make_plan(named, ranged=True), tmp_path / "ranged").tensors == expected


def test_links_beside_a_file_concern_it_where_they_are_read(siblings: Siblings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siblings["math"], tmp_path / "downloads"))
    (folder / "pictures").mkdir()
    (tmp_path / "elsewhere.json").write_bytes((folder / "generation_config.json").read_bytes())
    for name in ("pictures/link.png", "notes.txt", "README.md"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / "elsewhere.json")
    named = ModelRef.parse(str(folder / "model.safetensors"))
    assert open_source(named).tensors == open_source(ModelRef(str(siblings["math"]))).tensors
    merge(recipe({**siblings, "math": folder / "model.safetensors"}), tmp_path / "merged")
    with pytest.raises(SourceError, match="a link that leads out of its folder"):
        open_source(ModelRef(str(folder)))
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(SourceError, match=f"{name} is a link that leads out of its folder"):
            open_source(named)
        (folder / name).unlink()
        (tmp_path / name).rename(folder / name)


def test_one_variant_of_several(siblings: Siblings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siblings["math"], tmp_path / "math"))
    state = weights(folder)
    (folder / "model.safetensors").unlink()
    for variant, more in (("fp16", 0), ("bf16", 1)):
        file = f"model-00001-of-00001.{variant}.safetensors"
        save_file({name: tensor + more for name, tensor in state.items()}, folder / file, {"format": "pt"})
        index = {"weight_map": dict.fromkeys(state, file)}
        (folder / f"model.safetensors.index.{variant}.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"If one of them is a model, name it: .*index\.bf16\.json"):
        open_source(ModelRef.parse(str(folder)))
    expected = merge(recipe(siblings), tmp_path / "expected").tensors
    named = folder / "model.safetensors.index.fp16.json"
    assert merge(recipe({**siblings, "math": named}), tmp_path / "out").tensors == expected


def test_copies_for_other_programs(siblings: Siblings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siblings["math"], tmp_path / "math"))
    save_file({"layers.0.w": torch.zeros(2)}, folder / "consolidated.safetensors")
    said = [one.message for one in make_plan(recipe({**siblings, "math": folder})).warnings]
    assert any("once more for other programs: consolidated.safetensors is not read" in one for one in said)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="no weights for transformers, only in the format of Mistral's own programs"):
        open_source(ModelRef.parse(str(folder)))
