"""What is wrong in a recipe is told all at once, in the order of the file, with a guess where something is misspelt."""

from pathlib import Path

import pytest

from hubmerge.errors import RecipeError
from hubmerge.recipe import Conditional, Recipe

TWO = "models: [{model: org/a}, {model: org/b}]\n"
MISSPELT = """
merge_method: ties
base_model: org/b
out_dtpe: float16
models:
- {model: org/a, weight: 0.5, parameters: {densty: 0.5}}
- {model: org/c, parametrs: {weight: 1}, parameters: {weihgt: 1}}
parameters: {normalise: true}
"""


KEYS_OF_IT = [
    "Unknown key 'out_dtpe' in the recipe: did you mean 'out_dtype'?",
    "`weight` beside `model: org/a` is not read; write it under `parameters`.",
    "Unknown key 'parametrs' in the entry of org/c: did you mean 'parameters'?",
]


NAMES_OF_IT = ["'normalise' (in `parameters`)", "'densty' (at org/a)", "'weihgt' (at org/c)"]


def test_all_that_is_misspelt_is_told_at_once(call, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as told:
        Recipe.from_yaml(MISSPELT, strict=True)
    assert str(told.value).splitlines() == KEYS_OF_IT
    (path := tmp_path / "recipe.yaml").write_text(MISSPELT)
    for command in (["plan"], ["merge", "--out", tmp_path / "out"]):
        done = call(*command, path, "--strict")
        assert done.returncode == 2
        keys, names = (done.stdout + done.stderr).strip().splitlines()[:3], (done.stdout + done.stderr).splitlines()[3:]
        assert [line.removeprefix("hubmerge: ") for line in keys] == KEYS_OF_IT
        assert all(one in line and "did you mean" in line for one, line in zip(NAMES_OF_IT, names, strict=True))


def test_what_is_misspelt_in_stages_modules_and_tokens_is_told_with_its_place(call, tmp_path: Path) -> None:
    stage = "{name: one, foo: 1, merge_method: linear, models: [{model: org/a, parameters: {wight: 1}}]}"
    module = "{text: {modelss: [], models: [{model: org/a, wght: 1}], parameters: {normalze: true}}}"
    (path := tmp_path / "recipe.yaml").write_text(
        f"stages: [{stage}]\nmerge_method: linear\nbase_model: 'stage:one'\nmodules: {module}"
    )
    done = call("plan", path)
    for one in (
        "In the stage one: Unknown key 'foo'",
        "Unknown key 'modelss' in the module text",
        "In the module text: `wght` beside",
        "In the stage one: linear has no parameter 'wight'",
        "In the module text: linear has no parameter 'normalze'",
    ):
        assert one in done.stdout + done.stderr
    block = "{sorce: union, tokens: {<x>: {source: org/a, frce: 1}, <y>: 1}}"
    with pytest.raises(RecipeError) as told:
        Recipe.from_yaml(f"merge_method: linear\n{TWO}\ntokenizer: {block}")
    assert len(str(told.value).splitlines()) == 3


FAULTY = """
tokenizer:
  sorce: union
  source: 3
  tokens: {<x>: {source: org/a, frce: 1}, <y>: 1}
  pad_to_multiple_of: 0
dtype: int8
merge_method: ties
base_model: org/b
models:
- {model: org/a, parameters: {densty: 0.5}}
- {modl: org/c}
out_dtype: float12
parameters: {density: 1.5, weight: much}
chat_template: 4
"""


WRONG_IN_IT = (
    "Unknown key 'sorce' in `tokenizer`",
    "`tokenizer.source`: expected a model as text (org/name@revision), got 3.",
    "Unknown key 'frce' in `tokenizer.tokens` of '<x>'",
    "of '<y>'` must be a mapping",
    "pad_to_multiple_of must be a whole number from 1",
    "dtype must be one of",
    "Each entry of `models` needs `model: org/name`",
    "out_dtype must be one of",
    "weight in parameters: expected a finite number",
    "`chat_template` of the recipe must be text, got 4.",
)


def test_all_faults_are_told_in_one_run_in_the_order_of_the_file(call, tmp_path: Path) -> None:
    (path := tmp_path / "recipe.yaml").write_text(FAULTY)
    for how, more in (((), ()), (("--strict",), ("ties has no parameter 'densty' (at org/a)",))):
        for command in (["plan"], ["merge", "--out", tmp_path / "out"]):
            done = call(*command, path, *how)
            told = (done.stdout + done.stderr).strip().splitlines()
            assert done.returncode == 2 and len(told) == len(WRONG_IN_IT) + len(more), told
            for line, says in zip(told, (*WRONG_IN_IT, *more), strict=True):
                assert says in line
    # The parameters of what could be read, in a stage too; only what is wrong, where mergekit's own format is read.
    path.write_text(
        "stages: [{name: s, merge_method: linear, models: [{model: org/a, parameters: {wight: 1}}], dtype: int8}]\n"
        "merge_method: linear\nmodels: [{model: stage:s}]\ntokenizer: {source: union, pad_to_multiple_of: -1}"
    )
    told = call("plan", path).stderr
    assert told.index("In the stage s: dtype") < told.index("pad_to") < told.index("In the stage s: linear has no")


def test_misspelt_methods_are_told_in_the_same_run(call, tmp_path: Path) -> None:
    (path := tmp_path / "recipe.yaml").write_text(
        "stages: [{name: s, merge_method: linaer, models: [{model: org/a}]},\n"
        "{name: t, merge_method: linear, models: [{model: org/a, parameters: {weight: 1e39}}]}]\n"
        "merge_method: TIES\nbase_model: stage:t\nmodels: [{model: stage:s}, {model: org/c, weigth: 1}]\n"
    )
    methods = ["In the stage s: There is no merge_method 'linaer': did you mean linear?"]
    methods += ["There is no merge_method 'TIES': did you mean ties?"]
    told = [line.removeprefix("hubmerge: ") for line in call("plan", path, "--strict").stderr.strip().splitlines()]
    assert told[0].startswith("`weigth` beside `model: org/c` is not read")
    assert told[1:3] == methods
    assert told[3].startswith("In the stage t: weight must be a number of 32 bits") and len(told) == 4


def test_what_only_follows_from_a_fault_is_not_told() -> None:
    for text, count in (
        (f"{TWO}tokenizer: {{source: [], transplant: 3}}", 1),
        ("models: [{modl: org/a}]", 1),
        ("modules: {part: {models: 3, parameters: {weight: much}}}", 2),
    ):
        with pytest.raises(RecipeError) as told:
            Recipe.from_yaml(f"merge_method: linear\n{text}")
        assert len(str(told.value).splitlines()) == count, told.value


def test_a_module_that_is_the_whole_model() -> None:
    recipe = Recipe.from_yaml(
        f"merge_method: linear\nparameters: {{weight: .5, normalize: false}}\n"
        f"modules: {{default: {{{TWO.strip()}, parameters: {{weight: [{{filter: mlp, value: .2}}]}}}}}}"
    )
    assert [str(entry.model) for entry in recipe.models] == ["org/a", "org/b"] and not recipe.modules
    assert recipe.parameters == {"weight": (Conditional("mlp", 0.2), Conditional(None, 0.5)), "normalize": False}


def test_all_that_is_wrong_is_said_at_once() -> None:
    text = """
merge_method: ties
base_modle: org/base
models: [{model: org/a, parametres: {}}, {modl: org/b}, {model: 3}]
parameters: {weight: much}
dtype: int8
stages: [{name: ja, mergemethod: linear, merge_method: linear, models: 5}]
"""
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text, strict=True)
    for line, says in zip(
        str(caught.value).splitlines(),
        (
            "Unknown key 'base_modle' in the recipe: did you mean 'base_model'?",
            "Unknown key 'parametres' in the entry of org/a: did you mean 'parameters'?",
            "Each entry of `models` needs `model: org/name`, got a mapping of modl.",
            "models: expected a model as text (org/name@revision), got 3.",
            "weight in parameters: expected a finite number or true/false, got 'much'.",
            "dtype must be one of float32, float16, bfloat16, float64, got 'int8'.",
            "In the stage ja: Unknown key 'mergemethod' in the recipe: did you mean 'merge_method'?",
            "In the stage ja: `models` must be a list, got 5.",
        ),
        strict=True,
    ):
        assert line == says


def test_a_token_without_a_character() -> None:
    with pytest.raises(RecipeError, match="`tokens` names a token without a character"):
        Recipe.from_yaml(f"merge_method: linear\n{TWO}tokenizer: {{source: union, tokens: {{'': {{source: org/a}}}}}}")
