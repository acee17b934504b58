"""A search that found nothing says so: in the terminal, the report and the card."""

import re

import pytest
import yaml
from reporttools import ROWS, recipe, rising, row, write_run

from hubmerge.evolve.compared.verdict import unchanged
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.records.remarks import remarks
from hubmerge.evolve.report import write_report
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from space.tabs.evolve import of_form


def test_what_is_said() -> None:
    base, best = ("base", 0.4, 20), ("average", 0.75, 20)
    assert (
        remarks(("evolved", 0.8, 20), [base, best]) == remarks(None, [base]) == remarks(("evolved", 0.1, 20), []) == ()
    )
    (said,) = remarks(("evolved", 0.75, 20), [base, best])
    assert said == "The winner is no better than average: 75.0% against 75.0% on the test split (n = 20)."
    (said,) = remarks(("evolved", 0.4, 20), [base, best], "org/model")
    assert said == "The winner is org/model, unchanged: the search found nothing better."


@pytest.mark.parametrize(
    ("slices", "same"),
    [
        ([("math", [0, 3])], True),
        ([("math", [0, 1]), ("math", [1, 3])], True),
        ([("math", [0, 2])], False),
        ([("math", [1, 3]), ("math", [0, 1])], False),
        ([("math", [0, 3]), ("math", [2, 3])], False),
        ([("math", [0, 1]), ("base", [1, 3])], False),
        ([("math", [0, 3], {"scale": 0.5})], False),
    ],
)
def test_a_model_unchanged_is_seen(slices, same, siblings) -> None:
    pieces = [
        {"sources": [{"model": str(siblings[name]), "layer_range": layers, "parameters": dict(*more)}]}
        for name, layers, *more in slices
    ]
    found = Recipe.from_dict({"merge_method": "passthrough", "slices": pieces})
    sources = {ref: open_source(ref) for ref in found.references}
    assert (unchanged(found, sources) == "local folder math") is same


@pytest.mark.filterwarnings("ignore:.*")
def test_a_search_of_one_model_that_changes_nothing(siblings, tiny_search, call, tmp_path) -> None:
    given = tiny_search().to_dict()
    document = {"models": [str(siblings["math"])], "data_flow": {}, "task": given["task"]}
    document["searcher"] = {"name": "grid", "evaluations": 4}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(document))
    done = call("evolve", tmp_path / "search.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    said = "The winner is local folder math, unchanged: the search found nothing better."
    assert said in " ".join(done.stderr.split())
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"**{said}**" in card and not re.search(r"^\| average", card, re.MULTILINE)
    assert call("card", tmp_path / "run").stdout == card
    assert said in write_report(tmp_path / "run").read_text()


def test_a_report_says_that_the_winner_is_no_better(tmp_path) -> None:
    rows = [*ROWS[:-1], row("evolved", 0.4)]
    winner = {"number": 3, "recipe": recipe(2)}
    page = write_report(write_run(tmp_path / "run", rising(9), rows=rows, winner=winner)).read_text()
    assert "The winner is no better than average: 47.2% against 40.0%" not in page
    assert "The winner is no better than average: 40.0% against 47.2% on the test split (n = 250)." in page
    better = write_report(write_run(tmp_path / "better", rising(9), rows=ROWS, winner=winner)).read_text()
    assert "no better" not in better


def test_more_examples_than_there_are_and_a_grid_of_one_are_told(tiny_search, siblings) -> None:
    def told(search) -> str:
        return " ".join(one.message for one in plan_search(search).findings if one.level == "warning")

    rows = tiny_search().to_dict()["task"]
    plenty = type(tiny_search()).from_dict(tiny_search().to_dict() | {"splits": {"search": 999, "test": 8}})
    assert "has 4 examples for the search split, fewer than the 999 that are asked for: all are taken." in told(plenty)
    assert "test split" not in told(plenty)
    assert not any("fewer" in one.message for one in of_form(plan_search(plenty)).findings)  # so many at most
    paths = {"models": [str(siblings["math"]), str(siblings["base"])], "data_flow": {}, "task": rows}
    alone = {"models": paths["models"][:1], "searcher": {"name": "grid", "evaluations": 8}}
    grid = type(tiny_search()).from_dict(paths | alone)
    assert "grid tries one candidate within this budget" in told(grid) and "max_layers" not in told(grid)
    short = type(tiny_search()).from_dict(paths | {"data_flow": {"max_layers": 2}})
    assert "data_flow.max_layers is 2, and local folder math has 3 layers" in told(short)
