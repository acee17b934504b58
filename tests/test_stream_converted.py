"""A checkpoint in one file, by its first authors' names, merged with a pipeline in folders: rows go where diffusers
puts them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from streamtools import weights
from torch import Tensor

from hubmerge.errors import HubmergeError
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify

diffusers = pytest.importorskip("diffusers")

from pipelines import original, save  # noqa: E402

_Z_IMAGE = (("all_final_layer.2-1.", "final_layer."), ("all_x_embedder.2-1.", "x_embedder."))
_Z_IMAGE += ((".attention.to_out.0.", ".attention.out."), (".norm_k.", ".k_norm."), (".norm_q.", ".q_norm."))


def z_image(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the first authors' names, with queries, keys and values in one tensor."""
    made = {}
    for name, tensor in state.items():
        if ".to_q." in name:
            parts = [state[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            made[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".to_k." not in name and ".to_v." not in name:
            for ours, theirs in _Z_IMAGE:
                name = name.replace(ours, theirs)
            made[name] = tensor
    return {f"model.diffusion_model.{name}": tensor.contiguous() for name, tensor in made.items()}


def sd15(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**{original(name): tensor for name, tensor in state.items()}, "cond_stage_model.logit_scale": torch.ones(1)}


KINDS = {"sd15": ("unet", sd15), "z_image": ("transformer", z_image)}


@pytest.fixture(params=KINDS)
def case(request, tmp_path: Path) -> tuple[str, Path, Path, Path]:
    """A part, two pipelines, and that part of the second in one file."""
    part, convert = KINDS[request.param]
    a, b = (save(request.param, tmp_path / name, seed) for seed, name in enumerate("ab", 1))
    save_file(convert(weights(b / part)), tmp_path / "one.safetensors")
    return part, a, b, tmp_path / "one.safetensors"


def recipe(method: str, part: str, a: Path, other: Path) -> Recipe:
    weight = [{"filter": "attention", "value": 0.8}, {"value": 0.3}]
    document: dict[str, Any] = {"merge_method": method, "base_model": str(a)}
    models = [{"model": str(other), "parameters": {"weight": weight}}]
    if method == "linear":
        models.insert(0, {"model": str(a), "parameters": {"weight": 0.5}})
    return Recipe.from_dict({**document, "components": {part: {"models": models}}})


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_both_layouts_in_one_merge(method: str, case: tuple[str, Path, Path, Path], tmp_path: Path) -> None:
    """To the bit what two pipelines in folders give, read from one file."""
    part, a, b, file = case
    plan = make_plan(recipe(method, part, a, file), memory=2 * 10**9)
    plan.require()
    merge(plan, tmp_path / "mixed")
    merge(recipe(method, part, a, b), tmp_path / "plain")
    found, expected = (weights(tmp_path / name / part) for name in ("mixed", "plain"))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
    diffusers.DiffusionPipeline.from_pretrained(tmp_path / "mixed")
    verify(ModelRef(str(tmp_path / "mixed")), recompute=True).require()


def test_what_diffusers_cannot_convert_is_refused(tmp_path: Path) -> None:
    a, b = (save("sd15", tmp_path / name, seed) for seed, name in enumerate("ab", 1))
    state = sd15(weights(b / "unet"))
    save_file(state, file := tmp_path / "one.safetensors")
    with pytest.raises(HubmergeError, match="diffusers converts none to those of a clip"):
        make_plan(recipe("linear", "text_encoder", a, file)).require()
    short = {name: tensor for name, tensor in state.items() if "middle_block.0.in_layers.2" not in name}
    save_file(short, file)
    with pytest.raises(HubmergeError, match="diffusers"):
        make_plan(recipe("linear", "unet", a, file)).require()
    other = {name: tensor[:4].contiguous() if tensor.ndim else tensor for name, tensor in state.items()}
    save_file(other, file)
    with pytest.raises(HubmergeError, match="elements there"):
        make_plan(recipe("linear", "unet", a, file)).require()
