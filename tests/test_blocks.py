"""Blocks of networks that draw: named as people know them, in filters and gradients of recipes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hubmerge.blocks import find_blocks
from hubmerge.errors import SearchError
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.recipes import ParameterGenome
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


def test_layers_of_transformers_that_draw() -> None:
    """Z-Image, Lumina 2, Wan and HiDream call blocks otherwise; models of texts, which have layers too, have none."""
    expected = {
        "layers.0.attention.to_q.weight": "D00 attention",
        "layers.10.attention_norm1.weight": "D10 rest",
        "layers.1.feed_forward.w1.weight": "D01 rest",
        "noise_refiner.0.attention.to_q.weight": "BASE attention",
        "cap_embedder.1.weight": "BASE rest",
    }
    found = find_blocks(expected)
    assert {name: found[name].words for name in expected} == {n: frozenset(w.split()) for n, w in expected.items()}
    assert [found[name].depth for name in expected] == [0.0, 1.0, 0.5, 0.0, 0.0]
    for name, words in (
        ("layers.3.attn.to_out.0.weight", "D03 attention"),
        ("blocks.7.attn1.to_k.weight", "D07 attention"),
        ("double_stream_blocks.2.block.ff_i.w1.weight", "D02 rest"),
        ("single_stream_blocks.1.block.attn1.to_q.weight", "S01 attention"),
        ("joint_transformer_blocks.0.attn.add_q_proj.weight", "D00 attention"),
        ("down_blocks.0.attentions.0.add_k_proj.weight", "IN01 attention"),
    ):
        assert find_blocks([name, "layers.3.attn.to_q.weight"])[name].words == frozenset(words.split()), name
    assert find_blocks(["layers.0.self_attn.q_proj.weight", "blocks.0.attn.qkv.weight"]) == {}


def test_a_word_for_blocks_that_a_network_has_none_of_is_told(unets) -> None:
    for folder in unets:
        (folder / "config.json").write_text('{"_class_name": "StrangeTransformer2DModel"}')
        save_file({"inner.0.attention.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    cases = [{"filter": word, "value": 1} for word in ("D00", "attention", "BASE")]
    models = [{"model": str(unets[1]), "parameters": {"weight": [*cases, {"value": 0.5}]}}]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(unets[0]), "models": models}
    told = [one.message for one in make_plan(Recipe.from_dict(recipe)).warnings if "is not used" in one.message]
    assert len(told) == 1 and told[0].startswith("No tensor has 'D00' in its name")


def test_a_block_that_is_not_there_is_told(unets) -> None:
    models = [{"model": str(unets[1]), "parameters": {"weight": [{"filter": "IN11", "value": 1}, {"value": 0.5}]}}]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(unets[0]), "models": models}
    [told] = [one.message for one in make_plan(Recipe.from_dict(recipe)).warnings if "IN11" in one.message]
    assert told.startswith("No tensor is in 'IN11', so the value of weight for it is not used")


def test_words_of_a_side_and_joined_ones(unets, tmp_path: Path) -> None:
    weight = [
        {"filter": "IN+attention", "value": 0.1},
        {"filter": "IN", "value": 0.2},
        {"filter": "rest+M00", "value": 3},
    ]
    found = merged(unets, tmp_path / "out", [*weight, {"value": 0.4}])
    sides = {"IN": 0.2, "M": 3.0, "OUT": 0.4}
    assert found == {
        name: 0.1 if "attn1" in name else sides[block.rstrip("0123456789")] for name, block in NAMES.items()
    }
    models = [{"model": str(unets[1]), "parameters": {"weight": [{"filter": "M+attention", "value": 1}, {"value": 0}]}}]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(unets[0]), "models": models}
    assert any("No tensor is in 'M+attention'" in one.message for one in make_plan(Recipe.from_dict(recipe)).warnings)


@pytest.mark.parametrize(
    ("granularity", "places"),
    [
        ("model", ["rest"]),
        ("group", ["attention", "rest"]),
        ("side", ["IN", "M", "OUT"]),
        ("side_group", ["IN+attention", "IN", "M", "OUT"]),
        ("layer", ["IN00", "IN02", "IN04", "M00", "OUT00", "OUT05"]),
        ("layer_group", ["IN00", "IN02", "IN04+attention", "IN04", "M00", "OUT00", "OUT05"]),
        ("filter", ["OUT05", "down_blocks.1", "rest"]),
    ],
)
def test_genes_by_block(unets, tmp_path: Path, granularity: str, places: list[str]) -> None:
    """Each tensor gets its place's gene in what is written, and a finer genome begins where a coarser one ended."""
    genome = {"granularity": granularity, "genes": {"weight": [0, 2]}}
    if granularity == "filter":
        genome["filters"] = places[:-1]
    models = {"models": [str(unets[1])], "base_model": str(unets[0]), "merge_method": "task_arithmetic"}
    search = Search.from_dict({**models, "genome": genome, "task": {"examples": {"search": []}}})
    made = ParameterGenome(search, list(NAMES))
    assert [place.name for place in made.places] == places
    recipe = made.decode(made.encode(np.arange(1, made.size + 1) / 8))
    merge(recipe, tmp_path / "out")
    [file] = (tmp_path / "out").glob("*.safetensors")
    found = {name: round(8 * (float(tensor[0, 0]) - 1), 3) for name, tensor in load_file(file).items()}
    assert set(found.values()) == set(range(1, made.size + 1))
    if granularity == "side_group":
        assert {name: value for name, value in found.items() if value == 1} == {
            name: 1 for name in NAMES if "attn1" in name
        }
    finer = ParameterGenome(search, list(NAMES), "layer_group", recipe)
    again = finer.decode(finer.start)
    merge(again, tmp_path / "again")
    [file] = (tmp_path / "again").glob("*.safetensors")
    for name, tensor in load_file(file).items():
        assert round(8 * (float(tensor[0, 0]) - 1), 3) == found[name]


def test_sides_are_of_networks_that_draw() -> None:
    genome = {"granularity": "side", "genes": {"weight": [0, 2]}}
    models = {"models": ["org/a"], "base_model": "org/b", "merge_method": "task_arithmetic"}
    search = Search.from_dict({**models, "genome": genome, "task": {"examples": {"search": []}}})
    with pytest.raises(SearchError, match="side is of networks that draw"):
        ParameterGenome(search, ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"])
