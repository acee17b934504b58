"""What recipes say beside methods, done as mergekit 0.1.5 did it: parity_beside.json keeps what that made of them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MADE: dict[str, Any] = json.loads((Path(__file__).parent / "parity_beside.json").read_text(encoding="utf-8"))
"""By `python benchmarks/parity_beside.py --record tests/parity_beside.json`."""


@pytest.fixture(scope="module")
def beside() -> Iterator[Any]:
    """benchmarks/parity_beside.py as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import parity_beside

        yield parity_beside
    for name in ("parity_beside", "parity_models"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def folders(beside: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The recipes, each in a folder of its own, by name."""
    root = tmp_path_factory.mktemp("beside")
    return beside.write(root / "merges", beside.make_models(root / "models"))


@pytest.mark.parametrize("name", MADE)
def test_is_what_mergekit_makes_but_for_what_is_decided(name: str, beside: Any, folders: dict[str, Path]) -> None:
    told = beside.apart(beside.ours(folders[name]), MADE[name])
    decided = beside.DIFFERS.get(name, {})
    assert told.keys() == {key for key in decided if key in told or decided[key] != beside.BY_CHANCE}, told


def test_every_difference_is_listed_with_its_reason(beside: Any, folders: dict[str, Path]) -> None:
    assert folders.keys() == MADE.keys() and len(folders) >= 40
    assert beside.DIFFERS.keys() <= folders.keys()
    page = " ".join((ROOT / "docs" / "mergekit.md").read_text(encoding="utf-8").split())
    for reason in {reason for told in beside.DIFFERS.values() for reason in told.values()}:
        assert reason in page


def test_what_is_compared_tells_models_apart(beside: Any, folders: dict[str, Path]) -> None:
    """A weight, a LoRA or a token's row that is another's is a difference."""
    for name, change in (("base-bytes", {"weight": 0.5}), ("lora-alone", "lora"), ("tokens-forced", "first")):
        document = yaml.safe_load((folders[name] / "recipe.yaml").read_text())
        if isinstance(change, dict):
            document["models"][1]["parameters"] = change
        elif change == "lora":
            document["models"][0]["model"] = document["models"][0]["model"].split("+")[0]
        else:
            document["tokenizer"]["tokens"]["<|im_end|>"] = {"source": {"kind": "zero"}, "force": True}
        other = folders[name].with_name(f"{name}-other")
        other.mkdir()
        (other / "recipe.yaml").write_text(yaml.safe_dump(document))
        assert "tensors" in beside.apart(beside.ours(other), MADE[name])
