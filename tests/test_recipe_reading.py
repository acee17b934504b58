"""mergekit's format as people write it: what is read, what is left out with a remark, what `strict` refuses."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from streamtools import weights
from test_stream_merge import Siblings

from hubmerge.errors import RecipeError, SearchError
from hubmerge.evolve.search import Search
from hubmerge.recipe import TEMPLATES, Conditional, Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

TWO = "models: [{model: org/a}, {model: org/b}]\n"


@pytest.mark.parametrize(
    ("written", "setting"),
    [
        ("1e-1", 0.1),
        ("'0.6'", 0.6),
        ("true", True),
        ("'off'", False),
        ("['1e-2', 1]", (0.01, 1)),
        ("{value: '.5'}", (Conditional(None, 0.5),)),
        ("{filter: mlp, value: [0, 1e-1]}", (Conditional("mlp", (0, 0.1)),)),
    ],
)
def test_numbers_as_people_write_them(written: str, setting: object) -> None:
    recipe = Recipe.from_yaml(f"merge_method: linear\n{TWO}parameters: {{weight: {written}}}")
    assert recipe.parameters["weight"] == setting
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize("written", ["'0,5'", "'1_0'", "much", "'inf'", "{a: 1}"])
def test_what_is_no_number(written: str) -> None:
    with pytest.raises(RecipeError, match="weight in parameters"):
        Recipe.from_yaml(f"merge_method: linear\n{TWO}parameters: {{weight: {written}}}")


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("{path: org/a}", "org/a"),
        ("{path: org/a, revision: v1}", "org/a@v1"),
        ("{model: {path: org/a, revision: v1}, lora: {path: org/l}}", "org/a@v1+org/l"),
        ("{model: org/a, lora: org/l@v2}", "org/a+org/l@v2"),
    ],
)
def test_models_as_mergekit_writes_them_out(written: str, model: str) -> None:
    recipe = Recipe.from_yaml(f"merge_method: ties\nbase_model: {written}\nmodels: [{{model: {written}}}]")
    assert str(recipe.base_model) == str(recipe.models[0].model) == model


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (f"name: mine\nmerge_method: linear\n{TWO}", None),
        (f"merge_method: linear\nout_path: ./x\n{TWO}", "'out_path' .* `--out`, on the page Publish, says"),
        (f"merge_method: linear\nrandom_seed: 1\n{TWO}", "'random_seed' .* `seed` under"),
        (f"merge_method: linear\ndtpe: float16\n{TWO}", "did you mean 'dtype'"),
        (f"merge_method: linear\nanything: &a {{x: 1}}\n{TWO}", "mergekit leaves it out, too"),
        ("merge_method: linear\nmodels: [{model: org/a, weight: 1.0, revision: v1}]", "`weight` beside `model: org/a`"),
        ("merge_method: linear\nmodels: [{model: org/a, revision: v1}]", "org/name@revision"),
        (
            "merge_method: passthrough\n"
            "slices: [{residual_weight: 1, sources: [{model: org/a, layer_range: ['3', 3.0], weight: 2}]}]",
            r"'residual_weight'.* has no layers.*`weight` beside|`weight` beside.* has no layers.*'residual_weight'",
        ),
    ],
)
def test_what_nothing_reads_is_told_and_strict_refuses_it(text: str, remark: str | None) -> None:
    recipe = Recipe.from_yaml(text)
    if remark is None:
        assert not recipe.remarks
        return
    told = " ".join(sorted(recipe.remarks, key=lambda one: "beside" in one))
    assert re.search(remark, told), told
    with pytest.raises(RecipeError):
        Recipe.from_yaml(text, strict=True)


def test_a_recipe_with_what_hubmerge_alone_has_is_read_strictly() -> None:
    with pytest.raises(RecipeError, match="Unknown key 'dtpe'"):
        Recipe.from_yaml(
            "stages: [{name: s, merge_method: linear, models: [{model: org/a}]}]\n"
            "merge_method: passthrough\nmodels: [{model: stage:s}]\ndtpe: float16"
        )


DOCUMENTS = """
merge_method: slerp
models: [{model: second}, {model: org/c}]
base_model: second
parameters: {t: 0.5}
tokenizer: {source: first}
---
name: second
merge_method: linear
models: [{model: first}, {model: org/b}]
---
name: first
merge_method: linear
models: [{model: org/a}, {model: org/b}]
---
"""


def test_documents_that_name_each_other_are_stages() -> None:
    recipe = Recipe.from_yaml(DOCUMENTS)
    assert [stage.name for stage in recipe.stages] == ["first", "second"]
    assert [str(ref) for ref in recipe.named] == ["stage:second", "org/c", "stage:first"]
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DOCUMENTS.replace("model: first", "model: org/x").replace("source: first", "source: base"), "2 of its docu"),
        (DOCUMENTS.replace("org/a", "second"), "in a circle"),
        (DOCUMENTS.replace("name: second", "name: first"), "the same `name`"),
    ],
)
def test_documents_that_are_no_one_merge(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe.from_yaml(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_files_as_editors_write_them(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path.write_bytes(f"{mark}merge_method: linear\r\n# \u304a\r\n{TWO}".encode(encoding))
    assert Recipe.from_yaml(str(path)) == Recipe.from_yaml(path)
    with pytest.raises(RecipeError, match="must be a mapping"):
        Recipe.from_text(str(path))


TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "R"},
]


ASKED = {
    "alpaca": "<s>S\n\n### Instruction:\nQ\n\n### Response:\nA</s>\n\n### Instruction:\nR\n\n### Response:\n",
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
    "exaone": "[|system|]S[|endofturn|]\n[|user|]Q\n[|assistant|]A[|endofturn|]\n[|user|]R\n[|assistant|]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] S\n\nQ [/INST] A</s>[INST] R [/INST]",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_named_templates(name: str) -> None:
    # As transformers renders them.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATES[name].text)
    asked = template.render(messages=TURNS, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
    assert asked == ASKED[name]


def test_a_named_template_ends_answers_with_its_own_token(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", seed=1)
    text = (model / "tokenizer.json").read_text()
    document = {"merge_method": "linear", "models": [{"model": str(model)}], "chat_template": "chatml"}
    plan = make_plan(Recipe.from_dict(document))
    assert any("which is no token here" in finding.message for finding in plan.warnings)
    (model / "tokenizer.json").write_text(text.replace('"w0"', '"<|im_end|>"'))
    plan = make_plan(Recipe.from_dict(document))
    files = plan.tokenizer.files()
    assert b"<|im_start|>" in files["chat_template.jinja"]
    number = plan.tokenizer.numbering.ids["<|im_end|>"]
    assert str(number).encode() in files["generation_config.json"]


def entries(siblings: Siblings, *names: str) -> list[dict]:
    return [{"model": str(siblings[name])} for name in names]


def told(document: dict) -> str:
    plan = make_plan(Recipe.from_dict(document))
    plan.require()
    return " ".join(finding.message for finding in plan.warnings)


def same(siblings: Siblings, first: dict, second: dict, tmp_path: Path) -> bool:
    made = []
    for number, document in enumerate((first, second)):
        merge(Recipe.from_dict(document), tmp_path / str(number))
        made.append(weights(tmp_path / str(number)))
    return all(torch.equal(made[0][name], made[1][name]) for name in made[0] | made[1])


def test_a_base_that_is_not_listed_is_merged_where_weights_are(siblings: Siblings, tmp_path: Path) -> None:
    base, shared = str(siblings["base"]), {"weight": 0.5}
    two = {"merge_method": "linear", "models": entries(siblings, "math", "japanese"), "parameters": shared}
    three = two | {"models": entries(siblings, "base", "math", "japanese")}
    assert "is merged too" in told(two | {"base_model": base})
    assert same(siblings, two | {"base_model": base}, three, tmp_path)
    # mergekit refuses it where each model has a weight of its own; here it gives configuration and tokenizer.
    own = [{**entry, "parameters": shared} for entry in two["models"]]
    assert "is merged too" not in told({"merge_method": "linear", "models": own, "base_model": base})


def test_an_arc_without_a_base_starts_at_the_first_model(siblings: Siblings, tmp_path: Path) -> None:
    document = {"merge_method": "slerp", "models": entries(siblings, "math", "base"), "parameters": {"t": 1.25}}
    assert "which is named first, is taken as it" in told(document)
    assert same(siblings, document, document | {"base_model": str(siblings["math"])}, tmp_path)


def test_a_base_alone_stays_as_it_is(siblings: Siblings, tmp_path: Path) -> None:
    alone = {"base_model": str(siblings["math"]), "models": entries(siblings, "math")}
    copied = {"merge_method": "passthrough", "models": entries(siblings, "math")}
    ties = {"merge_method": "ties", **alone, "parameters": {"weight": 1, "density": 0.5}}
    assert "the result is the model itself" in told(ties)
    assert same(siblings, ties, copied, tmp_path)
    with pytest.raises(RecipeError, match="at least 2"):
        told({"merge_method": "model_stock", **alone})


def test_a_slice_has_a_base_of_its_own_and_one_without_layers_gives_the_end(siblings: Siblings) -> None:
    def sources(first: int, last: int, *names: str) -> list[dict]:
        return [{**entry, "layer_range": [first, last]} for entry in entries(siblings, *names)]

    document = {
        "merge_method": "task_arithmetic",
        "parameters": {"weight": 1.0},
        "slices": [
            {"sources": sources(0, 2, "base", "math"), "base_model": str(siblings["base"])},
            {"sources": sources(2, 2, "math", "japanese"), "base_model": str(siblings["math"])},
        ],
    }
    plan = make_plan(Recipe.from_dict(document))
    plan.require()
    assert any("has no layers" in finding.message for finding in plan.warnings)
    assert plan.config["num_hidden_layers"] == 2
    index = {tensor.name: tensor.base[0] for tensor in plan.tensors if tensor.base}
    assert index["model.norm.weight"] == index["model.layers.1.mlp.up_proj.weight"] + 1
    assert Recipe.from_dict(plan.recipe.to_dict()) == plan.recipe


def test_switches_step_and_limits_are_told(siblings: Siblings) -> None:
    document = {
        "merge_method": "ties",
        "base_model": str(siblings["base"]),
        "models": entries(siblings, "math"),
        "parameters": {"weight": True, "density": 1.5, "normalize": [0, 1.0], "t": 0.5},
    }
    assert "1.5 is taken as 1.0" in told(document) and "ties has no parameter 't'" in told(document)
    values = {tensor.name: tensor for tensor in make_plan(Recipe.from_dict(document)).tensors}
    layers = [values[f"model.layers.{n}.mlp.up_proj.weight"] for n in range(3)]
    assert [one.shared["normalize"] for one in layers] == [False, False, True]
    assert layers[0].per_model == ({"weight": 1.0, "density": 1.0},)


def test_a_tokenizer_is_named_as_models_are() -> None:
    named = {"model": {"path": "org/chat", "revision": "v1"}}
    row = {"kind": "model_token", "model": {"path": "org/chat"}, "token": "a"}
    both = {"source": named, "tokens": {"<x>": {"source": {"path": "org/math"}}, "<y>": {"source": row}}}
    recipe = Recipe.from_dict(
        {"merge_method": "linear", "models": [{"model": "org/a"}, {"model": "org/b"}], "tokenizer": both}
    )
    assert [str(model) for model in recipe.output.models] == ["org/chat@v1", "org/math", "org/chat"]
    assert Recipe.from_yaml(str(recipe.to_yaml())) == recipe
    short = {"merge_method": "linear", "models": [{"model": "org/a"}], "tokenizer_source": named}
    assert Recipe.from_dict(short).output.tokenizer_source == "org/chat@v1"
    for wrong in ({"source": {"pth": "org/a"}}, {"source": "union", "tokens": {"<x>": {"source": {"path": 3}}}}):
        with pytest.raises(RecipeError, match="tokenizer"):
            Recipe.from_dict({**short, "tokenizer_source": None, "tokenizer": wrong})


def test_filters_that_leave_a_gap_in_the_weights_are_refused(siblings: Siblings) -> None:
    gap = {"weight": [{"filter": "mlp", "value": 0.3}], "density": [{"filter": "mlp", "value": 0.3}]}
    document = {"merge_method": "ties", "base_model": str(siblings["base"]), "models": entries(siblings, "math")}
    with pytest.raises(RecipeError, match="needs a value of weight for"):
        told(document | {"parameters": gap})
    told(document | {"parameters": {**gap, "weight": 1.0}})


def test_the_yaml_of_the_page_about_mergekit_is_planned(siblings: Siblings) -> None:
    page = (Path(__file__).parent.parent / "docs" / "mergekit.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    named = {"org/math": "math", "org/code": "japanese", "org/story": "base"}
    for block in blocks:
        for name, sibling in named.items():
            block = block.replace(name, str(siblings[sibling]))
        recipe = Recipe.from_yaml(block)
        make_plan(recipe).require()
        assert not recipe.remarks
    assert blocks


def test_models_may_be_plain_texts_as_in_a_search() -> None:
    short = {"merge_method": "linear", "models": ["org/a", "org/b+org/lora"], "parameters": {"weight": 0.5}}
    long = short | {"models": [{"model": "org/a"}, {"model": "org/b+org/lora"}]}
    assert Recipe.from_dict(short) == Recipe.from_dict(long)
    parts = {"merge_method": "linear", "modules": {"unet": {"models": ["org/a", "org/b"]}}}
    assert [str(one.model) for one in Recipe.from_dict(parts).modules[0].models] == ["org/a", "org/b"]
    with pytest.raises(RecipeError, match="needs `model: org/name`, got 42"):
        Recipe.from_dict(short | {"models": [42]})


def test_a_search_is_named_as_one() -> None:
    for key, value in (("genome", {}), ("data_flow", {}), ("searcher", {"name": "ga"})):
        with pytest.raises(RecipeError, match=r"^This is a search, not a recipe: run it with .*evolve FILE --out run"):
            Recipe.from_dict({"models": ["org/a"], "merge_method": "ties", "task": "gsm8k", key: value})


def test_a_recipe_is_named_as_one_where_a_search_is_asked_for() -> None:
    for recipe in ({"merge_method": "ties", "models": ["org/a"]}, {"slices": [{"sources": []}]}):
        with pytest.raises(
            SearchError, match=r"^This is a recipe, not a search: merge it with .*merge FILE --out merged"
        ):
            Search.from_dict(recipe)
    with pytest.raises(SearchError, match="needs `task`"):  # one that is not finished
        Search.from_dict({"merge_method": "ties", "models": ["org/a"], "genome": {}})


@pytest.mark.parametrize("unet", ["{models: [{model: alice/b}], parameters: {weight: 1}}", "alice/b"])
def test_parts_that_are_copied_are_no_merges_with_a_method(unet: str, tmp_path: Path) -> None:
    from hubmerge.cli.merging import _recipe_in

    text = f"merge_method: linear\nbase_model: alice/a\ncomponents: {{unet: {unet}, vae: alice/b}}\n"
    (tmp_path / "r.yaml").write_text(text)
    assert [one.name for one in _recipe_in(tmp_path / "r.yaml", False).modules] == ["unet", "vae"]
    (tmp_path / "r.yaml").write_text(text.replace("linear", "lienar"))
    with pytest.raises(RecipeError, match="did you mean linear"):
        _recipe_in(tmp_path / "r.yaml", False)
