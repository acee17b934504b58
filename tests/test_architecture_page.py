"""docs/architecture.md: its files are there, and what it says is enough to add something is enough."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from streamtools import weights
from torch import Tensor

import hubmerge.methods as methods
import hubmerge.stream.plan as plan
from hubmerge.methods import METHODS, Method, Parameter
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.weights import Over, Reads, Stored

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:hubmerge|tests)/[\w/<>]+\.py)`", PAGE)
    assert len(named) > 8
    for name in named:
        folder, _, file = name.rpartition("/")
        assert (ROOT / name).is_file() if "<" not in file else list((ROOT / folder).glob("*.py")), name


class Doubled(Over):
    """A kind of weights that nothing in hubmerge knows: each tensor twice as large as another's."""

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        return self.inner.read(name, start, stop, reads) * 2


@pytest.mark.parametrize("ranged", [False, True])
def test_a_kind_of_weights_is_a_class_and_where_it_is_made(siblings, hub, ranged: bool, monkeypatch, tmp_path) -> None:
    from hubmerge.hub import push_folder

    push_folder(siblings["math"], "alice/doubled", message="Upload", private=False, overwrite=True)
    monkeypatch.setattr(plan, "weights_of", lambda source: Doubled(Stored(source)))
    recipe = Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": "alice/doubled"}]})
    merge(plan.make_plan(recipe, ranged=ranged), tmp_path / "out")
    single, double = weights(siblings["math"]), weights(tmp_path / "out")
    assert single.keys() == double.keys()
    assert all(torch.equal(double[name], tensor * 2) for name, tensor in single.items())


def test_a_merge_method_is_a_function_and_an_entry(siblings, monkeypatch, tmp_path: Path) -> None:
    family = ModuleType("hubmerge.methods.largest")
    family.largest = lambda block, floor: torch.stack(block.tensors).amax(0).clamp_(min=floor)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, family.__name__, family)
    parameters = (Parameter("floor", -9.0, "Nothing is less."),)
    method = Method("largest", "largest", "The largest of all.", "https://example.org", parameters, base="none")
    monkeypatch.setattr(methods, "METHODS", {**METHODS, "largest": method})
    models = [{"model": str(siblings[name])} for name in ("math", "japanese")]
    merge(
        Recipe.from_dict({"merge_method": "largest", "models": models, "parameters": {"floor": -0.01}}),
        tmp_path / "out",
    )
    one, other = weights(siblings["math"]), weights(siblings["japanese"])
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, torch.maximum(one[name], other[name]).clamp(min=-0.01))


@pytest.mark.parametrize("word", ["merge method", "searcher", "metric", "part of models", "kind of weights"])
def test_it_says_what_to_touch(word: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith("| a ") and word in line]
    assert row.count("`hubmerge/") >= 1
