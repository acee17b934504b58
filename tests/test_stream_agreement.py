"""What models must share beside shapes: settings, tokenizers, templates, endings, dtypes; each is told."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hubmerge import METHODS, HubmergeError, ModelRef, Recipe, make_plan, open_source
from hubmerge.stream.executor import merge

Build = Callable[..., Path]


def edit(file: Path, **changes: Any) -> None:
    """Changes a JSON file; None takes a key out."""
    document = {**json.loads(file.read_text()), **changes} if file.exists() else changes
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def linear(*models: Path, **more: Any) -> Recipe:
    entries = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    return Recipe.from_dict({"merge_method": "linear", "models": entries, **more})


def told(recipe: Recipe) -> str:
    return "\n".join(problem.message for problem in make_plan(recipe).warnings)


@pytest.fixture
def pair(tiny_llama: Build, tmp_path: Path) -> tuple[Path, Path]:
    return tiny_llama(tmp_path / "one", seed=1), tiny_llama(tmp_path / "two", seed=2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                 "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
            "rope_type is llama3 and default",
        ),
        ({"rope_parameters": None, "rope_theta": 10000.0}, ""),
        ({"rope_parameters": None}, ""),
        ({"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
         "factor is 2.0"),
        ({"sliding_window": 64}, "sliding_window is 64 and not given"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
        ({"some_new_multiplier": 3}, "some_new_multiplier is 3 and not given"),
        ({"attention_dropout": 0.5, "transformers_version": "4.1", "use_cache": False}, ""),
        ({"num_key_value_heads": None}, ""),
    ],
)  # fmt: skip
def test_each_setting_that_differs_is_told(changes: dict, said: str, pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "config.json", **changes)
    warned = told(linear(*pair))
    assert (said in warned) if said else " differ: " not in warned, warned


def test_a_setting_that_changes_what_positions_mean_is_refused(pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "config.json", hidden_act="relu")
    with pytest.raises(HubmergeError, match="hidden_act is relu and silu"):
        make_plan(linear(*pair)).require()


def test_a_hostile_setting_is_compared_as_it_stands(pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "config.json", num_labels=10**12, num_experts=10**15)
    assert "num_experts" in told(linear(*pair))


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(pair: tuple[Path, Path]) -> None:
    document = json.loads((pair[0] / "tokenizer.json").read_text())
    document["added_tokens"].append({**document["added_tokens"][0], "id": 64, "content": "<more>"})
    (pair[0] / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(HubmergeError, match="a token with the number 64, and the embedding of the result only 64 rows"):
        make_plan(linear(*pair)).require()
    make_plan(linear(*pair, tokenizer_source=str(pair[1]))).require()


def test_chat_templates(tiny_llama: Build, tmp_path: Path) -> None:
    base, *models = (tiny_llama(tmp_path / name, seed=1) for name in ("base", "one", "two", "three"))
    common = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    (base / "chat_template.jinja").unlink()
    for model in models[1:]:
        (model / "chat_template.jinja").write_text(common)
    recipe: dict[str, Any] = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(model), "parameters": {"weight": 1.0}} for model in models],
    }
    assert (
        told(Recipe.from_dict(recipe)).count(
            "was trained with a chat template that the result does not have (it has none)"
        )
        == 3
    )
    automatic = Recipe.from_dict({**recipe, "chat_template": "auto"})
    assert "chat template" not in told(automatic)
    merge(make_plan(automatic), tmp_path / "out")
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == common
    # The tokenizer's own is not written into the recipe again.
    own = make_plan(linear(*models, chat_template="auto", tokenizer_source=str(models[1])))
    assert own.recipe.output.chat_template is None


def test_other_endings_are_told(pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "generation_config.json", eos_token_id=[2, 7], temperature=0.6)
    edit(pair[0] / "generation_config.json", temperature=0.7)
    warned = told(linear(*pair))
    assert "eos_token_id is [2, 7] and 2" in warned
    assert "temperature is 0.6 and 0.7" in warned


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "bfloat16"), torch.float32),
        (("float16", "bfloat16"), torch.float32),
        (("bfloat16", "bfloat16"), torch.bfloat16),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_the_order_of_models_does_not_change_the_precision(
    dtypes: tuple[str, str], expected: torch.dtype, stacked: bool, tiny_llama: Build, tmp_path: Path
) -> None:
    models = [tiny_llama(tmp_path / str(n), seed=n, dtype=dtype) for n, dtype in enumerate(dtypes)]
    for number, order in enumerate(itertools.permutations(models)):
        recipe = linear(*order)
        if stacked:
            slices = [{"sources": [{"model": str(model), "layer_range": [0, 2]}]} for model in order]
            recipe = Recipe.from_dict({"merge_method": "passthrough", "slices": slices})
        merge(make_plan(recipe), tmp_path / f"out{number}")
        assert {t.dtype for t in load_file(tmp_path / f"out{number}" / "model.safetensors").values()} == {expected}
        config = json.loads((tmp_path / f"out{number}" / "config.json").read_text())
        assert config["dtype"] == str(expected).removeprefix("torch.")


def test_every_method_with_every_kind_of_models_plans_or_says_why(siblings: dict[str, Path], thorough: bool) -> None:
    base, math, japanese = (str(siblings[name]) for name in ("base", "math", "japanese"))
    chosen = ([base], [math], [base, math], [math, japanese], [base, math, japanese], [math, math], [base, base])
    opened = {ref: open_source(ref) for ref in map(ModelRef.parse, (base, math, japanese))}
    outcomes = set()
    for number, (method, of_base, models, kind) in enumerate(
        itertools.product(METHODS, (None, base, japanese), chosen, range(3))
    ):
        if number % 4 and not thorough:  # every fourth has every pair of settings
            continue
        document: dict[str, Any] = {
            "merge_method": method,
            "parameters": {p.name: 0.5 for p in METHODS[method].parameters if p.default is None},
        }
        if of_base:
            document["base_model"] = of_base
        starts = [[0] * len(models)], [[0] * len(models), [number % 2 for number in range(len(models))]]
        if kind == 0:
            document["models"] = [{"model": model} for model in models]
        else:
            document["slices"] = [
                {"sources": [{"model": m, "layer_range": [at, at + 2]} for m, at in zip(models, piece, strict=True)]}
                for piece in starts[kind - 1]
            ]
        plan = make_plan(Recipe.from_dict(document), sources=opened)
        assert plan.errors or plan.tensors, document
        assert plan.compute_seconds >= 0 if method == "linear" else True
        outcomes.add(bool(plan.errors))
    assert outcomes == {True, False}
