"""Models whose names begin otherwise: merged with the bytes that they give under the same names."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from streamtools import weights
from test_stream_component import seeing
from test_stream_merge import Siblings, recipe
from tokenizertools import words

from hubmerge.errors import PlanError
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan


def renamed(model: Path, out: Path, new: Callable[[str], str]) -> Path:
    folder = Path(shutil.copytree(model, out))
    state = {new(name): tensor.contiguous().clone() for name, tensor in weights(model).items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "new",
    [lambda name: name.removeprefix("model."), lambda name: f"transformer.{name}"],
    ids=["saved without a head", "saved inside of something"],
)
def test_the_bytes_of_equal_names(new: Callable[[str], str], siblings: Siblings, tmp_path: Path) -> None:
    other = renamed(siblings["math"], tmp_path / "other", new)
    expected = merge(recipe(siblings), tmp_path / "expected").tensors
    plan = make_plan(recipe({**siblings, "math": other}))
    assert merge(plan, tmp_path / "out").tensors == expected
    [said] = [one.message for one in plan.warnings if "taken under the latter names" in one.message]
    assert said.startswith(f"{other} has ")
    # And where the base is the odd one, the result has its names.
    base = renamed(siblings["base"], tmp_path / "base", new)
    result = merge(recipe({**siblings, "base": base}), tmp_path / "as-base").tensors
    assert {new(name): digest for name, digest in expected.items()}.keys() == result.keys()


def newer(name: str) -> str:
    """What transformers calls a tensor of a LLaVA since 4.52."""
    name = name.replace("language_model.lm_head.", "lm_head.").replace("language_model.model.", "language_model.")
    return name if name.startswith("lm_head.") else f"model.{name}"


def test_both_generations_of_models_that_see(tiny_llama, tmp_path: Path) -> None:
    plain = tiny_llama(tmp_path / "plain", seed=1, tie_word_embeddings=False)
    models = [seeing(tmp_path / f"sees-{seed}", plain, seed) for seed in (3, 4)]
    other = renamed(models[1], tmp_path / "newer", newer)
    assert not weights(other).keys() & weights(models[0]).keys()

    def average(one: Path) -> Recipe:
        return Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(m)} for m in (models[0], one)]})

    expected = merge(average(models[1]), tmp_path / "expected").tensors
    assert merge(average(other), tmp_path / "out").tensors == expected


def test_what_is_no_sibling_stays_so(siblings: Siblings, tmp_path: Path) -> None:
    """A tensor too many, and names that would become one."""
    state = weights(siblings["math"])
    for number, extra in enumerate(("vision_tower.x.weight", "layers.0.mlp.up_proj.weight")):
        folder = renamed(siblings["math"], tmp_path / f"other-{number}", lambda name: name)
        save_file({**state, extra: state["model.norm.weight"].clone()}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(PlanError, match=f"has tensors that are not in .*{re.escape(extra)}"):
            make_plan(recipe({**siblings, "math": folder})).require()


def test_tokens_are_told_apart_under_names_that_begin_otherwise(tmp_path: Path) -> None:
    said = [f"word{number}" for number in range(40)]
    first, second = (words(tmp_path / name, said[at : at + 30], at) for name, at in (("first", 0), ("second", 10)))
    document = {"merge_method": "linear", "tokenizer_source": "union", "parameters": {"weight": 0.5}}

    def union(*models: Path) -> dict[str, str]:
        recipe = Recipe.from_dict({**document, "models": [{"model": str(one)} for one in models]})
        return merge(recipe, tmp_path / "-".join(one.name for one in models)).tensors

    other = renamed(second, tmp_path / "other", lambda name: name.removeprefix("model."))
    assert union(first, other) == union(first, second)


def test_a_part_under_names_that_begin_otherwise(tiny_llama, tmp_path: Path) -> None:
    """As transformers 5.20 writes Qwen2-Audio and Voxtral; and behind a plain model whose names begin otherwise."""
    plain, other = (tiny_llama(tmp_path / f"plain-{seed}", seed=seed, tie_word_embeddings=False) for seed in (1, 2))
    sees = seeing(tmp_path / "sees", plain, 3)
    twice = renamed(sees, tmp_path / "twice", lambda name: name.replace("_model.model.", "_model.model.model."))
    bare = renamed(other, tmp_path / "bare", lambda name: name.removeprefix("model."))

    def average(*models: object) -> set[str]:
        document = {"merge_method": "linear", "models": [{"model": str(model)} for model in models]}
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        return set(merge(Recipe.from_dict(document), out).tensors.values())

    expected = average(other, f"{sees}#language_model")  # a plain model
    for part, beside in ((sees, other), (twice, other), (sees, bare), (twice, bare)):
        assert average(f"{part}#language_model", beside) >= expected
        assert average(beside, f"{part}#language_model") >= expected
