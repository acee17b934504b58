"""Recipes: the YAML round trip, mergekit's keys, and one clear sentence for each mistake."""

import pytest

from hubmerge.errors import RecipeError
from hubmerge.recipe import Conditional, Recipe, value_at
from hubmerge.reference import ModelRef

FULL = """
merge_method: ties
base_model: org/base@v1
models:
  - model: org/math@refs/pr/2
    parameters:
      weight: [0.0, 0.5, 1.0]
      density:
        - {filter: mlp, value: 0.3}
        - {filter: self_attn, value: [0.1, 0.9]}
        - {value: 0.5}
  - {model: org/japanese, parameters: {weight: 1, density: 0.4}}
parameters: {normalize: false, lambda: 1.1}
dtype: float32
out_dtype: bfloat16
tokenizer_source: base
"""
SLICES = """
merge_method: passthrough
slices:
  - sources: [{model: org/a, layer_range: [0, 4]}]
  - sources: [{model: org/b, layer_range: [2, 6], parameters: {scale: 0.5}}]
"""


@pytest.mark.parametrize("text", [FULL, SLICES])
def test_yaml_round_trip(text: str) -> None:
    recipe = Recipe.from_yaml(text)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_references_are_unique_and_start_with_the_base() -> None:
    recipe = Recipe.from_yaml(FULL)
    assert [str(ref) for ref in recipe.references] == ["org/base@v1", "org/math@refs/pr/2", "org/japanese"]


def test_pins_replace_revisions_everywhere() -> None:
    recipe = Recipe.from_yaml(SLICES)
    pins = {ref: ref.pinned(str(n) * 40) for n, ref in enumerate(recipe.references, start=1)}
    pinned = recipe.with_pins(pins)
    assert [str(ref) for ref in pinned.references] == ["org/a@" + "1" * 40, "org/b@" + "2" * 40]
    assert pinned.slices[1].sources[0].layer_range == (2, 6)


@pytest.mark.parametrize(
    ("depth", "expected"), [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.75), (1.0, 1.0), (7.0, 1.0)]
)
def test_gradient_is_linear_over_depth(depth: float, expected: float) -> None:
    assert value_at((0.0, 0.5, 1.0), "x", depth) == pytest.approx(expected)


def test_first_fitting_conditional_wins() -> None:
    setting = (Conditional("mlp", 0.3), Conditional("layers.3", (0.0, 1.0)), Conditional(None, 0.5))
    assert value_at(setting, "layers.3.mlp.up", 0.9) == 0.3
    assert value_at(setting, "layers.3.attn.q", 0.25) == 0.25
    assert value_at(setting, "layers.1.attn.q", 0.25) == 0.5
    assert value_at(setting[:1], "norm", 0.0) is None


@pytest.mark.parametrize(
    ("text", "repo_id", "revision", "lora"),
    [
        ("org/name", "org/name", None, None),
        ("gpt2", "gpt2", None, None),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1", None),
        ("org/name@v1+who/lora@v2", "org/name", "v1", "who/lora@v2"),
    ],
)
def test_model_references(text: str, repo_id: str, revision: str | None, lora: str | None) -> None:
    ref = ModelRef.parse(text)
    assert (ref.repo_id, ref.revision, str(ref.lora) if ref.lora else None) == (repo_id, revision, lora)
    assert str(ref) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b//c",
        "org/na me",
        "org/..",
        "org/<script>",
        "org/name@",
        "org/name+",
        "org/name+org/lora+org/another",
        "o/" + "x" * 200,
        "org/a--b",
        "-a/b",
    ],
)
def test_names_that_no_repository_can_have(text: str) -> None:
    with pytest.raises(RecipeError):
        ModelRef.parse(text)


def test_a_folder_is_a_model(tmp_path) -> None:
    assert ModelRef.parse(str(tmp_path)).is_folder
    assert ModelRef.parse("./anything").is_folder


def test_folders_with_a_lora(tmp_path) -> None:
    (plus := tmp_path / "a+b").mkdir()
    assert ModelRef.parse(str(plus)).lora is None
    for text, model, lora in (
        (f"{plus}+org/lora@v1", str(plus), "org/lora@v1"),
        (f"{plus}+{tmp_path}", str(plus), str(tmp_path)),
        (f"org/name@v1+{tmp_path}", "org/name", str(tmp_path)),
    ):
        ref = ModelRef.parse(text)
        assert (ref.repo_id, str(ref.lora), str(ref)) == (model, lora, text)
        assert ref.reads_folder
    assert not ModelRef.parse("org/name+org/lora").reads_folder
    assert ModelRef.parse("org/name@v1+org/lora@v2").bare == "org/name+org/lora"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("merge_method: linear\nmodel: [{model: a/b}]", "did you mean 'models'"),
        ("merge_method: linear", "needs `models`, `slices` or `modules`"),
        ("models: [{model: a/b}]", "merge_method"),
        ("merge_method: linear\nmodels: [{model: a/b, parameter: {}}]", "did you mean 'parameters'"),
        ("merge_method: linear\nmodels: [{model: a/b, parameters: {weight: much}}]", "finite number"),
        ("merge_method: linear\nmodels: [{model: a/b, parameters: {weight: .nan}}]", "finite number"),
        ("merge_method: linear\nmodels: [{model: a/b, parameters: {weight: []}}]", "empty list"),
        ("merge_method: linear\nmodels: [{model: a/b}]\ndtype: int8", "float32, float16, bfloat16"),
        ("merge_method: linear\nmodels: [{model: a/b}]\ndtype: bf16", "did you mean bfloat16"),
        ("merge_method: linear\nmodels: [{model: a/b}]\nout_dtype: fp16", "did you mean float16"),
        ("merge_method: linear\nmodels: [{model: a/b, parameters: {weight 0.7}}]", "as in `weight: 0.7`"),
        ("merge_method: linear\nmodels: [{model: a/b, parameters: {weight:0.7}}]", "as in `weight: 0.7`"),
        ("merge_method: linear\nmodels: [{model: a/b, parameters x}]", "as in `parameters: x`"),
        ("merge_method: linear\nmerge_method: ties", "given twice"),
        ("merge_method: linear\n  models: [", "line 2"),
        ("- a\n- b", "must be a mapping"),
        ("merge_method: passthrough\nslices: [{sources: [{model: a/b, layer_range: [4, 2]}]}]", "start <= stop"),
        (
            "merge_method: slerp\nslices: [{sources: [{model: a/b, layer_range: [0, 2]}, "
            "{model: a/c, layer_range: [0, 3]}]}]",
            "equally many",
        ),
        ("merge_method: linear\nmodules: {}", "or `modules`"),
    ],
)
def test_mistakes_get_one_clear_sentence(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=r".") as caught:
        Recipe.from_yaml(text, strict=True)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_bombs_and_objects_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(RecipeError, match="expands to more than"):
        Recipe.from_yaml("\n".join(lines))
    with pytest.raises(RecipeError, match=r"os\.system is not read here"):
        Recipe.from_yaml("merge_method: !!python/object/apply:os.system ['true']")


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(RecipeError, match="no recipe file at"):
        Recipe.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", ["filter", "chat_template"])
def test_a_token_is_published_by_no_recipe(kind: str) -> None:
    """A card shows the recipe, so that no text of it may be one."""
    token = "hf_" + "aB3" * 12
    weight = [{"filter": token if kind == "filter" else "mlp", "value": 1.0}, {"value": 0.5}]
    document = {"merge_method": "linear", "models": [{"model": "org/a", "parameters": {"weight": weight}}]}
    if kind == "chat_template":
        document["chat_template"] = "{{ '" + token + "' }}"
    with pytest.raises(RecipeError, match="looks like an access token") as refused:
        Recipe.from_dict(document)
    assert token not in str(refused.value)


def test_a_slice_is_repeated() -> None:
    piece = {"sources": [{"model": "a/b", "layer_range": [2, 4]}]}
    once = {"sources": [{"model": "a/b", "layer_range": [0, 2]}]}
    recipe = Recipe.from_dict({"merge_method": "passthrough", "slices": [once, {**piece, "repeat": 3}]})
    assert recipe == Recipe.from_dict({"merge_method": "passthrough", "slices": [once, piece, piece, piece]})
    for wrong in (0, -1, 1.5, True, "2", 10**6):
        with pytest.raises(RecipeError, match="repeat of a slice must be a whole number from 1 to 1,000"):
            Recipe.from_dict({"merge_method": "passthrough", "slices": [{**piece, "repeat": wrong}]})


def test_a_function_that_grades_is_a_file_of_its_makers_machine() -> None:
    task = {"examples": {"test": [{"question": "1", "answer": "1"}]}, "python": "/tmp/score.py:grade"}
    given = {"merge_method": "linear", "models": ["org/a"], "calibration": {"task": task}}
    assert Recipe.from_dict(given).local_texts == ("/tmp/score.py",)
