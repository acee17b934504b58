"""Blocks of networks that draw: named as people know them, in filters and gradients of recipes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

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
