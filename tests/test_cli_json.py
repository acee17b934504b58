"""What commands print with --json is JSON alone, of the same figures that people are shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubmerge import Recipe, make_plan, merge
from hubmerge.evolve.run import evolve


@pytest.fixture
def told(call) -> Callable[..., Any]:
    """A function that runs a command with --json, and returns what it printed as plain values."""

    def told(*words: object, code: int = 0) -> Any:
        done = call(*words, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    return told


@pytest.fixture(scope="module")
def recipe(siblings: dict[str, Path]) -> Recipe:
    models = [{"model": str(siblings[name]), "parameters": {"weight": 0.5}} for name in ("math", "japanese")]
    return Recipe.from_dict({"merge_method": "linear", "models": models})


def test_a_plan(told, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    found, planned = told("plan", tmp_path / "recipe.yaml"), make_plan(recipe)
    assert found["key"] == planned.key and found["recipe"] == planned.recipe.to_dict()
    assert found["result"]["parameters"] == planned.parameters and found["result"]["bytes"] == planned.output_bytes
    assert found["errors"] == [] and found["disk_bytes"] == planned.disk_bytes


def test_the_plan_of_a_search(told, tiny_search, tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(tiny_search().to_yaml())
    found = told("plan", tmp_path / "search.yaml")
    (phase,) = found["phases"]
    assert phase["evaluations"] == 8 and len(found["models"]) == 3 and found["memory_bytes"]["model"] > 0


def test_a_merge_verified_and_made_again(told, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(make_plan(recipe), out)
    verified = told("verify", out)
    assert verified["ok"] and verified["findings"] == [] and verified["matching"] == len(make_plan(recipe).tensors)
    again = told("reproduce", out)
    assert again["ok"] and again["identical"] == verified["matching"]
    weights = out / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert told("verify", out, code=2)["differing"] and not told("reproduce", out, code=2)["ok"]


def test_a_run(told, tiny_search, tmp_path: Path) -> None:
    result = evolve(tiny_search(baselines=[]), tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    found = told("report", tmp_path / "run")
    assert found["done"] and found["evaluations"] == 8 == found["planned"]
    assert [row["model"] for row in found["rows"]] == [row.model for row in result.rows]
    assert found["rows"][-1]["value"] == result.rows[-1].value and found["best"]["fitness"]
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
