"""Recipes with `modules`: each part of models that see is merged by itself, and all else is carried byte for byte."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from streamtools import weights
from test_stream_component import plain, seeing, vlm  # noqa: F401 (fixtures)

from hubmerge.errors import Interrupted, PlanError, RecipeError
from hubmerge.hub.card import render
from hubmerge.publish import card_of
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from hubmerge.stream.verify import verify
from hubmerge.terminal import show_plan
from space.forms.recipe import fields
from space.views.draw import ribbons


@pytest.fixture(scope="module")
def other(plain, tmp_path_factory) -> Path:  # noqa: F811
    return seeing(tmp_path_factory.mktemp("other") / "other", plain["base"], 5)


def document(vlm: object, other: object, ja: object, **more: Any) -> dict[str, Any]:  # noqa: F811
    """The language model with a plain one, in TIES; the vision tower's layers in a gradient; the rest is carried."""
    return {
        "merge_method": "linear",
        "parameters": {"weight": 0.5},
        "modules": {
            "text_decoder": {
                "merge_method": "task_arithmetic",
                "base_model": str(vlm),
                "models": [{"model": str(other), "parameters": {"weight": 0.3}}, {"model": str(ja)}],
                "parameters": {"weight": 0.6},
            },
            "vision_tower": {
                "models": [
                    {"model": str(vlm)},
                    {"model": str(other), "parameters": {"weight": [{"filter": "mlp", "value": 1.5}]}},
                ],
            },
        },
        **more,
    }


def test_each_part_is_merged_as_it_would_be_alone(vlm, other, plain, tmp_path: Path) -> None:  # noqa: F811
    merge(Recipe.from_dict(document(vlm, other, plain["ja"])), tmp_path / "out")
    found, first, second, ja = (weights(folder) for folder in (tmp_path / "out", vlm, other, plain["ja"]))
    assert found.keys() == first.keys()
    kinds = set()
    for name, tensor in found.items():
        part = name.split(".")[0]
        if part == "language_model":
            plain_one = ja[name.removeprefix("language_model.")]
            expected = first[name] + 0.3 * (second[name] - first[name]) + 0.6 * (plain_one - first[name])
            assert torch.allclose(tensor, expected, atol=1e-6), name
        elif part == "vision_tower" and tensor.is_floating_point():
            own, theirs = (0.5, 1.5) if "mlp" in name else (0.5, 0.5)
            expected = (own * first[name] + theirs * second[name]) / (own + theirs)
            assert torch.allclose(tensor, expected, atol=1e-6), name
        else:
            assert torch.equal(tensor, first[name]), name
        kinds.add(part)
    assert kinds == {"language_model", "vision_tower", "multi_modal_projector"}


def test_it_is_planned_streamed_resumed_verified_and_has_a_card(vlm, other, plain, hub, tmp_path, capsys) -> None:  # noqa: F811
    from hubmerge.hub import push_folder

    names = [f"alice/modules-{name}" for name in ("vlm", "other", "ja")]
    for name, folder in zip(names, (vlm, other, plain["ja"]), strict=True):
        push_folder(folder, name, message="Upload", private=False)
    recipe = Recipe.from_dict(document(*names))
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    plan = make_plan(recipe, ranged=True, threads=3, shard_size=20_000)
    plan.require()
    assert Recipe.from_dict(plan.recipe.to_dict()) == plan.recipe and f"{names[0]}@" in plan.recipe.to_yaml()
    show_plan(plan)
    shown = " ".join(capsys.readouterr().out.split())
    assert "task_arithmetic (language_model), linear (vision_tower)" in shown and "carried as they are" in shown
    ranged = merge(plan, tmp_path / "ranged").tensors

    def stop(event) -> None:
        if event.stage == "merge" and event.done > 60_000:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        merge(make_plan(recipe, threads=1, shard_size=20_000), tmp_path / "whole", progress=stop)
    result = merge(make_plan(recipe, threads=2, shard_size=20_000), tmp_path / "whole")
    assert result.kept > 0 and result.tensors == ranged
    verify(ModelRef(str(tmp_path / "whole")), recompute=True).require()
    card = render(card_of(plan))
    assert "Only the language model and vision tower were merged; all else is that of [alice/modules-vlm" in card
    assert re.search(r"`task_arithmetic`\S*, then \S*`linear`", card) and "pipeline_tag: image-text-to-text\n" in card
    assert json.loads((tmp_path / "whole" / "config.json").read_text()) == json.loads((vlm / "config.json").read_text())


def test_the_layers_of_each_part_are_stacked(vlm, other, tmp_path: Path) -> None:  # noqa: F811
    from transformers import LlavaForConditionalGeneration

    def stack(*pieces: tuple[Path, list[int]]) -> dict[str, Any]:
        return {"slices": [{"sources": [{"model": str(name), "layer_range": layers}]} for name, layers in pieces]}

    modules = {
        "language_model": stack((vlm, [0, 2]), (other, [1, 3])),
        "vision_tower": stack((vlm, [0, 2]), (other, [1, 2])),
    }
    merge(Recipe.from_dict({"merge_method": "passthrough", "modules": modules}), tmp_path / "out")
    model, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.text_config.num_hidden_layers == 4
    assert model.config.vision_config.num_hidden_layers == 3


def test_modules_that_are_none(vlm, other, plain, tiny_llama, tmp_path: Path) -> None:  # noqa: F811
    good = document(vlm, other, plain["ja"])

    def refused(modules: dict[str, Any], says: str, error: type[Exception] = RecipeError) -> None:
        with pytest.raises(error, match=says):
            make_plan(Recipe.from_dict({**good, "modules": modules})).require()

    models = [{"model": str(vlm)}, {"model": str(other)}]
    refused({"vision_towel": {"models": models}}, "did you mean vision_tower")
    refused({"text_decodr": {"models": models}}, r"has the part text_decodr \(did you mean text_decoder\?\); their")
    refused({"": {"models": models}}, "A part under `modules` has no name")
    refused({"text_decoder": {}}, "In the module text_decoder: .*needs either `models` or `slices`")
    refused({"text_decoder": {"model": models}}, "needs either `models` or `slices`")
    refused({"text_decoder": {"models": models, "merge_method": "linea"}}, "linear")
    twice = {"text_decoder": {"models": models}, "language_model": {"models": models}}
    refused(twice, "merges the part language_model twice, as text_decoder and as language_model")
    with pytest.raises(RecipeError, match="and not both"):
        Recipe.from_dict({**good, "models": models})
    whole = {"merge_method": "linear", "models": [{"model": str(vlm)}, {"model": str(plain["ja"])}]}
    with pytest.raises(PlanError, match=r"for the language model inside .* write .*#language_model"):
        make_plan(Recipe.from_dict(whole)).require()
    narrow = tiny_llama(tmp_path / "narrow", hidden_size=32, tie_word_embeddings=False)
    refused({"text_decoder": {"models": [models[0], {"model": str(narrow)}]}}, "do not fit together", PlanError)
    small = tiny_llama(tmp_path / "small", intermediate_size=16, tie_word_embeddings=False)
    alone = {"text_decoder": {"models": [{"model": str(small)}]}, "vision_tower": {"models": models}}
    refused(alone, "do not fit together|has \\[", PlanError)


def test_the_page_shows_its_models() -> None:
    recipe = Recipe.from_dict(document("org/sees", "org/sees-too", "org/speaks", base_model="org/sees"))
    drawn = str(ribbons(recipe))
    assert (
        len(fields(recipe)) > 1 and all(name in drawn for name in ("sees-too", "speaks")) and drawn.count(">sees<") < 2
    )
