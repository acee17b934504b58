"""The pages list every key of a search and of a task, and no other."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hubmerge.evaluate import task
from hubmerge.evaluate.drawing import Draw
from hubmerge.evolve.spec import document, genes
from hubmerge.evolve.spec.data_flow import DataFlowSpace
from hubmerge.evolve.spec.economy import Economy
from hubmerge.evolve.spec.fitness import Fitness
from hubmerge.evolve.spec.searcher import Searcher


def of(prefix: str, kind: type) -> set[str]:
    return {f"{prefix}.{field.name}" for field in fields(kind)}


SEARCH = {
    *document.KEYS,
    *(f"genome.{key}" for key in genes.KEYS),
    *(f"splits.{split}" for split in task.SPLITS),
    *of("searcher", Searcher),
    *of("fitness", Fitness),
    *of("economy", Economy),
    *of("data_flow", DataFlowSpace),
    "data_flow.searcher",
}
TASK = {*task._KEYS, *(f"examples.{key}" for key in task._EXAMPLE_KEYS), *of("draw", Draw)}


@pytest.mark.parametrize(("page", "keys"), [("evolve", SEARCH), ("tasks", TASK)])
def test_all_keys_are_listed_once(page, keys) -> None:
    text = (Path(__file__).parent.parent / "docs" / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition("## All keys\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    listed = [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]
    assert sorted(listed) == sorted(keys)
