"""A recipe by which nothing of its models goes into the result is told so, and one that means it is not."""

from typing import Any

import pytest
from streamtools import weights
from test_stream_merge import Siblings, recipe

from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan


def _recipe(siblings: Siblings, method: str, parameters: dict[str, Any], base: bool = True) -> Recipe:
    names = ["math"] if METHODS[method].max_models == 1 else ["math", "japanese"]
    document = {"merge_method": method, "models": [{"model": str(siblings[name])} for name in names]}
    return Recipe.from_dict(
        {**document, "parameters": parameters} | ({"base_model": str(siblings["base"])} if base else {})
    )


def _told(made: Recipe) -> str:
    plan = make_plan(made)
    plan.require()
    return "\n".join(finding.message for finding in plan.warnings)


@pytest.mark.parametrize(
    ("method", "parameters", "told"),
    [
        ("task_arithmetic", {"weight": 0}, "weight is 0 at all models, so the result is nothing but "),
        ("ties", {"weight": 0}, "weight is 0 at all models, so the result is nothing but "),
        ("ties", {"density": 0}, "density is 0 at all models, so the result is nothing but "),
        ("dare_ties", {"density": 0}, "density is 0 at all models, so the result is nothing but "),
        ("tsv_m", {"weight": 0}, "weight is 0 at all models, so the result is nothing but "),
        ("knots_ties", {"density": 0}, "density is 0 at all models, so the result is nothing but "),
        ("breadcrumbs", {"lambda": 0.0}, "lambda is 0, so the result is nothing but "),
        ("sce", {"select_topk": 0}, "select_topk is 0, so the result is nothing but "),
        ("slerp", {"t": 0}, "t is 0, so the result is nothing but "),
        ("nearswap", {"t": 0}, "t is 0, so the result is nothing but "),
        ("linear", {"weight": 0}, "weight is 0 at all models, so the result is zeros."),
        ("passthrough", {"scale": 0}, "scale is 0 at all models, so the result is zeros."),
        (
            "linear",
            {"weight": [{"filter": "mlp.up_proj", "value": 0}, {"value": 1}]},
            "weight is 0 at all models, so in the result model.layers.0.mlp.up_proj.weight, "
            "model.layers.1.mlp.up_proj.weight, model.layers.2.mlp.up_proj.weight are zeros.",
        ),
    ],
)
def test_what_zeros_leave_is_told_and_true(
    siblings: Siblings, tmp_path, method: str, parameters: dict[str, Any], told: str
) -> None:
    made = _recipe(siblings, method, parameters, METHODS[method].takes_base)
    assert told in _told(made)
    merge(made, tmp_path / "out")
    base = weights(siblings["base"])
    for name, tensor in weights(tmp_path / "out").items():
        if "zeros" not in told:
            assert tensor.equal(base[name]), name
        elif name in told or " the result is zeros" in told:
            assert not tensor.any(), name


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("ties", {"weight": [0, 1]}),
        ("ties", {"density": 0.01}),
        ("dare_linear", {"density": 1e-6}),
        ("task_arithmetic", {"weight": [{"filter": "self_attn", "value": 0}, {"value": 1}]}),
        ("passthrough", {"scale": [{"filter": "o_proj", "value": 0}, {"value": 1}]}),
        ("passthrough", {"scale": 0, "shift": 1}),
        ("slerp", {"t": [0, 1]}),
        ("nuslerp", {"weight": 0}),
    ],
)
def test_what_may_be_meant_is_not_told(siblings: Siblings, method: str, parameters: dict[str, Any]) -> None:
    assert "is 0" not in _told(_recipe(siblings, method, parameters, METHODS[method].base == "required"))


def test_a_base_that_gives_no_weight_is_told(siblings: Siblings) -> None:
    own = [{"model": str(siblings[name]), "parameters": {"weight": 0.5}} for name in ("math", "japanese")]
    document = {"merge_method": "linear", "base_model": str(siblings["base"]), "models": own}
    told = "gives configuration and tokenizer alone: linear merges the models that are listed"
    assert told in _told(Recipe.from_dict(document))
    pieces = [{"sources": [{**one, "layer_range": [0, 3]} for one in own]}]
    assert told in _told(
        Recipe.from_dict({key: document[key] for key in ("merge_method", "base_model")} | {"slices": pieces})
    )
    assert "alone" not in _told(Recipe.from_dict({**document, "models": [*own, {"model": str(siblings["base"])}]}))
    assert "alone" not in _told(recipe(siblings, "ties"))
