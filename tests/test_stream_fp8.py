"""Merging weights in FP8: the bytes that the same numbers give when they are stored in float32."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bintools import save_pickled
from hubtools import publish
from safetensors.torch import load_file, save_file
from streamtools import weights
from test_stream_merge import Siblings, recipe
from torch import Tensor

from hubmerge.errors import SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub import open_source
from hubmerge.hub.headers import TensorHeader
from hubmerge.hub.quantised.packed import Part
from hubmerge.hub.quantised.scaled import Scaled
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.unpacking.scaled import spread

BLOCK = (10, 12)  # of matrices with 16 or 32 rows and columns: the last blocks are smaller
FLOAT = {"weights": {"type": "float", "num_bits": 8}}
KINDS: dict[str, tuple[dict, str, Callable[[Tensor], Tensor]]] = {
    "blocks": (
        {"quant_method": "fp8", "weight_block_size": list(BLOCK), "fmt": "e4m3"},
        "weight_scale_inv",
        lambda one: torch.stack([torch.stack([p.abs().max() for p in row.split(12, 1)]) for row in one.split(10)]),
    ),
    "rows": ({"quant_method": "fbgemm_fp8"}, "weight_scale", lambda one: one.abs().amax(1, keepdim=True)),
    "rows in bfloat16": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": FLOAT}},
        "weight_scale",
        lambda one: one.abs().amax(1, keepdim=True).bfloat16(),
    ),
    "tensors": ({"quant_method": "modelopt", "quant_algo": "FP8"}, "weight_scale", lambda one: one.abs().max()),
}  # fmt: skip


def spread_out(scale: Tensor, like: Tensor) -> Tensor:
    """A factor for each element, as anybody would write it."""
    if scale.numel() in (1, like.shape[0]):
        return scale.float().expand(like.shape)
    return scale.repeat_interleave(BLOCK[0], 0)[: like.shape[0]].repeat_interleave(BLOCK[1], 1)[:, : like.shape[1]]


def quantised(folder: Path, kind: str, out: Path) -> tuple[Path, Path]:
    """A model in FP8, and one with the same numbers in float32."""
    config, ending, scaled = KINDS[kind]
    small, plain = (Path(shutil.copytree(folder, out / name)) for name in ("fp8", "float32"))
    stored: dict[str, Tensor] = {}
    numbers = weights(folder)
    for name, one in weights(folder).items():
        if not name.endswith("proj.weight"):
            stored[name] = one
            continue
        scale = scaled(one) / 448
        stored[name] = (one / spread_out(scale, one)).to(torch.float8_e4m3fn)
        stored[f"{name.removesuffix('weight')}{ending}"] = scale
        stored[f"{name.removesuffix('weight')}input_scale"] = torch.tensor(0.5)
        numbers[name] = stored[name].float() * spread_out(scale, one)
    save_file(stored, small / "model.safetensors", {"format": "pt"})
    save_file(numbers, plain / "model.safetensors", {"format": "pt"})
    document = json.loads((folder / "config.json").read_bytes()) | {"quantization_config": config}
    (small / "config.json").write_text(json.dumps(document))
    return small, plain


@pytest.mark.parametrize("kind", KINDS)
def test_same_bytes_as_from_float32(kind: str, siblings: Siblings, tmp_path: Path) -> None:
    small, plain = quantised(siblings["math"], kind, tmp_path)
    source = open_source(ModelRef.parse(str(small)))
    assert "quantization_config" not in source.config
    results = [merge(recipe({**siblings, "math": one}), tmp_path / f"out-{one.name}") for one in (small, plain)]
    assert results[0].tensors == results[1].tensors
    written = [json.loads((tmp_path / f"out-{one.name}" / "config.json").read_bytes()) for one in (small, plain)]
    assert written[0] == written[1]


def test_by_range_in_memory_and_to_chat_with(siblings: Siblings, hub, tmp_path: Path) -> None:
    small, plain = quantised(siblings["math"], "blocks", tmp_path)
    repo_id = "alice/in-fp8"
    publish(repo_id, {path.name: path.read_bytes() for path in small.iterdir()})
    hub.clear_log()
    plan = make_plan(recipe({**siblings, "math": repo_id}), ranged=True)
    [said] = [one.message for one in plan.warnings if "FP8" in one.message]
    assert said.startswith("alice/in-fp8 stores 21 of its tensors in FP8 (a factor for each 10 x 12)")
    # What scales activations is not fetched.
    stored = plan.sources[1].tensors.values()
    assert plan.fetch_bytes == sum(one.nbytes for one in stored if "input_scale" not in one.name)
    streamed = merge(plan, tmp_path / "streamed").tensors
    assert streamed == merge(recipe({**siblings, "math": plain}), tmp_path / "plain").tensors
    states = [ResidentModel(make_plan(recipe({**siblings, "math": one}))).model.state_dict() for one in (small, plain)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    models = [load_model(str(one), dtype="float32")[0].state_dict() for one in (small, plain)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


def test_a_stage_and_a_file_of_torch(siblings: Siblings, tmp_path: Path) -> None:
    small, plain = quantised(siblings["math"], "rows", tmp_path)
    stored = load_file(small / "model.safetensors")
    (small / "model.safetensors").unlink()
    name = "model.layers.0.mlp.up_proj.weight"
    save_pickled(small, stored | {name: stored[name].t().contiguous().t()})

    def staged(model: Path) -> Recipe:
        first = {"name": "first", "merge_method": "passthrough", "models": [{"model": str(model)}]}
        last = [{"model": "stage:first", "parameters": {"weight": 0.4, "density": 0.5}}]
        return recipe(siblings, stages=[first], models=last)

    results = [merge(staged(one), tmp_path / f"out-{one.name}").tensors for one in (small, plain)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model.layers.0.mlp.up_proj.weight_scale": None}, "as F8_E4M3 without a scale"),
        (
            {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(7)},
            r"its scale with \[7\], which do not fit together",
        ),
        (
            {"model.layers.0.mlp.up_proj.weight_scale": torch.ones(32, dtype=torch.int32)},
            r"with a scale in I32 \(read are F32, ",
        ),
        ({"model.layers.0.mlp.up_proj.weight_scale": torch.ones(32).double()}, r"with a scale in F64 \(read are F32, "),
    ],
)
def test_scales_that_do_not_fit(changes: dict[str, Tensor | None], reason: str, siblings, tmp_path: Path) -> None:
    small, _ = quantised(siblings["math"], "rows", tmp_path)
    state = load_file(small / "model.safetensors") | changes
    save_file({name: one for name, one in state.items() if one is not None}, small / "model.safetensors")
    with pytest.raises(SourceError, match=reason):
        open_source(ModelRef.parse(str(small)))


@pytest.mark.parametrize(
    ("factor", "numbers", "reason"),
    [
        (-0.5, 1.0, "has a scale of -0.5"),
        (0.0, 1.0, "has a scale of 0 for numbers that are not 0"),
        (0.0, 0.0, None),
    ],
)
def test_scales_that_no_program_writes(
    factor: float, numbers: float, reason: str | None, siblings, tmp_path: Path
) -> None:
    small, _ = quantised(siblings["math"], "rows", tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    state = load_file(small / "model.safetensors")
    state[name] = state[name].float().index_fill(0, torch.tensor(5), numbers).to(state[name].dtype)
    state[f"{name}_scale"].view(-1)[5] = factor
    save_file(state, small / "model.safetensors")
    alone = Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(small)}]})
    if reason is None:
        assert not load_file(merge(alone, tmp_path / "out").folder / "model.safetensors")[name][5].any()
    else:
        with pytest.raises(SourceError, match=f"{name} of .* {reason}; fetch the model again"):
            merge(alone, tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"quant_method": "fp8", "weight_block_size": "x"}, "should be two numbers, not x"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8"}, r"is quantised \(modelopt, W4A8\) in a way that"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"type": "int", "num_bits": 8}}}},
         r"is quantised \(compressed-tensors\)"),
        (KINDS["rows in bfloat16"][0] | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "is quantised"),
        ({"quant_method": "compressed-tensors", "config_groups": []}, r"is quantised \(compressed-tensors\)"),
        ("fp8", "is quantised"),
    ],
)  # fmt: skip
def test_other_ways_are_refused(config: object, reason: str, siblings, tmp_path: Path) -> None:
    small, _ = quantised(siblings["math"], "rows", tmp_path)
    document = json.loads((small / "config.json").read_bytes()) | {"quantization_config": config}
    (small / "config.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=reason):
        open_source(ModelRef.parse(str(small)))


def test_matrices_that_are_stacked() -> None:
    """As experts are, each with its own blocks; a part of it begins and ends within a row."""
    factors = torch.arange(2 * 3 * 2, dtype=torch.float32).reshape(2, 3, 2)
    part = Part(TensorHeader("a_scale", "F32", (2, 3, 2), "f", 0, 48))
    scale = Scaled((2, 5, 7), {"factors": part}, 1, (2, 4), 5)
    whole = factors.repeat_interleave(2, 1)[:, :5].repeat_interleave(4, 2)[:, :, :7].reshape(-1)
    for start, stop in ((0, 70), (3, 20), (33, 37), (34, 70), (69, 70)):
        assert torch.equal(spread(factors.reshape(-1), scale, 7, start, stop), whole[start:stop])
