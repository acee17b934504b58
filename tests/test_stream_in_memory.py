"""Models in memory: merged to the bytes that the same recipe writes, and refused in one sentence."""

from pathlib import Path

import pytest
import torch
from streamtools import weights

from hubmerge import merge_state_dicts
from hubmerge.errors import HubmergeError, PlanError, RecipeError
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge

OWN = {
    "linear": {"weight": [0.2, 0.9]},
    "ties": {"weight": 0.7, "density": [{"filter": "mlp", "value": [0.1, 0.8]}, {"value": 0.5}]},
    "dare_ties": {"weight": 0.7, "density": 0.5},
    "model_stock": {},
    "iso_c": {"weight": 0.7},
}


@pytest.mark.parametrize("method", OWN)
def test_the_bytes_are_those_of_the_recipe(method: str, siblings: dict[str, Path], tmp_path: Path) -> None:
    based = method != "linear"
    models = [siblings["math"], siblings["japanese"]]
    document = {
        "merge_method": method,
        "models": [{"model": str(folder), "parameters": OWN[method]} for folder in models],
        "dtype": "bfloat16",
    }
    merge(Recipe.from_dict(document | ({"base_model": str(siblings["base"])} if based else {})), tmp_path / "out")
    base = weights(siblings["base"]) if based else None
    before = [weights(folder) for folder in models]
    merged = merge_state_dicts(method, [(one, OWN[method]) for one in before], base, dtype="bfloat16")
    expected = weights(tmp_path / "out")
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())
    assert all(
        torch.equal(one[name], weights(folder)[name])
        for one, folder in zip(before, models, strict=True)
        for name in one
    )


def test_parameters_count_for_all_models_that_give_none() -> None:
    models = [{"norm.weight": torch.full((3,), value)} for value in (1.0, 2.0)]
    merged = merge_state_dicts(
        "linear", [models[0], (models[1], {"weight": 3.0})], parameters={"weight": 1.0, "normalize": False}
    )
    assert merged["norm.weight"].tolist() == [7.0] * 3


def test_a_tied_head_stays_tied_and_integers_are_kept() -> None:
    def tied(value: float) -> dict[str, torch.Tensor]:
        embedding = torch.nn.Parameter(torch.full((4, 2), value))
        return {"lm_head.weight": embedding, "embed_tokens.weight": embedding, "steps": torch.tensor(7)}

    merged = merge_state_dicts("dare_linear", [(tied(2.0), {"weight": 1.0, "density": 0.5})], tied(0.0))
    assert merged["lm_head.weight"] is merged["embed_tokens.weight"]
    assert list(merged) == ["lm_head.weight", "embed_tokens.weight", "steps"]
    assert merged["steps"].item() == 7
    assert not merged["lm_head.weight"].requires_grad


def test_a_head_that_only_one_model_ties_is_merged_by_itself() -> None:
    embedding, head = torch.zeros(4, 2), torch.ones(4, 2)
    ties = {"embed_tokens.weight": embedding, "lm_head.weight": embedding}
    merged = merge_state_dicts(
        "linear", [ties, {"embed_tokens.weight": embedding, "lm_head.weight": head}], parameters={"weight": 1.0}
    )
    assert merged["lm_head.weight"].tolist() == [[0.5, 0.5]] * 4
    assert merged["embed_tokens.weight"].tolist() == [[0.0, 0.0]] * 4


ONE = {"a.weight": torch.ones(2, 2)}
WIDE = {"a.weight": torch.ones(2, 3)}
OTHER = {"b.weight": torch.ones(2, 2)}


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("tiess", [ONE], ONE), RecipeError, "did you mean ties"),
        (("ties", [ONE]), RecipeError, "needs a `base_model`"),
        (("linear", [ONE], ONE), RecipeError, "linear takes no base"),
        (("linear", []), RecipeError, "models"),
        (("slerp", [ONE], ONE), RecipeError, "needs a value of t"),
        (("linear", [(ONE, {"weigth": 1})]), RecipeError, "weigth"),
        (("linear", [ONE, OTHER]), PlanError, "lacks tensors"),
        (("linear", [ONE, WIDE]), PlanError, "differs in shape"),
        (("linear", [({"a.weight": [1.0]}, {"weight": 1})]), RecipeError, "expected a tensor"),
        (("linear", [({"a.weight": torch.ones(2, device="meta")}, {"weight": 1})]), RecipeError, "in memory"),
        (("linear", [({"a.weight": torch.ones(2) * torch.inf}, {"weight": 1})]), HubmergeError, "not finite"),
        (("linear", [({"a.weight": torch.ones(2, dtype=torch.complex64)}, {"weight": 1})]), RecipeError, "complex64"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_told_in_a_sentence(arguments: tuple, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        merge_state_dicts(*arguments)
