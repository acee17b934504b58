"""What headers alone tell: every problem by name, parameters by tensor, layers by slice, shards and sizes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from streamtools import rewrite, weights
from test_stream_merge import Siblings, load, recipe

from hubmerge import layers
from hubmerge.errors import PlanError, RecipeError
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.stream.compute import merge_tensor
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import Plan, make_plan
from hubmerge.stream.tensors import TensorPlan
from hubmerge.terminal import show_plan

Build = Callable[..., Path]


def linear(*models: Path, **changes: object) -> Recipe:
    entries = [{"model": str(model)} for model in models]
    return Recipe.from_dict({"merge_method": "linear", "models": entries, **changes})


def stack(*slices: list[tuple[Path, int, int]], method: str = "passthrough", **changes: object) -> Recipe:
    pieces = [{"sources": [{"model": str(m), "layer_range": [a, b]} for m, a, b in piece]} for piece in slices]
    return Recipe.from_dict({"merge_method": method, "slices": pieces, **changes})


def errors(recipe: Recipe) -> list[str]:
    return [problem.message for problem in make_plan(recipe).errors]


def warnings(recipe: Recipe) -> str:
    return "\n".join(problem.message for problem in make_plan(recipe).warnings)


def by_name(plan: Plan) -> dict[str, TensorPlan]:
    return {tensor.name: tensor for tensor in plan.tensors}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"hidden_size": 32},
            r"other and .*base do not fit together: hidden_size is 32 and 16, head_dim is 16",
        ),
        ({"num_attention_heads": 4, "head_dim": 8}, r"num_attention_heads is 4 and 2"),
        ({"vocab_size": 70}, r"vocabularies of .*other and .*base differ in size \(.* is \[70, 16\], not \[64, 16\]\)"),
        ({"num_hidden_layers": 2}, r"other has 2 layers and .*base has 3 .*can only be stacked, with `slices`"),
        ({"attention_bias": True}, r"attention_bias is True and False"),
    ],
)
def test_models_that_do_not_fit(overrides: dict, message: str, tiny_llama: Build, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", seed=1)
    other = tiny_llama(tmp_path / "other", seed=2, **overrides)
    with pytest.raises(PlanError, match=message):
        merge(linear(base, other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shapes_that_no_setting_tells(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    rewrite(other, {"model.layers.2.mlp.up_proj.weight": torch.zeros(31, 16)})
    (message,) = errors(linear(base, other))
    assert "one tensor differs in shape (model.layers.2.mlp.up_proj.weight is [31, 16], not [32, 16])" in message


def test_another_architecture_is_one_sentence(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    config = json.loads((other / "config.json").read_text()) | {"model_type": "qwen3", "hidden_size": 99}
    (other / "config.json").write_text(json.dumps(config))
    (message,) = errors(linear(base, other))
    assert "other is a qwen3 model and" in message


def test_missing_tensors_and_numbers_of_another_kind(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    rewrite(other, {"model.norm.weight": None, "model.layers.0.mlp.up_proj.weight": torch.zeros(32, 16).int()})
    found = errors(linear(base, other))
    assert len(found) == 2, "both are found at once"
    assert "other lacks tensors of" in found[0]
    rewrite(base, {"model.norm.weight": None, "model.extra.weight": torch.zeros(2)})
    assert "other lacks tensors of" in errors(linear(base, other))[0]
    assert "base has tensors that are not in" in " ".join(errors(linear(other, base)))
    assert "model.norm.weight" in found[0]
    assert "store model.layers.0.mlp.up_proj.weight as different kinds of number" in found[1]


def test_buffers_are_left_out(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    rewrite(other, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    plan = make_plan(linear(base, other))
    assert plan.errors == ()
    assert "inv_freq: not weights" in warnings(linear(base, other))
    assert not any("inv_freq" in tensor.name for tensor in plan.tensors)


def test_settings_that_differ_without_forbidding(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    config = json.loads((other / "config.json").read_text())
    config |= {"rope_theta": 500.0, "auto_map": {"AutoModel": "code.Model"}}
    config.pop("rope_parameters", None)
    (other / "config.json").write_text(json.dumps(config))
    plan = make_plan(linear(other, base))
    assert plan.errors == ()
    told = warnings(linear(other, base))
    assert "rope_theta is 10000.0 and 500.0" in told
    assert "code of its own (auto_map)" in told
    assert "auto_map" not in plan.config
    assert plan.config["rope_theta"] == 500.0


def test_other_token_ids_are_counted(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    text = (other / "tokenizer.json").read_text()
    assert "tokenizers of" not in warnings(linear(base, other))
    (other / "tokenizer.json").write_text(json.dumps(json.loads(text)))
    assert "tokenizers of" not in warnings(linear(base, other)), "another layout of the same tokenizer"
    (other / "tokenizer.json").write_text(text.replace('"w0"', '"w_"'))
    assert "give 2 tokens different ids" in warnings(linear(base, other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merge_method": "tise"}, r"no merge_method 'tise': did you mean ties\?"),
        (
            {"parameters": {"wieght": 1}},
            r"ties has no parameter 'wieght' \(in `parameters`\); it takes: .* \(did you mean weight\?\)\.",
        ),
        ({"parameters": {"density": 1.5}}, r"density must be 0.0 to 1.0, got 1.5 \(in `parameters`\)"),
        ({"parameters": {"density": [{"filter": "mlp", "value": 2}]}}, r"density must be 0.0 to 1.0, got 2"),
        ({"parameters": {"normalize": 0.5}}, r"normalize must be true or false, got 0.5"),
        ({"parameters": {"residual": 1}, "merge_method": "slerp"}, r"slerp has no parameter 'residual'"),
        ({"base_model": None}, r"ties needs a `base_model`"),
        ({"chat_template": "chatlm"}, r"chat_template must be a Jinja template, .*\(did you mean chatml\?\)"),
        ({"merge_method": "slerp"}, r"slerp merges at most 1 model\(s\) beside the base_model, got 2"),
    ],
)
def test_recipes_that_cannot_be_followed(changes: dict, message: str, siblings: Siblings) -> None:
    entries = [{"model": str(siblings["math"])}, {"model": str(siblings["japanese"])}]
    made = recipe(siblings, changes.pop("merge_method", "ties"), **{"models": entries, **changes})
    with pytest.raises(RecipeError, match=message):
        make_plan(replace(made, forgiving=False)).require()


def test_a_shared_parameter_at_a_model_and_one_that_is_not_given(siblings: Siblings) -> None:
    entries = [{"model": str(siblings["math"]), "parameters": {"t": 0.5}}]
    made = recipe(siblings, "slerp", models=entries)
    assert "t of slerp is one value for all models" in warnings(made)
    found = errors(replace(made, forgiving=False))
    assert "t of slerp is one value for all models" in found[0]
    assert "slerp needs a value of t for model.embed_tokens.weight and 28 more" in found[1]
    partly = {"t": [{"filter": "mlp", "value": 0.5}]}
    (message,) = errors(recipe(siblings, "slerp", models=[{"model": str(siblings["math"])}], parameters=partly))
    assert "with no filter for all the rest" in message


def test_parameters_of_other_tools_are_told(siblings: Siblings) -> None:
    assert "int8_mask is not used" in warnings(recipe(siblings, parameters={"int8_mask": True}))


def test_parameters_near_the_model_win_and_gradients_follow_depth(siblings: Siblings) -> None:
    entries = [
        {"model": str(siblings["math"]), "parameters": {"weight": [{"filter": "mlp", "value": 3}]}},
        {"model": str(siblings["japanese"]), "parameters": {"density": [0.2, 0.4]}},
    ]
    plan = make_plan(recipe(siblings, models=entries, parameters={"weight": [0, 1], "lambda": 0.5}))
    tensors = by_name(plan)
    layer = tensors["model.layers.1.mlp.up_proj.weight"]
    assert [dict(values) for values in layer.per_model] == [
        {"weight": 3, "density": 1.0},
        {"weight": 0.5, "density": pytest.approx(0.3)},
    ]
    assert layer.shared == {"normalize": True, "rescale": False, "lambda": 0.5}
    weight = {name: tensor.per_model[0]["weight"] for name, tensor in tensors.items()}
    assert weight["model.embed_tokens.weight"] == weight["model.layers.0.input_layernorm.weight"] == 0
    assert weight["model.layers.1.self_attn.q_proj.weight"] == 0.5
    assert weight["model.layers.2.input_layernorm.weight"] == 1
    assert weight["model.norm.weight"] == 0, "outside the layers a gradient counts as at its start"


def test_the_base_is_not_merged_with_itself(siblings: Siblings) -> None:
    entries = [{"model": str(siblings[n]), "parameters": {"weight": 0.5}} for n in ("base", "math", "japanese")]
    plan = make_plan(recipe(siblings, models=entries))
    assert {tensor.inputs for tensor in plan.tensors} == {
        ((1, tensor.name), (2, tensor.name)) for tensor in plan.tensors
    }
    assert all(tensor.base == (0, tensor.name) for tensor in plan.tensors)
    assert any("are not used: in ties it is the base" in problem.message for problem in plan.warnings)
    average = make_plan(recipe(siblings, "linear", models=entries))
    assert all(len(tensor.inputs) == 3 and tensor.base is None for tensor in average.tensors)


def test_a_base_that_linear_does_not_read_is_not_fetched(siblings: Siblings) -> None:
    plan = make_plan(recipe(siblings, "linear", models=[{"model": str(siblings["math"])}]))
    assert {index for tensor in plan.tensors for index, _ in tensor.reads} == {1}


def test_sizes_and_shards(siblings: Siblings) -> None:
    plan = make_plan(recipe(siblings), shard_size=9000)
    state = weights(siblings["base"])
    assert plan.parameters == sum(tensor.numel() for tensor in state.values())
    assert plan.output_bytes == sum(tensor.nbytes for tensor in state.values()) == sum(s.nbytes for s in plan.shards)
    assert plan.fetch_bytes == 0
    assert 40e6 < plan.peak_memory < 200e6
    assert [shard.file for shard in plan.shards] == [f"model-0000{n}-of-00005.safetensors" for n in range(1, 6)]
    names = [name for shard in plan.shards for name in shard.names]
    assert sorted(names) == sorted(state)
    assert make_plan(recipe(siblings), shard_size=9000).key == plan.key != make_plan(recipe(siblings)).key


def test_each_source_shard_is_read_front_to_back(tiny_llama: Build, tmp_path: Path) -> None:
    deep = tiny_llama(tmp_path / "deep", num_hidden_layers=11, hidden_size=8, intermediate_size=8)
    plan = make_plan(linear(deep))
    (source,) = plan.sources
    starts = [source.tensors[tensor.name].start for tensor in plan.tensors]
    assert starts == sorted(starts)
    stacked = [layers.parse(t.name).layer for t in make_plan(stack([(deep, 0, 11)])).tensors]
    assert [layer for layer in stacked if layer is not None] == sorted(layer for layer in stacked if layer is not None)


@pytest.mark.parametrize("tied", [True, False])
def test_a_stack_of_two_models_loads_and_runs(tied: bool, tiny_llama: Build, tmp_path: Path) -> None:
    first = tiny_llama(tmp_path / "first", seed=1, tie_word_embeddings=tied)
    second = tiny_llama(tmp_path / "second", seed=2, tie_word_embeddings=tied)
    result = merge(stack([(first, 0, 2)], [(second, 1, 3)], [(first, 0, 1)]), tmp_path / "out", shard_size=9000)
    ours, a, b = weights(tmp_path / "out"), weights(first), weights(second)
    assert result.plan.config["num_hidden_layers"] == 5
    for layer, (model, index) in enumerate([(a, 0), (a, 1), (b, 1), (b, 2), (a, 0)]):
        for name in ("mlp.up_proj.weight", "self_attn.q_proj.weight", "input_layernorm.weight"):
            assert torch.equal(ours[f"model.layers.{layer}.{name}"], model[f"model.layers.{index}.{name}"])
    assert torch.equal(ours["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    assert len(ours) == 5 * 9 + 2 + (not tied)
    model = load(tmp_path / "out")
    output = model.generate(torch.tensor([[1, 5, 6]]), max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert output.shape == (1, 7)


def test_ends_come_from_the_first_and_the_last_slice(tiny_llama: Build, tmp_path: Path) -> None:
    first = tiny_llama(tmp_path / "first", seed=1, tie_word_embeddings=False)
    second = tiny_llama(tmp_path / "second", seed=2, tie_word_embeddings=False)
    rewrite(second, {"model.norm.weight": torch.full((16,), 2.0)})
    tensors = by_name(make_plan(stack([(first, 0, 1)], [(second, 0, 1)])))
    assert tensors["model.embed_tokens.weight"].inputs == ((0, "model.embed_tokens.weight"),)
    assert tensors["model.norm.weight"].inputs == ((1, "model.norm.weight"),)
    assert tensors["lm_head.weight"].inputs == ((1, "lm_head.weight"),)


def test_slices_are_merged_with_the_base_at_their_layers(siblings: Siblings) -> None:
    base, math, japanese = siblings["base"], siblings["math"], siblings["japanese"]
    changes = {"method": "ties", "base_model": str(base), "parameters": {"weight": [0, 1]}}
    plan = make_plan(stack([(math, 1, 3), (japanese, 1, 3)], [(math, 2, 3)], **changes))
    plan.require()
    tensor = by_name(plan)["model.layers.0.mlp.up_proj.weight"]
    assert tensor.base == (0, "model.layers.1.mlp.up_proj.weight")
    assert tensor.inputs == ((1, "model.layers.1.mlp.up_proj.weight"), (2, "model.layers.1.mlp.up_proj.weight"))
    weight = [by_name(plan)[f"model.layers.{n}.mlp.up_proj.weight"].per_model[0]["weight"] for n in range(3)]
    assert weight == [0, 1, 1], "depth runs within a slice"
    (message,) = errors(stack([(math, 1, 3), (japanese, 0, 2)], **changes))
    assert "Slice 1 merges different layer ranges; list" in message
    listed = make_plan(stack([(base, 0, 2), (math, 1, 3), (japanese, 0, 2)], **changes))
    tensor = by_name(listed)["model.layers.1.mlp.up_proj.weight"]
    assert tensor.base == (0, "model.layers.1.mlp.up_proj.weight")
    assert tensor.inputs == ((1, "model.layers.2.mlp.up_proj.weight"), (2, "model.layers.1.mlp.up_proj.weight"))


def test_slices_that_cannot_be(siblings: Siblings, tiny_llama: Build, tmp_path: Path) -> None:
    math = siblings["math"]
    (message,) = errors(stack([(math, 0, 4)]))
    assert "layer_range [0, 4] in slice 1 ends beyond the 3 layers of" in message
    (message,) = errors(stack([(math, 0, 1), (siblings["japanese"], 0, 1)]))
    assert "passthrough merges at most 1 model(s), got 2 in slice 1" in message
    wide = tiny_llama(tmp_path / "wide", hidden_size=32)
    (message,) = errors(stack([(math, 0, 1)], [(wide, 0, 1)]))
    assert "hidden_size is 32 and 16" in message
    long = tiny_llama(tmp_path / "long", vocab_size=80, tie_word_embeddings=False)
    (message,) = errors(stack([(math, 0, 1)], [(long, 0, 1)]))
    assert "differ in vocabulary: rows of model.embed_tokens.weight are 64 in" in message and "and 80 in" in message


def test_settings_layer_by_layer_follow_the_slices(siblings: Siblings, tmp_path: Path) -> None:
    models = []
    for name, kinds in (("math", ["a", "b", "c"]), ("japanese", ["d", "e", "f"])):
        folder = shutil.copytree(siblings[name], tmp_path / name)
        config = json.loads((folder / "config.json").read_text()) | {"layer_types": kinds}
        (folder / "config.json").write_text(json.dumps(config))
        models.append(folder)
    plan = make_plan(stack([(models[0], 0, 2)], [(models[1], 1, 3)]))
    assert plan.config["layer_types"] == ["a", "b", "e", "f"]


def test_a_tensor_is_computed_alike_on_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    base, other = (torch.randn(1500, 1001, generator=generator) for _ in range(2))
    values = {"normalize": False, "rescale": True, "lambda": 1.0, "seed": 0, "t": 0.3}
    plan = TensorPlan("w", (1500, 1001), "F32", ((1, "w"),), (0, "w"), ({"weight": 1.0, "density": 0.5},), values)

    def read(index: int, _: str, start: int, stop: int) -> torch.Tensor:
        return (base, other)[index].view(-1)[start:stop]

    threads = torch.get_num_threads()
    try:
        for method in ("slerp", "dare_ties"):
            results = []
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(merge_tensor(METHODS[method], plan, read))
                assert torch.get_num_threads() == count
            assert torch.equal(results[0], results[1])
            assert torch.equal(results[0], results[2])
    finally:
        torch.set_num_threads(threads)


def test_what_all_models_store_narrowly_stays_narrow(tiny_llama: Build, tmp_path: Path) -> None:
    base, other = tiny_llama(tmp_path / "base", seed=1), tiny_llama(tmp_path / "other", seed=2)
    name = "model.layers.1.mlp.up_proj.weight"
    for folder, half in ((base, True), (other, False)):
        found = weights(folder)
        rewrite(folder, {one: tensor.half() for one, tensor in found.items() if half or one == name})
    dtypes = {tensor.name: tensor.dtype for tensor in make_plan(linear(base, other)).tensors}
    assert dtypes.pop(name) == "F16" and set(dtypes.values()) == {"F32"}
    copied = {"merge_method": "passthrough", "slices": []}
    for folder, layers_of in ((base, [0, 1]), (other, [1, 2])):
        copied["slices"].append({"sources": [{"model": str(folder), "layer_range": layers_of}]})
    assert {tensor.dtype for tensor in make_plan(Recipe.from_dict(copied)).tensors} == {"F32"}


@pytest.mark.parametrize("value", [1e81, -1e300])
def test_a_plan_of_impossible_numbers_is_shown_and_refused(siblings, capsys, value: object) -> None:
    models = [{"model": str(siblings[name]), "parameters": {"weight": value}} for name in ("math", "japanese")]
    plan = make_plan(recipe(siblings, "breadcrumbs_ties", models=models))
    show_plan(plan)
    shown = capsys.readouterr().out
    assert "breadcrumbs_ties ->" in shown
    assert "weight must be" not in shown and "no problems found" not in shown, "what refuses it says why, once"
    with pytest.raises(RecipeError, match="weight must be a number"):
        plan.require()


def test_a_plan_and_its_recipe_are_read_at_a_glance(siblings: dict[str, Path]) -> None:
    recipe = Recipe.from_dict(
        {"merge_method": "linear", "models": [{"model": str(siblings[name])} for name in ("math", "japanese")]}
    )
    plan = make_plan(recipe)
    lines = repr(plan).splitlines()
    assert lines[0] == "Plan: linear"
    assert lines[1].split() == ["models", f"{siblings['math']},", str(siblings["japanese"])]
    assert len(lines) < 10
    assert plan._repr_html_().count("<tr>") == len(lines) - 1
    assert Recipe.from_yaml(repr(recipe).removeprefix("Recipe:\n")) == recipe


def test_threads_fit_what_is_free_and_a_warning_names_the_way_out(siblings, monkeypatch) -> None:
    from hubmerge.stream import budget
    from hubmerge.stream import plan as planning

    monkeypatch.setattr(budget, "free_memory", lambda: 1)
    monkeypatch.setattr(planning, "cores", lambda: 2)
    text = f"merge_method: linear\nmodels: [{{model: {siblings['base']}}}, {{model: {siblings['math']}}}]\n"
    recipe = Recipe.from_yaml(text + "parameters: {weight: 1}\n")
    assert make_plan(recipe).threads == 1
    asked = make_plan(recipe, threads=2)
    assert asked.threads == 2
    assert any("fewer threads take less (--threads 1" in found.message for found in asked.warnings)


def test_a_filter_that_fits_no_tensor_is_told(siblings: Siblings) -> None:
    by_name = [{"filter": "self_atn", "value": 0.3}, {"filter": "mlp", "value": 0.5}, {"value": 1.0}]
    models = [{"model": str(siblings["math"]), "parameters": {"weight": by_name}}, {"model": str(siblings["base"])}]
    found = make_plan(Recipe.from_dict({"merge_method": "linear", "models": models})).warnings
    told = [finding.message for finding in found if "in its name" in finding.message]
    assert told == [
        "No tensor has 'self_atn' in its name, so the value of weight for it is not used (did you mean self_attn?)."
    ]


def test_a_misspelt_word_for_a_tokenizer_is_no_model(siblings: Siblings) -> None:
    models = [{"model": str(siblings["math"])}]
    for word, meant in (("unoin", "union"), ("bas", "base"), ("shortes", "shortest")):
        with pytest.raises(RecipeError, match=f"did you mean {meant}"):
            Recipe.from_dict({"merge_method": "linear", "models": models, "tokenizer_source": word})


def test_a_model_that_is_not_whole_is_told(siblings: Siblings, tmp_path: Path) -> None:
    def told(folder: Path) -> list[str]:
        document = {"merge_method": "passthrough", "models": [{"model": str(folder)}]}
        return [finding.message for finding in make_plan(Recipe.from_dict(document)).findings]

    assert not [message for message in told(siblings["base"]) if "lacks" in message or "whole" in message]
    hole = shutil.copytree(siblings["base"], tmp_path / "hole")
    rewrite(hole, {"model.layers.1.mlp.down_proj.weight": None})
    assert any("lacks model.layers.1.mlp.down_proj.weight: most layers have it" in message for message in told(hole))
    short = shutil.copytree(siblings["base"], tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 9}))
    assert any("stores 3 layers and tells of 9" in message for message in told(short))
    wrapped = shutil.copytree(siblings["base"], tmp_path / "wrapped")
    state = weights(wrapped)
    rewrite(wrapped, dict.fromkeys(state) | {f"module.{name}": tensor for name, tensor in state.items()})
    assert any("begin with 'module.'" in message for message in told(wrapped))
