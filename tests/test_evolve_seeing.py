"""Searches over models that see or hear: their language model alone; what is scored is what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from streamtools import weights
from vlms import FAMILIES, loaded, make_plain, make_whole

from hubmerge.evolve.export import candidate_recipe
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.evolve.spaces.families import family_of
from hubmerge.evolve.spaces.layer_path import LayerPath
from hubmerge.evolve.workers.footprint import least_effort
from hubmerge.evolve.workers.path_model import PathModel
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream import budget
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan, weights_of


def entries(*models: tuple[object, float]) -> list[dict[str, Any]]:
    return [{"model": str(model), "parameters": {"weight": weight}} for model, weight in models]


@torch.no_grad()
def asked(model: Any, family: str) -> torch.Tensor:
    """The scores of what it says of a picture, or a sound."""
    return model(**FAMILIES[family].question).logits


def is_eye(name: str) -> bool:
    return any(part in name for part in ("vis", "audio", "projector", "connector", "newline"))


@pytest.mark.parametrize(
    ("family", "newer"), [*((family, False) for family in FAMILIES), ("llava", True), ("qwen2_vl", True)]
)
def test_a_recipe_in_memory_is_its_export(family: str, newer: bool, tmp_path: Path) -> None:
    """One after another in place; the eyes are read once, and stay; a plain model in between is a model of its own."""
    whole, other = (make_whole(family, tmp_path / f"w{seed}", seed, newer=newer) for seed in (1, 4))
    expert = make_plain(family, tmp_path / "ja", 3)
    part, second = f"{whole}#language_model", f"{other}#language_model"

    def recipe(*models: tuple[object, float]) -> Recipe:
        return Recipe.from_dict({"merge_method": "linear", "models": entries(*models)})

    resident = ResidentModel(make_plan(recipe((part, 1.0), (expert, 1.0), (second, 1.0))), device="cpu")
    held = []
    for number, one in enumerate(
        (recipe((part, 0.3), (expert, 0.9)), recipe((part, 0.8), (expert, 0.1)), recipe((second, 0.8), (expert, 0.1)))
    ):
        resident.load(one)
        held.append(resident.model)
        assert resident.is_written_in_place
        merge(one, tmp_path / f"out-{number}")
        expected = asked(loaded(family, tmp_path / f"out-{number}"), family)
        torch.testing.assert_close(asked(resident.model, family), expected, atol=1e-5, rtol=1e-4)
    assert held[0] is held[1] is not held[2], "another's eyes are built anew"
    for ref, folder in ((part, whole), (second, other)):
        resident.load_source(ModelRef.parse(ref))
        assert torch.equal(asked(resident.model, family), asked(loaded(family, folder), family))
    resident.load_source(ModelRef.parse(str(expert)))
    text = torch.tensor([[1, 5, 9, 14]])
    with torch.no_grad():
        assert torch.equal(resident.model(text).logits, loaded(family, expert, plain=True)(text).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_in_memory_is_its_export(family: str, tmp_path: Path) -> None:
    """Layers of both, with scales: the picture runs through them as through those of the checkpoint."""
    whole = make_whole(family, tmp_path / "whole", 1, newer=len(family) % 2 == 1)
    models = (ModelRef.parse(f"{whole}#language_model"), ModelRef.parse(str(make_plain(family, tmp_path / "ja", 3))))
    model = PathModel(models, device="cpu")
    assert model.layer_counts == (2, 2)
    kind = family_of(weights_of(open_source(models[0])).config)
    found, before = [], weights(whole)
    for number, (layers, scales) in enumerate(
        (
            (((0, 0), (0, 1)), (1.0, 1.0)),
            (((0, 0), (1, 1), (1, 0), (0, 1)), (1.0, 0.5, -2.0, 0.7)),
            (((0, 0), (1, 0), (0, 1)), (1.0, -1.5, 0.8)),
        )
    ):
        path = LayerPath(models, layers, scales)
        model.load(path)
        found.append(asked(model.model, family).clone())
        merge(path.recipe(kind), tmp_path / f"out-{number}")
        exported = loaded(family, tmp_path / f"out-{number}")
        assert exported.config.get_text_config().num_hidden_layers == len(layers)
        torch.testing.assert_close(found[-1], asked(exported, family), atol=2e-4, rtol=2e-3)
        after = weights(tmp_path / f"out-{number}")
        assert all(torch.equal(after[name], before[name]) for name in before if is_eye(name))
    torch.testing.assert_close(found[0], asked(loaded(family, whole), family), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[1], found[2], atol=1e-2)
    model.load_source(models[0])
    assert torch.equal(asked(model.model, family), asked(loaded(family, whole), family))


SPACES: dict[str, dict[str, Any]] = {
    "ps": {"genome": {"granularity": "layer", "genes": {"weight": [0, 1]}}},
    "dfs": {"data_flow": {"repeats": 1}},
    "ps+dfs": {"genome": {"granularity": "layer_group", "genes": {"weight": [0, 1]}}, "data_flow": {"repeats": 1}},
}


@pytest.mark.parametrize("spaces", SPACES)
def test_a_search_writes_the_whole_model(spaces: str, tmp_path: Path) -> None:
    whole, base, expert = (
        make_whole("llava", tmp_path / "whole", 1),
        make_plain("llava", tmp_path / "base", 2),
        make_plain("llava", tmp_path / "ja", 3),
    )
    rows = [{"question": f"w{n} w{n + 1}", "answer": str(n)} for n in range(8)]
    document = {
        "models": [f"{whole}#language_model", str(expert)],
        "task": {"name": "words", "examples": {"search": rows[:3], "test": rows[3:]}, "max_new_tokens": 3},
        "searcher": {"name": "random", "popsize": 4, "evaluations": 4},
        **SPACES[spaces],
    }
    if "genome" in document:
        document |= {"merge_method": "task_arithmetic", "base_model": str(base)}
    search = Search.from_dict(document)
    outlook = plan_search(search)
    outlook.require()
    # A gene for each of two layers and the rest, and each of two models, or two a place of a path; none for the eyes.
    genes = {"ps": [6], "dfs": [16 + 4], "ps+dfs": [14, 2 * 4]}[spaces]
    assert [phase.genes[0] for phase in outlook.phases] == genes
    result = evolve(search, tmp_path / "run")
    assert len(result.rows) > 2
    before, after = weights(whole), weights(tmp_path / "run" / "model")
    assert all(torch.equal(after[name], before[name]) for name in before if is_eye(name))
    assert torch.isfinite(asked(loaded("llava", tmp_path / "run" / "model"), "llava")).all()
    best = Recipe.from_yaml(tmp_path / "run" / "best.yaml")
    if spaces == "ps+dfs":
        assert "stage:recipe#language_model" in best.to_yaml()
    again = candidate_recipe(tmp_path / "run", 0)
    make_plan(again).require()
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["model_type"] == "llava"


@pytest.mark.parametrize("newer", [False, True], ids=["older names", "newer names"])
def test_what_does_not_fit_is_read_from_files(newer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates and paths of which a part lies on disk see the same."""
    monkeypatch.setattr(budget, "_LIBRARY_BYTES", 0)
    whole = make_whole("llava", tmp_path / "whole", 1, newer=newer, intermediate_size=2000, vocab_size=4000)
    expert = make_plain("llava", tmp_path / "ja", 3, intermediate_size=2000, vocab_size=3990)
    document = {"merge_method": "linear", "models": entries((f"{whole}#language_model", 0.3), (expert, 0.9))}
    plan = make_plan(Recipe.from_dict(document))
    held = sum(tensor.nbytes for tensor in plan.tensors)
    memory = least_effort(plan) + held // 2
    resident = ResidentModel(plan, memory=memory, device="cpu")
    assert "disk" in resident.model.hf_device_map.values()
    resident.load(plan.recipe)
    merge(plan, tmp_path / "out")
    expected = asked(loaded("llava", tmp_path / "out"), "llava")
    torch.testing.assert_close(asked(resident.model, "llava"), expected, atol=1e-5, rtol=1e-4)
    models = tuple(entry.model for entry in plan.recipe.models)
    path = LayerPath(models, ((0, 0), (1, 1), (0, 1)), (1.0, 0.5, -2.0))
    kind = family_of(weights_of(open_source(models[0])).config)
    memory = least_effort(make_plan(path.recipe(kind))) + held // 2
    free, within = PathModel(models, device="cpu"), PathModel(models, device="cpu", memory=memory)
    free.load(path)
    within.load(path)
    assert "disk" in within.model.hf_device_map.values()
    torch.testing.assert_close(asked(within.model, "llava"), asked(free.model, "llava"), atol=1e-5, rtol=1e-4)
