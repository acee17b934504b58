"""Pipelines of diffusers as they lie on the Hub: variants, shards, pickles, single parts - and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from hubtools import shard
from safetensors.torch import load_file, save_file
from streamtools import weights

from hubmerge.errors import RecipeError, SourceError
from hubmerge.hub import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify

UNET, VAE = ["diffusers", "UNet2DConditionModel"], ["diffusers", "AutoencoderKL"]
CLIP, TOKENIZER = ["transformers", "CLIPTextModel"], ["transformers", "CLIPTokenizer"]
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "unet": UNET,
    "vae": VAE,
    "text_encoder": CLIP,
    "tokenizer": TOKENIZER,
    "safety_checker": [None, None],
    "requires_safety_checker": False,
}


def tensors(part: str, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = {"unet": ("conv_in.weight", "mid.weight", "conv_out.weight"), "vae": ("conv_in.weight", "x.bias")}
    return {name: torch.randn(8, 8, generator=generator) for name in names.get(part, ("embed.weight",))}


def pipeline(folder: Path, seed: int = 1, index: dict | None = None) -> Path:
    """A pipeline as small as can be; two of its parts call a tensor by one name."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(INDEX | (index or {})))
    for part in ("unet", "vae", "text_encoder"):
        (folder / part).mkdir()
        kind = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
        config = kind if part == "text_encoder" else {"_class_name": INDEX[part][1]}
        (folder / part / "config.json").write_text(json.dumps(config))
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        save_file(tensors(part, seed), folder / part / f"{stem}.safetensors", {"format": "pt"})
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(f'{{"a": {seed}}}')
    (folder / "tokenizer" / "merges.txt").write_text("#")
    return folder


def half(*folders: Path, **more: object) -> Recipe:
    return Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(one)} for one in folders], **more})


def stored(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return weights(folder / part)


def in_shards(folder: Path, file: str, index: str, variant: str = "", torch_file: bool = False) -> None:
    """Writes a part's one file as a shard a tensor, `file` with a place for their number, and an index of them."""
    [path] = folder.glob("*.safetensors")
    found = load_file(path)
    path.unlink()
    files = {name: file.format(f"{n:05d}-of-{len(found):05d}") for n, name in enumerate(found, 1)}
    for name, one in files.items():
        if torch_file:
            torch.save({name: found[name]}, folder / one)
        else:
            save_file({name: found[name]}, folder / one, {"format": "pt"})
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": files}))


STEM = "diffusion_pytorch_model"
SPELLINGS = {
    "fp16 as diffusers spells it": (f"{STEM}.fp16-{{}}.safetensors", f"{STEM}.safetensors.index.fp16.json", False),
    "fp16 as it was spelt before": (f"{STEM}-{{}}.fp16.safetensors", f"{STEM}.fp16.safetensors.index.json", False),
    "shards": (f"{STEM}-{{}}.safetensors", f"{STEM}.safetensors.index.json", False),
    "shards of torch": (f"{STEM}-{{}}.bin", f"{STEM}.bin.index.json", True),
    "a variant of these": (f"{STEM}.fp16-{{}}.bin", f"{STEM}.bin.index.fp16.json", True),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_shards_and_variants_by_all_their_names(spelling: str, tmp_path: Path) -> None:
    one, other = (pipeline(tmp_path / name, seed) for seed, name in enumerate("ab"))
    in_shards(other / "unet", *SPELLINGS[spelling][:2], torch_file=SPELLINGS[spelling][2])
    merge(half(one, other), tmp_path / "out")
    for name, tensor in stored(tmp_path / "out", "unet").items():
        assert torch.allclose(tensor, (tensors("unet", 0)[name] + tensors("unet", 1)[name]) / 2, atol=1e-6)
    assert [path.name for path in (tmp_path / "out" / "unet").glob("*.safetensors")] == [f"{STEM}.safetensors"]


def test_the_plain_weights_go_before_a_variant_and_dtypes_may_differ(tmp_path: Path) -> None:
    one, other = (pipeline(tmp_path / name, seed) for seed, name in enumerate("ab"))
    save_file({n: t.half() for n, t in tensors("unet", 7).items()}, one / "unet" / f"{STEM}.fp16.safetensors")
    (other / "unet" / f"{STEM}.safetensors").unlink()
    save_file({n: t.half() for n, t in tensors("unet", 1).items()}, other / "unet" / f"{STEM}.fp16.safetensors")
    merge(half(one, other), tmp_path / "out")
    for name, tensor in stored(tmp_path / "out", "unet").items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor, (tensors("unet", 0)[name] + tensors("unet", 1)[name].half()) / 2, atol=1e-6)
    assert "dtype" not in json.loads((tmp_path / "out" / "unet" / "config.json").read_text())
    merge(half(one, other, dtype="bfloat16"), tmp_path / "narrow")
    assert {t.dtype for part in ("unet", "vae") for t in stored(tmp_path / "narrow", part).values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "narrow" / "text_encoder" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_part_alone_and_a_part_of_the_whole(tmp_path: Path) -> None:
    """org/pipe/unet is a model of its own, and so is what it makes; org/pipe#unet is a part of the whole."""
    one, other = (pipeline(tmp_path / name, seed) for seed, name in enumerate("ab"))
    mean = {n: (t + tensors("unet", 1)[n]) / 2 for n, t in tensors("unet", 0).items()}
    merge(half(one / "unet", other / "unet"), tmp_path / "alone")
    assert sorted(p.name for p in (tmp_path / "alone").iterdir() if p.is_file()) == [
        "config.json",
        f"{STEM}.safetensors",
        "hubmerge.json",
    ]
    assert json.loads((tmp_path / "alone" / "config.json").read_text()) == {"_class_name": "UNet2DConditionModel"}
    merge(half(Path(f"{one}#unet"), Path(f"{other}#unet")), tmp_path / "whole")
    merge(half(Path(f"{one}#unet"), other / "unet"), tmp_path / "mixed")
    for found in (weights(tmp_path / "alone"), stored(tmp_path / "whole", "unet"), stored(tmp_path / "mixed", "unet")):
        assert found.keys() == mean.keys()
        assert all(torch.allclose(tensor, mean[name], atol=1e-6) for name, tensor in found.items())
    for part in ("vae", "text_encoder", "tokenizer"):
        for path in (one / part).iterdir():
            if path.name != "config.json":
                assert (tmp_path / "whole" / part / path.name).read_bytes() == path.read_bytes()
    verify(ModelRef(str(tmp_path / "whole")), recompute=True).require()


def test_parts_are_taken_from_models_of_their_own_and_from_stages(tmp_path: Path) -> None:
    """A VAE that is a repository of its own, of another class; model_index.json tells it."""
    one, other = (pipeline(tmp_path / name, seed) for seed, name in enumerate("ab"))
    alone = tmp_path / "tiny-vae"
    alone.mkdir()
    (alone / "config.json").write_text('{"_class_name": "AutoencoderTiny", "sample": 3}')
    save_file({"encoder.weight": torch.ones(2, 2)}, alone / f"{STEM}.safetensors", {"format": "pt"})
    document = {
        "stages": [{"name": "mixed", "merge_method": "linear", "models": [{"model": str(one)}, {"model": str(other)}]}],
        "merge_method": "passthrough",
        "base_model": str(one),
        "modules": {"unet": "stage:mixed#unet", "vae": str(alone), "tokenizer": str(other)},
    }
    recipe = Recipe.from_dict(document)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    plan = make_plan(recipe)
    assert Recipe.from_dict(plan.recipe.to_dict()) == plan.recipe
    assert plan.recipe.modules[1].copied.revision.startswith("sha256:")
    merge(plan, out := tmp_path / "out")
    assert {n: t.tolist() for n, t in stored(out, "vae").items()} == {"encoder.weight": [[1, 1], [1, 1]]}
    index = json.loads((out / "model_index.json").read_text())
    assert index == INDEX | {"vae": ["diffusers", "AutoencoderTiny"]} and list(index) == list(INDEX)
    assert json.loads((out / "vae" / "config.json").read_text())["sample"] == 3
    mean = (tensors("unet", 0)["mid.weight"] + tensors("unet", 1)["mid.weight"]) / 2
    assert torch.allclose(stored(out, "unet")["mid.weight"], mean, atol=1e-6)
    assert json.loads((out / "tokenizer" / "vocab.json").read_text()) == {"a": 1}
    assert torch.equal(stored(out, "text_encoder")["embed.weight"], tensors("text_encoder", 0)["embed.weight"])


def test_what_cannot_be_merged_is_said(tmp_path: Path) -> None:
    one, other = (pipeline(tmp_path / name, seed) for seed, name in enumerate("ab"))

    def refused(modules: dict, says: str) -> None:
        with pytest.raises(RecipeError, match=says):
            make_plan(Recipe.from_dict({"merge_method": "linear", "base_model": str(one), "modules": modules}))

    refused({"tokenizer": {"models": [{"model": str(one)}, {"model": str(other)}]}}, "tokenizer of .* has no weights")
    refused({"unett": str(other)}, r"did you mean unet\?")
    refused({"tokenizer": str(other / "unet")}, "cannot be the tokenizer")
    with pytest.raises(RecipeError, match=r"is one model, and .* is made of unet, vae"):
        make_plan(half(one, other / "unet"))
    with pytest.raises(RecipeError, match="another word for `modules`"):
        Recipe.from_dict({"merge_method": "linear", "modules": {"vae": str(one)}, "components": {"vae": str(one)}})
    (other / "unet" / "config.json").write_text('{"_class_name": "SD3Transformer2DModel"}')
    told = [one.message for one in make_plan(half(one, other)).findings]
    assert any("is a SD3Transformer2DModel model and" in message for message in told)


HOSTILE = {
    "leaves its folder": ({"../unet": UNET}, "names a part '../unet'"),
    "a path": ({"unet/inner": UNET}, "names a part 'unet/inner'"),
    "of no folder": ({"text_encoder_2": CLIP}, "lacks the folder text_encoder_2"),
    **{f"says {value}": ({"unet": value}, "says of unet, which has a folder") for value in ("x", 5, ["diffusers"])},
    **{
        f"of the class {value}": ({"_class_name": value}, "in `_class_name`, by which nothing opens it")
        for value in (None, 5, "os.system", "../../x", ["pipeline", "Mine"])
    },
    "a class of no library": ({"unet": ["../../evil", "Os"]}, "are no library and class"),
    "quantised": ({"unet": UNET}, "unet of .* is quantised"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pipelines_are_refused(kind: str, tmp_path: Path) -> None:
    index, says = HOSTILE[kind]
    folder = pipeline(tmp_path / "bad", index=index)
    if kind == "quantised":
        how = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
        (folder / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **how}))
        packed = {"mid.weight": torch.ones(8, 8, dtype=torch.int8), "mid.SCB": torch.ones(8)}
        save_file(packed, folder / "unet" / f"{STEM}.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=says):
        open_source(ModelRef(str(folder)))


def test_links_that_lead_out_and_pickles_that_are_none_are_refused(tmp_path: Path) -> None:
    linked = pipeline(tmp_path / "linked")
    (tmp_path / "secret.txt").write_text("secret")
    (linked / "tokenizer" / "merges.txt").unlink()
    (linked / "tokenizer" / "merges.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(SourceError, match="link that leads out"):
        open_source(ModelRef(str(linked)))
    pickled = pipeline(tmp_path / "pickled")
    (pickled / "unet" / f"{STEM}.safetensors").unlink()
    (pickled / "unet" / f"{STEM}.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(SourceError, match=r"pickle|zip"):
        open_source(ModelRef(str(pickled)))


def test_code_of_its_own_is_neither_run_nor_copied_and_only_small_files_go_along(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "own", index={"unet": ["my_unet", "MyUNet"]})
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit")
    for name in ("flax_model.msgpack", "model.onnx", "openvino_model.xml"):
        (folder / "text_encoder" / name).write_bytes(b"x")
    (folder / "text_encoder" / "generation_config.json").write_text("{}")
    plan = make_plan(half(folder, pipeline(tmp_path / "other", 2)))
    assert any("code of its own (unet/my_unet.py)" in one.message for one in plan.warnings)
    merge(plan, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "text_encoder").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
    }
    assert not list((tmp_path / "out").rglob("*.py"))
    (folder / "unet" / "my_unet.py").unlink()
    told = [one.message for one in make_plan(half(folder, pipeline(tmp_path / "third", 3))).warnings]
    assert any("is a MyUNet of my_unet, which is neither diffusers nor" in message for message in told)


def test_what_a_plan_passes_a_merge_passes(tmp_path: Path) -> None:
    """Settings that go along as they are are read by the plan; what is copied is of the kind, and fits or is told."""
    one, other = (pipeline(tmp_path / name, seed) for seed, name in enumerate("ab"))

    def planned(components: dict[str, str]) -> list[str]:
        document = {"merge_method": "linear", "base_model": str(one), "components": components}
        told = [found.message for found in make_plan(Recipe.from_dict(document)).warnings]
        return [message for message in told if "may not draw" in message]

    with pytest.raises(RecipeError, match=r"of the class CLIPTextModel \(transformers\), and the vae of .* of Auto"):
        planned({"vae": f"{other}#text_encoder"})
    assert planned({"vae": str(other)}) == []
    for folder, channels in ((one, 4), (other, 16)):
        config = {"_class_name": "AutoencoderKL", "latent_channels": channels, "layers_per_block": channels}
        (folder / "vae" / "config.json").write_text(json.dumps(config))
    [told] = planned({"vae": str(other)})
    assert "has latent_channels 16 where that has 4; other parts are made for it" in told
    (one / "tokenizer" / "tokenizer_config.json").write_text("[1")
    with pytest.raises(SourceError, match=r"tokenizer_config\.json of .*/tokenizer cannot be read: not valid JSON"):
        planned({"vae": str(other)})


def test_one_file_of_a_pipeline_may_be_named(tmp_path: Path) -> None:
    """It is read and written alone, whatever stands beside it; a file that tells nothing of itself is refused."""
    folder = pipeline(tmp_path / "both")
    names = ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.x", "first_stage_model.y"]
    (folder / "xl.safetensors").write_bytes(shard(names, 1))
    (folder / "other.safetensors").write_bytes(shard(names, 2))
    source = open_source(ModelRef.parse(str(folder / "xl.safetensors")))
    assert list(source.tensors) == sorted(names) and source.config == {"_class_name": "StableDiffusionXLPipeline"}
    plan = make_plan(half(folder / "xl.safetensors", folder / "other.safetensors", dtype="float16"), shard_size=100)
    merge(plan, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"xl.safetensors", "hubmerge.json"}
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.float16}
    (folder / "odd.safetensors").write_bytes(shard(["x"]))
    with pytest.raises(SourceError, match=r"no config\.json"):
        open_source(ModelRef.parse(str(folder / "odd.safetensors")))


def test_the_files_of_one_model_at_the_top_are_no_pipeline(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "both")
    (folder / "sd_v1.safetensors").write_bytes(shard(["model.x"]))
    assert "unet/mid.weight" in open_source(ModelRef(str(folder))).tensors
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert list(open_source(ModelRef(str(folder))).tensors) == ["model.x"]
