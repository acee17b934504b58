"""Pipelines of diffusers by Hub ID: merged part by part, streamed, and loaded by plain diffusers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from PIL import Image
from safetensors.torch import save_file
from streamtools import weights

from hubmerge.blocks import find_blocks
from hubmerge.errors import Interrupted
from hubmerge.hub import push_folder, render
from hubmerge.hub.card import DRAWN as DRAWN_PROMPT
from hubmerge.layers import parse
from hubmerge.localhub.generated.sdxl import unet
from hubmerge.publish import card_of, merge_to_hub
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify

diffusers = pytest.importorskip("diffusers")

from pipelines import PIPELINES, original, picture, save  # noqa: E402

KINDS = tuple(PIPELINES)
DRAWN = ("sd15", "z_image")
"""Pipelines that draw; drawing takes a second each."""


@pytest.fixture(scope="module")
def pairs(hub, tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """Two pipelines of each kind, in folders and as alice/KIND-a and alice/KIND-b on the Hub."""
    root, made = tmp_path_factory.mktemp("pipelines"), {}
    for kind in KINDS:
        made[kind] = tuple(save(kind, root / f"{kind}-{name}", seed) for seed, name in enumerate("ab", 1))
        for folder in made[kind]:
            push_folder(folder, f"alice/{folder.name}", message="Upload", private=False)
    return made


def recipe(kind: str, main: str) -> Recipe:
    """The main part linear, a text encoder in task arithmetic, VAE and tokenizer of b, the rest of a."""
    a, b = f"alice/{kind}-a", f"alice/{kind}-b"
    return Recipe.from_dict(
        {
            "merge_method": "linear",
            "base_model": a,
            "components": {
                main: {
                    "models": [
                        {"model": a, "parameters": {"weight": 0.25}},
                        {"model": b, "parameters": {"weight": 0.75}},
                    ]
                },
                "text_encoder": {
                    "merge_method": "task_arithmetic",
                    "models": [{"model": b}],
                    "parameters": {"weight": 0.5},
                },
                "vae": b,
                "tokenizer": b,
            },
        }
    )


@pytest.mark.parametrize("kind", KINDS)
def test_merged_part_by_part(kind: str, pairs, tmp_path: Path) -> None:
    a, b = pairs[kind]
    (b / "tokenizer" / "extra.txt").write_text("of b")
    push_folder(b, f"alice/{b.name}", message="One more file", private=False)
    main = "unet" if (a / "unet").is_dir() else "transformer"
    plan = make_plan(recipe(kind, main), ranged=kind != "sdxl", shard_size=100_000)
    plan.require()
    merge(plan, out := tmp_path / "out")
    loaded = diffusers.DiffusionPipeline.from_pretrained(out)
    parts = [path.parent.name for path in sorted(a.glob("*/*.safetensors"))]
    assert {main, "vae", "text_encoder"} <= set(parts)
    for part in parts:
        first, second, found = (weights(folder / part) for folder in (a, b, out))
        shares = {main: 0.75, "text_encoder": 0.5, "vae": 1.0}.get(part, 0.0)
        assert found.keys() == first.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, torch.lerp(first[name], second[name], shares), atol=1e-6, rtol=0)
    assert_copied(b, out, "vae", "tokenizer")
    assert_copied(a, out, "scheduler", *(part for part in parts if part in ("text_encoder_2", "text_encoder_3")))
    assert json.loads((out / "model_index.json").read_text()) == json.loads((a / "model_index.json").read_text())
    if kind in DRAWN:
        by_hand = diffusers.DiffusionPipeline.from_pretrained(a, vae=diffusers.AutoencoderKL.from_pretrained(b / "vae"))
        for part, share in ((main, 0.75), ("text_encoder", 0.5)):
            module, other = getattr(by_hand, part), weights(b / part)
            module.load_state_dict({n: torch.lerp(t, other[n], share) for n, t in module.state_dict().items()})
        torch.testing.assert_close(picture(loaded), picture(by_hand), atol=1e-4, rtol=0)


def assert_copied(source: Path, out: Path, *parts: str) -> None:
    """Each file of these parts is there as it was, and nothing beside."""
    for part in parts:
        one, other = ({path.name: path.read_bytes() for path in (root / part).iterdir()} for root in (source, out))
        assert one == other, part


def test_one_file_in_and_one_file_out(pairs, tmp_path: Path) -> None:
    """Checkpoints in one file, by their first authors' names: blocks, and what diffusers makes of the result."""
    for folder in pairs["sd15"]:
        unet = {original(name): tensor for name, tensor in weights(folder / "unet").items()}
        save_file({**unet, "cond_stage_model.logit_scale": torch.ones(1)}, tmp_path / f"{folder.name}.safetensors")
    a, b = (tmp_path / f"{folder.name}.safetensors" for folder in pairs["sd15"])
    value = [{"filter": "attention", "value": 0.75}, {"filter": "M00", "value": 1.0}, {"value": 0.25}]
    models = [{"model": str(b), "parameters": {"weight": value}}]
    document = {"merge_method": "task_arithmetic", "base_model": str(a), "models": models}
    plan = make_plan(Recipe.from_dict(document), shard_size=1000)
    merge(plan, out := tmp_path / "out", files={"README.md": render(card_of(plan)).encode()})
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "hubmerge.json", "sd15-a.safetensors"]
    assert "StableDiffusionPipeline.from_single_file(" in (out / "README.md").read_text()
    verify(ModelRef(str(out)), recompute=True).require()
    config = {"config": str(pairs["sd15"][0]), "subfolder": "unet"}
    loaded = diffusers.UNet2DConditionModel.from_single_file(str(out / "sd15-a.safetensors"), **config).state_dict()
    first, second = (weights(folder / "unet") for folder in pairs["sd15"])
    assert loaded.keys() == first.keys()
    for name, tensor in loaded.items():
        share = 0.75 if ".attn" in name else 1.0 if name.startswith("mid_block") else 0.25
        torch.testing.assert_close(tensor, torch.lerp(first[name], second[name], share), atol=1e-6, rtol=0)


def test_pushed_and_loaded_by_its_name(pairs, tmp_path: Path, hub, monkeypatch) -> None:
    """Straight onto the Hub a shard at a time, with a card that has the pipeline's class, and opened there."""
    plan = make_plan(recipe("sdxl", "unet"), ranged=True, shard_size=60_000, pushing=True)
    monkeypatch.chdir(tmp_path)
    merge_to_hub(plan, "alice/sdxl-merged", private=False)
    merge(make_plan(recipe("sdxl", "unet")), tmp_path / "out")
    loaded = diffusers.DiffusionPipeline.from_pretrained("alice/sdxl-merged")
    assert isinstance(loaded, diffusers.StableDiffusionXLPipeline)
    for part in ("unet", "vae", "text_encoder"):
        state = getattr(loaded, part).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in weights(tmp_path / "out" / part).items())
    card = render(card_of(plan, "alice/sdxl-merged"))
    assert "library_name: diffusers\npipeline_tag: text-to-image\n" in card
    assert 'model_id = "alice/sdxl-merged"' in card and "StableDiffusionXLPipeline.from_pretrained(model_id, " in card
    assert "Only the unet and text encoder were merged; the vae and tokenizer are those of [alice/sdxl-b" in card
    assert "; all else is that of [alice/sdxl-a" in card
    verify(ModelRef("alice/sdxl-merged"), recompute=True).require()


def test_it_goes_on_where_it_stopped_and_replaces_another(pairs, tmp_path: Path, call) -> None:
    def stop(event) -> None:
        if event.stage == "merge" and event.done > 150_000:
            raise Interrupted("stopped")

    plan = make_plan(recipe("sd15", "unet"), shard_size=50_000)
    with pytest.raises(Interrupted):
        merge(plan, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out" / "model_index.json").exists()
    result = merge(plan, tmp_path / "out")
    assert result.kept > 0 and result.tensors == merge(recipe("sd15", "unet"), tmp_path / "whole").tensors
    merge(recipe("flux", "transformer"), tmp_path / "out", again=True)
    assert not (tmp_path / "out" / "unet" / "config.json").exists()
    assert isinstance(diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out"), diffusers.FluxPipeline)
    (tmp_path / "r.yaml").write_text(recipe("sd15", "unet").to_yaml())
    told = call("plan", tmp_path / "r.yaml", "--stream")
    assert told.returncode == 0 and "StableDiffusionPipeline" in told.stdout
    assert "linear (unet), task_arithmetic (text_encoder), copied (vae, tokenizer)" in " ".join(told.stdout.split())
    search = {
        "models": ["alice/sd15-a", "alice/sd15-b"],
        "merge_method": "linear",
        "genome": {"granularity": "model", "genes": {"weight": [0, 1]}},
        "task": {"name": "words", "examples": {"search": [{"question": "a", "answer": "1"}]}},
    }
    (tmp_path / "s.yaml").write_text(json.dumps(search))
    for command in (("plan", tmp_path / "s.yaml"), ("gguf", "alice/sd15-a", "--out", tmp_path / "x.gguf")):
        asked = call(*command)
        assert asked.returncode == 2 and "a StableDiffusionPipeline" in asked.stderr


@pytest.mark.parametrize(("kind", "dtype"), [("sd15", "float16"), ("z_image", "bfloat16")])
def test_the_code_of_its_card_runs_where_parts_are_stored_in_few_bits(kind, dtype, pairs, tmp_path, monkeypatch):
    """diffusers makes float32 of its own models, and transformers leaves text encoders as they are stored."""
    document = recipe(kind, "unet" if kind == "sd15" else "transformer").to_dict()
    plan = make_plan(Recipe.from_dict({**document, "dtype": dtype}))
    merge(plan, tmp_path / "out", files={"README.md": render(card_of(plan)).encode()})
    (code,) = re.findall("```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    assert f'pipeline("{DRAWN_PROMPT}")' in code
    monkeypatch.chdir(tmp_path / "out")
    small = f'"{DRAWN_PROMPT}", num_inference_steps=1, height=16, width=16'
    exec(code.replace(f'"{DRAWN_PROMPT}"', small), {})  # else as printed
    with Image.open("picture.png") as drawn:
        assert drawn.size[0] > 0


SD15 = {"cross_attention_dim": 768}
SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}


def names(kind: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a model at full size, without its weights."""
    with init_empty_weights():
        model = getattr(diffusers, kind)(**config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def words(found: dict[str, Any]) -> set[str]:
    return {word for place in found.values() for word in place.words}


@pytest.mark.parametrize(("config", "last"), [(SD15, 11), (SDXL, 8)], ids=["sd15", "sdxl"])
def test_a_unet_has_the_blocks_that_people_know(config: dict[str, Any], last: int) -> None:
    stored = names("UNet2DConditionModel", config)
    if config is SDXL:
        assert stored == {**unet()}
    found = find_blocks(stored)
    numbers = [f"{number:02d}" for number in range(last + 1)]
    assert words(found) == {f"{end}{n}" for end in ("IN", "OUT") for n in numbers} | {"M00", "attention", "rest"}
    # The paper's division: what UNets call attentions is more than that.
    attention = {name for name in stored if re.search(r"\.(to_q|to_k|to_v|to_out\.0)\.(weight|bias)$", name)}
    assert {name for name, place in found.items() if "attention" in place.words} == attention
    assert {name for name in stored if parse(name).group == "attention"} == attention
    assert {parse(name).group for name in stored if ".ff." in name} == {"mlp"}
    ends = {name: next(iter(place.words - {"attention", "rest"})) for name, place in found.items()}
    assert ends["conv_in.weight"] == ends["time_embedding.linear_1.bias"] == "IN00"
    assert ends["conv_out.bias"] == f"OUT{last:02d}" and ends["down_blocks.0.downsamplers.0.conv.bias"] == "IN03"
    depths = [found[name].depth for name in ("conv_in.weight", "mid_block.resnets.0.conv1.weight", "conv_out.bias")]
    assert depths == [0.0, 0.5, 1.0]


def test_a_transformer_has_double_and_single_blocks_and_others_have_none() -> None:
    config = {"num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2}
    stored = names("FluxTransformer2DModel", {**config, "axes_dims_rope": (2, 2, 4)})
    found = find_blocks(stored)
    assert words(found) == {"D00", "D01", "S00", "S01", "S02", "BASE", "attention", "rest"}
    assert "S01" in found["single_transformer_blocks.1.attn.to_q.weight"].words
    assert "rest" in found["single_transformer_blocks.1.proj_mlp.weight"].words
    assert "BASE" in found["x_embedder.weight"].words
    assert not find_blocks(["model.layers.0.self_attn.q_proj.weight", "encoder.mid_block.attentions.0.to_q.weight"])
