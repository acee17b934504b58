"""Blocks of networks that draw: named as people know them, in filters and gradients of recipes."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hubmerge.blocks import find_blocks
from hubmerge.layers import parse
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

diffusers = pytest.importorskip("diffusers")

from accelerate import init_empty_weights  # noqa: E402

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


def names(kind: str, config: dict[str, Any]) -> list[str]:
    """The names of a model at full size, without its weights."""
    with init_empty_weights():
        return list(getattr(diffusers, kind)(**config).state_dict())


def words(found: dict[str, Any]) -> set[str]:
    return {word for place in found.values() for word in place.words}


@pytest.mark.parametrize(("config", "last"), [(SD15, 11), (SDXL, 8)], ids=["sd15", "sdxl"])
def test_a_unet_has_the_blocks_that_people_know(config: dict[str, Any], last: int) -> None:
    stored = names("UNet2DConditionModel", config)
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


NAMES = {
    "conv_in.weight": "IN00",
    "down_blocks.0.resnets.1.conv1.weight": "IN02",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight": "IN04",
    "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2.weight": "IN04",
    "mid_block.resnets.0.conv1.weight": "M00",
    "up_blocks.0.resnets.0.conv1.weight": "OUT00",
    "up_blocks.1.upsamplers.0.conv.weight": "OUT05",
    "conv_out.weight": "OUT05",
}


@pytest.fixture
def unets(tmp_path: Path) -> tuple[Path, Path]:
    """Two models of a few tensors: all 1, and all 2."""
    for value in (1, 2):
        (folder := tmp_path / str(value)).mkdir()
        (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
        save_file({name: torch.full((2, 2), float(value)) for name in NAMES}, folder / "model.safetensors")
    return tmp_path / "1", tmp_path / "2"


def merged(unets: tuple[Path, Path], out: Path, weight: object, method: str = "task_arithmetic") -> dict[str, float]:
    base, other = map(str, unets)
    models = [{"model": other, "parameters": {"weight": weight}}]
    merge(Recipe.from_dict({"merge_method": method, "base_model": base, "models": models}), out)
    [file] = out.glob("*.safetensors")
    return {name: round(float(tensor[0, 0]) - 1, 6) for name, tensor in load_file(file).items()}


def test_filters_by_block_and_by_what_attends(unets, tmp_path: Path) -> None:
    weight: list[dict[str, Any]] = [{"filter": "IN04", "value": 0.25}, {"filter": "M00", "value": 0.5}]
    found = merged(unets, tmp_path / "blocks", [*weight, {"filter": "OUT05", "value": 0.75}, {"value": 0.1}])
    expected = {"IN04": 0.25, "M00": 0.5, "OUT05": 0.75}
    assert found == {name: expected.get(block, 0.1) for name, block in NAMES.items()}
    split = [{"filter": "attention", "value": 0.2}, {"filter": "rest", "value": 0.4}]
    found = merged(unets, tmp_path / "split", split)
    assert found == {name: 0.2 if "attn1" in name else 0.4 for name in NAMES}
    found = merged(unets, tmp_path / "gradient", [0.0, 0.5, 1.0])
    assert [found[name] for name in ("conv_in.weight", "mid_block.resnets.0.conv1.weight", "conv_out.weight")] == [
        0.0,
        0.6,  # the fourth of six blocks
        1.0,
    ]


def test_a_block_that_is_not_there_is_told(unets) -> None:
    models = [{"model": str(unets[1]), "parameters": {"weight": [{"filter": "IN11", "value": 1}, {"value": 0.5}]}}]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(unets[0]), "models": models}
    [told] = [one.message for one in make_plan(Recipe.from_dict(recipe)).warnings if "IN11" in one.message]
    assert told.startswith("No tensor is in 'IN11', so the value of weight for it is not used")
