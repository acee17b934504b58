"""Methods that need whole rows or whole tensors, in the stream: the same bytes however they are read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from streamtools import weights

from hubmerge.hub import push_folder
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

# Tensors of several blocks, whose rows end elsewhere than blocks do, and of fewer elements than one.
SIZES = {"hidden_size": 48, "intermediate_size": 11_000, "num_hidden_layers": 1}
METHODS_AND_MORE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("della", {"weight": 0.7, "density": 0.4}, {}),
    ("nuslerp", {"weight": 0.7}, {"nuslerp_flatten": False}),
    ("model_stock", {}, {"filter_wise": True}),
    ("tsv_m", {}, {}),
    ("sce", {}, {"select_topk": 0.3}),
]


@pytest.fixture(scope="module")
def models(tiny_llama, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("rows")
    base = tiny_llama(root / "base", seed=1, **SIZES)
    return {"base": base} | {n: tiny_llama(root / n, seed=s, sibling_of=base, **SIZES) for n, s in (("a", 2), ("b", 3))}


def recipe(method: str, own: dict[str, Any], shared: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    entries = [{"model": str(names[name]), "parameters": own} for name in ("a", "b")]
    return {"merge_method": method, "base_model": str(names["base"]), "models": entries, "parameters": shared}


@pytest.mark.parametrize(("method", "own", "shared"), METHODS_AND_MORE, ids=[row[0] for row in METHODS_AND_MORE])
def test_every_way_to_read_gives_the_same_bytes(models, hub, method: str, own, shared, tmp_path: Path) -> None:
    names = {name: f"alice/rows-{method}-{name}".replace("_", "-") for name in models}
    for name, folder in models.items():
        push_folder(folder, names[name], message="Upload", private=False)
    here, far = (Recipe.from_dict(recipe(method, own, shared, of)) for of in (models, names))
    ranged = merge(make_plan(far, ranged=True, threads=3, shard_size=500_000), tmp_path / "ranged").tensors
    assert merge(make_plan(here, threads=1), tmp_path / "whole").tensors == ranged


@pytest.mark.parametrize("first", [0, 3, 4], ids=lambda place: METHODS_AND_MORE[place][0])
@pytest.mark.parametrize("second", [1, 3, 4], ids=lambda place: METHODS_AND_MORE[place][0])
def test_a_stage_is_as_if_it_had_been_written(models, first: int, second: int, tmp_path: Path) -> None:
    """Stages that come in blocks, rows and whole tensors, read in each of these ways."""
    one = recipe(*METHODS_AND_MORE[first], models)
    merge(Recipe.from_dict(one), tmp_path / "one")
    written = merge(
        Recipe.from_dict(recipe(*METHODS_AND_MORE[second], {**models, "a": tmp_path / "one"})), tmp_path / "two"
    )
    staged = {"stages": [{"name": "one", **one}], **recipe(*METHODS_AND_MORE[second], {**models, "a": "stage:one"})}
    assert merge(Recipe.from_dict(staged), tmp_path / "staged").tensors == written.tensors


def test_a_plan_counts_the_whole_tensors_that_a_method_holds(models) -> None:
    needs = {
        method: make_plan(Recipe.from_dict(recipe(method, {}, {}, models)), threads=2).peak_memory
        for method in ("task_arithmetic", "della", "tsv_m")
    }
    assert needs["task_arithmetic"] < needs["della"] < needs["tsv_m"]
    (rows, columns), tensors = (4096, 4096), 4
    alone, each = METHODS["knots_ties"].held
    assert (
        METHODS["knots_ties"].memory((rows, columns), tensors) > (tensors + alone + each * tensors) * rows * columns * 4
    )
    alone, each = METHODS["iso_cts"].squares
    counted = [METHODS["iso_cts"].memory(shape, tensors) for shape in ((rows, columns), (100 * rows, columns))]
    assert counted[0] == counted[1] > alone * columns**2 * 8
    assert METHODS["iso_cts"].memory((rows, 2 * columns), tensors) > counted[0] + 2 * tensors * rows * columns * 4


def test_a_split_lies_at_its_share_of_the_whole_model(models, tmp_path: Path) -> None:
    document = {
        "merge_method": "split_slerp",
        "base_model": str(models["base"]),
        "models": [{"model": str(models["a"])}],
        "parameters": {"t": 0.0, "split": 0.4},
        "dtype": "float32",
    }
    plan = make_plan(Recipe.from_dict(document))
    merge(plan, tmp_path / "out")
    found, base, other = weights(tmp_path / "out"), weights(models["base"]), weights(models["a"])
    in_order = sorted(plan.tensors, key=lambda tensor: tensor.shared["begin"])
    flat = [torch.cat([of[tensor.name].float().flatten() for tensor in in_order]) for of in (found, base, other)]
    at = round(0.4 * plan.parameters)
    torch.testing.assert_close(flat[0], torch.cat([flat[1][:at], flat[2][at:]]))


def test_lines_is_a_gradient_of_lambda(models, tiny_llama, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", seed=1, num_hidden_layers=3)
    model = tiny_llama(tmp_path / "model", seed=2, sibling_of=base, num_hidden_layers=3)
    document = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(model)}],
        "parameters": {"lambda": [0.2, 1.0]},
        "dtype": "float32",
    }
    merge(Recipe.from_dict(document), tmp_path / "out")
    found, b, m = weights(tmp_path / "out"), weights(base), weights(model)
    for layer, scale in enumerate((0.2, 0.6, 1.0)):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        torch.testing.assert_close(found[name], b[name] + scale * (m[name] - b[name]))


def test_the_time_of_methods_over_whole_tensors_is_estimated_on_a_small_one(models) -> None:
    plans = [make_plan(Recipe.from_dict(recipe(method, {}, {}, models)), threads=1) for method in ("iso_c", "linear")]
    assert plans[0].compute_seconds > plans[1].compute_seconds > 0


def test_the_trial_is_of_models_that_have_learnt_something(models) -> None:
    many, none = (
        make_plan(Recipe.from_dict(recipe("wudi", {}, {"steps": steps}, models)), threads=1) for steps in (300, 0)
    )
    assert many.compute_seconds > 5 * none.compute_seconds
