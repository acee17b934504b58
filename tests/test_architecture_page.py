"""docs/architecture.md: its files are there, and what it says is enough to add something is enough."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamtools import weights
from torch import Tensor

import hubmerge.methods as methods
import hubmerge.stream.plan as plan
import hubmerge.stream.verify as verify
from hubmerge.errors import Interrupted
from hubmerge.hub.component import Folder
from hubmerge.hub.headers import read_headers
from hubmerge.hub.listing import list_files
from hubmerge.hub.source import Source
from hubmerge.methods import METHODS, Method, Parameter
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.weights import Over, Reads, Stored

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:hubmerge|tests)/[\w/<>]+\.py)`", PAGE)
    assert len(named) > 8
    for name in named:
        folder, _, file = name.rpartition("/")
        assert (ROOT / name).is_file() if "<" not in file else list((ROOT / folder).glob("*.py")), name


class Doubled(Over):
    """A kind of weights that nothing in hubmerge knows: each tensor twice as large as another's."""

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        return self.inner.read(name, start, stop, reads) * 2


@pytest.mark.parametrize("ranged", [False, True])
def test_a_kind_of_weights_is_a_class_and_where_it_is_made(siblings, hub, ranged: bool, monkeypatch, tmp_path) -> None:
    from hubmerge.hub import push_folder

    push_folder(siblings["math"], "alice/doubled", message="Upload", private=False, overwrite=True)
    monkeypatch.setattr(plan, "weights_of", lambda source: Doubled(Stored(source)))
    recipe = Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": "alice/doubled"}]})
    merge(plan.make_plan(recipe, ranged=ranged), tmp_path / "out")
    single, double = weights(siblings["math"]), weights(tmp_path / "out")
    assert single.keys() == double.keys()
    assert all(torch.equal(double[name], tensor * 2) for name, tensor in single.items())


def test_a_merge_method_is_a_function_and_an_entry(siblings, monkeypatch, tmp_path: Path) -> None:
    family = ModuleType("hubmerge.methods.largest")
    family.largest = lambda block, floor: torch.stack(block.tensors).amax(0).clamp_(min=floor)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, family.__name__, family)
    parameters = (Parameter("floor", -9.0, "Nothing is less."),)
    method = Method("largest", "largest", "The largest of all.", "https://example.org", parameters, base="none")
    monkeypatch.setattr(methods, "METHODS", {**METHODS, "largest": method})
    models = [{"model": str(siblings[name])} for name in ("math", "japanese")]
    merge(
        Recipe.from_dict({"merge_method": "largest", "models": models, "parameters": {"floor": -0.01}}),
        tmp_path / "out",
    )
    one, other = weights(siblings["math"]), weights(siblings["japanese"])
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, torch.maximum(one[name], other[name]).clamp(min=-0.01))


def tensors(seed: int) -> dict[str, dict[str, Tensor]]:
    """The weights of a small pipeline: two of its parts call a tensor by one name."""
    generator = torch.Generator().manual_seed(seed)
    names = {"unet": ("conv_in.weight", "mid.weight"), "text_encoder": ("embed.weight",), "vae": ("conv_in.weight",)}
    return {part: {n: torch.randn(8, 8, generator=generator) for n in few} for part, few in names.items()}


STEMS = {"unet": "diffusion_pytorch_model", "text_encoder": "model", "vae": "diffusion_pytorch_model"}


def pipeline(folder: Path, seed: int) -> Path:
    """A model of several checkpoints, each in a folder of its own with its own config.json."""
    for part, few in tensors(seed).items():
        (folder / part).mkdir(parents=True)
        save_file(few, folder / part / f"{STEMS[part]}.safetensors", {"format": "pt"})
        (folder / part / "config.json").write_text(json.dumps({"kind": part, "seed": seed}))
    return folder


def open_pipeline(ref: ModelRef, **_: object) -> Source:
    """What would open it: nothing in hubmerge knows of such folders yet."""
    listing, found, folders = list_files(ref), {}, {}
    for part, stem in STEMS.items():
        files = [name for name in listing.files if name.startswith(f"{part}/{stem}") and name.endswith(".safetensors")]
        for file in files:
            info = listing.files[file]
            read = read_headers(lambda a, b, i=info: listing.store.read(i, a, b), file, info.size, listing.name)
            found |= {f"{part}/{one.name}": replace(one, name=f"{part}/{one.name}") for one in read}
        folders[part] = Folder(json.loads(listing.read_text(f"{part}/config.json") or ""), stem)
    return Source(ref, listing, found, {"_class_name": "Pipeline"}, folders=folders)


def test_a_model_of_several_checkpoints_is_what_opens_it(monkeypatch, tmp_path: Path) -> None:
    """Each part has its own config, shards and index; planned, stopped, resumed, verified."""
    refs = [ModelRef(str(pipeline(tmp_path / name, seed))) for seed, name in enumerate("ab")]
    models = [{"model": str(ref), "parameters": {"weight": w}} for ref, w in zip(refs, (0.25, 0.75), strict=True)]
    modules = {"unet": {"models": models}, "text_encoder": {"models": models[::-1]}}
    recipe = Recipe.from_dict({"merge_method": "linear", "modules": modules})
    sources = {ref: open_pipeline(ref) for ref in refs}
    merged = plan.make_plan(recipe, sources=sources, shard_size=300)
    assert [(part.folder, len(part.shards)) for part in merged.components] == [
        ("", 0),
        ("unet", 2),
        ("text_encoder", 1),
        ("vae", 1),
    ]

    def stop(event) -> None:
        if event.stage == "merge" and event.done > 300:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        merge(merged, tmp_path / "out", progress=stop)
    assert merge(merged, tmp_path / "out").kept > 0
    monkeypatch.setattr(verify, "open_source", open_pipeline)
    monkeypatch.setattr(plan, "open_source", lambda ref, **_: {one.pinned: one for one in sources.values()}[ref])
    verify.verify(ModelRef(str(tmp_path / "out")), recompute=True).require()
    first, second = tensors(0), tensors(1)
    for part, few in first.items():
        folder = tmp_path / "out" / part
        assert json.loads((folder / "config.json").read_text()) == {"kind": part, "seed": 0}
        found = {}
        for file in folder.glob("*.safetensors"):
            found |= load_file(file)
        for name, tensor in few.items():
            expected = tensor if part == "vae" else 0.25 * tensor + 0.75 * second[part][name]
            assert torch.allclose(found.pop(name), expected, atol=1e-6)
        assert not found
    weight_map = json.loads((tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert sorted(weight_map["weight_map"]) == sorted(first["unet"])
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize("word", ["merge method", "searcher", "metric", "part of models", "kind of weights"])
def test_it_says_what_to_touch(word: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith("| a ") and word in line]
    assert row.count("`hubmerge/") >= 1
