"""What is read of vocabularies of thousands of tokens: few pieces, the same from the Hub, no tokenizer twice."""

from pathlib import Path

import pytest
import torch
from tokenizertools import HEAD, WIDTH, linear, words

from hubmerge.hub import push_folder
from hubmerge.recipe import Recipe
from hubmerge.stream import prefetch, tokens, united
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> dict[str, Path]:
    """Models of 30,000 words: a base, one in nearly the same order with a few words more, one in no order at all."""
    root = tmp_path_factory.mktemp("large")
    listed = [f"w{number}" for number in range(30_000)]
    near = [*listed[:9_000], "more", *listed[9_000:20_000], *listed[20_100:], "and more"]
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(1)).tolist()
    return {
        "base": words(root / "base", listed, 1),
        "near": words(root / "near", near, 2),
        "wild": words(root / "wild", [listed[at] for at in order], 3),
    }


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_by_range_as_from_a_folder(method: str, large, hub, monkeypatch, tmp_path: Path) -> None:
    """In runs, scattered, and through a stage; each byte of what is scattered comes once."""
    monkeypatch.setattr(prefetch, "SPAN", 2**19)
    monkeypatch.setattr(prefetch, "WINDOW", 2**19)
    refs = {}
    for name, folder in large.items():
        refs[name] = f"alice/{method}-{name}"
        push_folder(folder, refs[name], token="hf_alice")
    stage = {"name": "both", "merge_method": "linear", "tokenizer_source": "union"}

    def recipe(named: dict) -> Recipe:
        def entries(*names: str) -> list[dict]:
            return [{"model": str(named[name]), "parameters": {"weight": 0.4, "density": 0.7}} for name in names]

        first = {
            **stage,
            "models": [{"model": str(named[name]), "parameters": {"weight": 0.5}} for name in ("near", "wild")],
        }
        document = {"merge_method": method, "models": entries("near", "wild"), "tokenizer_source": "union"}
        document["models"].append({"model": "stage:both", "parameters": {"weight": 0.2}})
        if method == "ties":
            document["base_model"] = str(named["base"])
            for entry in document["models"]:
                entry["parameters"]["density"] = 0.5
        else:
            for entry in document["models"]:
                entry["parameters"].pop("density", None)
        return Recipe.from_dict({"stages": [first], **document})

    plan = make_plan(recipe(refs), ranged=True)
    assert not plan.errors
    far = merge(plan, tmp_path / "far")
    assert far.tensors == merge(recipe(large), tmp_path / "here").tensors
    wild = plan.sources[[source.name for source in plan.sources].index(refs["wild"])]
    assert sum(tensor.nbytes for tensor in wild.tensors.values()) <= plan.fetch_bytes


def test_what_is_read_of_rows(large) -> None:
    """Nearly the same order: a handful of runs. No order: all of the tensor in pieces, told in the plan."""

    def needed(*names: str) -> tuple[list, int]:
        plan = make_plan(linear(*(large[name] for name in names), tokenizer_source="base"))
        assert not plan.errors
        tensor = next(one for one in plan.tensors if one.name == HEAD)
        found = [one for one in plan.stage.needs_all(tensor) if one.source.name == str(large[names[1]])]
        return found, sum(one.stop - one.start for one in found)

    near, elements = needed("base", "near")
    assert len(near) <= 4 and elements == (30_000 - 100) * WIDTH
    wild, elements = needed("base", "wild")
    assert len(wild) <= 4 and elements == 30_000 * WIDTH


def test_planning_again_reads_no_tokenizer_again(large, monkeypatch) -> None:
    recipe = linear(large["base"], large["near"], large["wild"], tokenizer_source="union")
    make_plan(recipe)
    read = []
    monkeypatch.setattr(tokens, "vocabulary", lambda *arguments: read.append(arguments))
    monkeypatch.setattr(united, "_unite", lambda *arguments: read.append(arguments))
    assert not make_plan(recipe).errors and not read
