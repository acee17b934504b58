"""Pipelines on the page: their parts, their blocks, and the recipe that says what becomes of them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hubmerge.errors import AccessError, RecipeError, TaskError
from hubmerge.evaluate.task import SPLITS
from hubmerge.evolve.search import Search
from hubmerge.hub import open_source
from hubmerge.methods import METHODS
from hubmerge.recipe import Conditional, Recipe
from hubmerge.stream.plan import make_plan
from space.forms.parts import (
    ALL_ELSE,
    AS_IS,
    MERGED,
    SHAPES,
    Drawn,
    Part,
    by_blocks,
    filters,
    shape_of,
    state_of,
    turned,
)
from space.forms.recipe import apply, compose, fields, placed, spread
from space.forms.search import USUAL, SearchForm
from space.settings import Settings
from space.tabs.merge import picked
from space.tabs.pick import describe
from space.views.draw import ribbons
from space.views.models import describe_parts
from space.visitors.access import require_fit_for_strangers

pytest.importorskip("diffusers")

from pipelines import save


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three pipelines, two of which fit together, and a UNet alone."""
    root = tmp_path_factory.mktemp("pipelines")
    found = {name: save("sd15", root / name, seed) for seed, name in enumerate(("plain", "fine", "flat"))}
    found["flux"] = save("flux", root / "flux", 3)
    found["unet"] = found["fine"] / "unet"
    return found


def drawn_of(*folders: Path) -> Drawn:
    drawn = Drawn.of(open_source(str(folder)) for folder in folders)
    assert drawn is not None
    return drawn


def part_of(drawn: Drawn, name: str) -> Part:
    return next(part for part in drawn.parts if part.name == name)


def composed(method: str, made: dict[str, Path], base: str | None = None, **more: Any) -> Recipe:
    names = [str(made[name]) for name in ("plain", "fine")]
    recipe = compose(METHODS[method], names, base, drawn=drawn_of(made["plain"]), **more)
    assert recipe is not None
    return recipe


def test_what_draws_is_merged_and_all_else_is_the_base_s(made):
    base = str(made["flat"])
    for method in ("linear", "task_arithmetic"):
        recipe = composed(method, made, base)
        assert "components:" in recipe.to_yaml() and Recipe.from_yaml(recipe.to_yaml()) == recipe
        plan = make_plan(recipe)
        plan.require()
        assert [str(ref) for ref in recipe.mixed] == [base, str(made["plain"]), str(made["fine"])]
        assert str(recipe.giver) == base and picked(recipe) == [str(made["plain"]), str(made["fine"])]
    # The paper's: the base is one of those that are added up.
    summed = compose(
        METHODS["linear"], [str(made["plain"]), str(made["fine"])], str(made["plain"]), drawn=drawn_of(made["plain"])
    )
    assert len(placed(summed)) == 2 and str(summed.base_model) == str(made["plain"])
    make_plan(summed).require()
    drawing = str(ribbons(summed))
    assert drawing.count("<path") == 2


def test_a_part_is_merged_copied_or_left_and_back(made):
    recipe, drawn = composed("linear", made), drawn_of(made["plain"])
    states = {part.name: state_of(recipe, part) for part in drawn.parts}
    assert states == dict.fromkeys(states, AS_IS) | {"unet": MERGED}
    copied = turned(recipe, drawn, part_of(drawn, "text_encoder"), str(made["flat"]))
    assert {name: str(ref) for name, ref in copied.copied.items()} == {"text_encoder": str(made["flat"])}
    assert picked(copied) == picked(recipe), "what is only copied from is not merged by the next pick"
    table = str(describe_parts(copied, drawn))
    for told in ("merged of plain, fine", f"copied from {made['flat']}", "as it is in plain", "UNet2DConditionModel"):
        assert told in table
    both = turned(copied, drawn, part_of(drawn, "text_encoder"), MERGED)
    assert [(part.name, str(entry.model)) for part, entry in placed(both)] == [
        (part, str(made[name])) for part in ("text_encoder", "unet") for name in ("plain", "fine")
    ]
    make_plan(both).require()
    assert turned(copied, drawn, part_of(drawn, "text_encoder"), AS_IS) == recipe
    assert turned(copied, drawn, part_of(drawn, "unet"), MERGED) is copied, "a box that is drawn says what it says"
    with pytest.raises(RecipeError, match="At least one part must be merged"):
        turned(recipe, drawn, part_of(drawn, "unet"), AS_IS)
    # Another model that is picked is merged into each part that is merged.
    more = compose(METHODS["linear"], [*picked(both), str(made["flat"])], None, both, drawn)
    assert [len(module.models) for module in more.modules] == [3, 3]
    again = compose(METHODS["linear"], picked(copied), None, copied, drawn)
    assert again == copied


def test_a_recipe_of_whole_pipelines_stays_one_until_a_part_is_turned(made):
    names = [str(made[name]) for name in ("plain", "fine")]
    whole = compose(METHODS["linear"], names, None)
    drawn = drawn_of(made["plain"])
    assert whole.models and {
        part.name: state_of(whole, part) for part in drawn.parts if part.parameters
    } == dict.fromkeys(("text_encoder", "unet", "vae"), MERGED)
    assert compose(METHODS["linear"], [*names, str(made["flat"])], None, whole, drawn).models
    less = turned(whole, drawn, part_of(drawn, "vae"), AS_IS)
    assert [module.name for module in less.modules] == ["text_encoder", "unet"]
    make_plan(less).require()


@pytest.mark.parametrize("kind", ["plain", "flux"])
def test_a_value_varies_by_blocks_and_is_what_it_was(made, kind):
    drawn = drawn_of(made[kind])
    names = [str(made[kind]), str(made["plain"])]
    recipe = compose(METHODS["linear"], names, None, drawn=drawn)
    sides = ["IN", "M", "OUT"] if kind == "plain" else ["D", "S", "BASE"]
    assert list(filters("sides", drawn.blocks)) == sides
    for shape in SHAPES:
        varied = spread(recipe, 0, "weight", shape, drawn)
        setting = placed(varied)[0][1].parameters["weight"]
        assert shape_of(setting, drawn.blocks) == shape
        assert Recipe.from_yaml(varied.to_yaml()) == varied
        shown = fields(varied)
        assert apply(varied, shown, [field.value for field in shown]) == varied
        assert spread(varied, 0, "weight", "one", drawn) == spread(recipe, 0, "weight", "one", drawn)
    by_side = spread(recipe, 0, "weight", "sides_attention", drawn)
    shown = fields(by_side)
    at = next(place for place, field in enumerate(shown) if field.filter == f"{sides[0]}+rest")
    values = [field.value for field in shown]
    values[at] = 0.0
    changed = apply(by_side, shown, values)
    weights = placed(changed)[0][1].parameters["weight"]
    assert Conditional(f"{sides[0]}+rest", 0.0) in weights and Conditional(f"{sides[0]}+attention", 1.0) in weights
    coarse = {case.filter: case.value for case in by_blocks(weights, "attention", drawn.blocks)}
    assert coarse["attention"] == 1.0 and 0 < coarse["rest"] < 1
    fine = {case.filter: case.value for case in by_blocks(weights, "blocks", drawn.blocks)}
    assert fine[drawn.blocks[0]] == 0.5 and fine[drawn.blocks[-1]] == 1.0
    if kind == "plain":
        make_plan(changed).require()


def test_all_of_a_pipeline_by_blocks_has_a_value_for_what_has_none(made):
    drawn = drawn_of(made["plain"])
    whole = compose(METHODS["linear"], [str(made[name]) for name in ("plain", "fine")], None)
    varied = spread(whole, 0, "weight", "attention", drawn)
    assert [case.filter for case in varied.models[0].parameters["weight"]] == ["attention", "rest", None]
    assert [field.filter for field in fields(varied) if field.model == 0] == ["attention", "rest", ALL_ELSE]
    make_plan(varied).require()


def test_the_cards_tell_whether_pipelines_fit(made):
    page = SimpleNamespace(open=lambda name, token: open_source(name))
    told = describe(page, [str(made["fine"]), str(made["unet"])], str(made["plain"]), None)
    assert "All 3 draw with a UNet2DConditionModel of the same shapes" in told
    assert "StableDiffusionPipeline" in told and "unknown" not in told
    told = describe(page, [str(made["flux"])], str(made["plain"]), None)
    assert "do not fit together" in told and "FluxTransformer2DModel" in told
    assert Drawn.of([]) is None
    alone = drawn_of(made["unet"])
    assert not alone.parts and alone.blocks == drawn_of(made["plain"]).blocks
    recipe = compose(METHODS["linear"], [str(made["unet"]), str(made["unet"])], None, drawn=alone)
    assert recipe.models and describe_parts(recipe, alone) == ""


FORM = {"models": ["org/a", "org/b"], "base": None, "task": None, "file": None, "language": "", "longest": 8}
FORM |= {"picture": "", "spaces": "ps", "method": "linear", "genes": ["weight"], "popsize": 4, "seed": 1}
FORM |= {"granularity": "side_group", "searcher": USUAL, "evaluations": 8, "minutes": None, "objectives": ["score"]}
FORM |= {"search": 60, "validation": 100, "test": 300, "compared": False, "economy": False}
DRAWING = {"looks": "clip", "looker": " org/clip ", "prompts": "\n".join(f"w{n % 9} " for n in range(12))}
DRAWING |= {"steps": 2.0, "seeds": "1, 2", "guidance": "1.5", "height": " 16 ", "width": "", "negative": " "}


def test_pictures_are_asked_for_without_yaml(tmp_path):
    """As a task in YAML would ask for them: prompts that share nothing, each with each seed."""
    search = SearchForm(**FORM, **DRAWING).to_search(None)
    assert search.task["draw"] == {"steps": 2, "seeds": [1, 2], "guidance": 1.5, "height": 16}
    assert search.task["clip"] == {"model": "org/clip"} and "metric" not in search.task
    found = [row["question"] for split in SPLITS for row in search.task["examples"][split]]
    assert sorted(found) == sorted(f"w{n}" for n in range(9)) and search.splits == {
        "search": 3,
        "validation": 3,
        "test": 3,
    }
    assert Search.from_dict(search.to_dict()) == search
    rows = [{"question": f"w{n}", "answer": ("dark", "bright")[n % 2]} for n in range(12)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changed = {**FORM, **DRAWING, "looks": "classifier", "prompts": "", "file": str(tmp_path / "own.jsonl")}
    task = SearchForm(**changed).to_search(None).task
    assert task["classifier"] == {"model": "org/clip"} and task["answer"] == "{answer}" and task["name"] == "own"
    # A dataset's files are named as ever, and its words are what CLIP compares with.
    given = {"name": "set", "examples": {"repo_id": "org/set", **{split: f"{split}.jsonl" for split in SPLITS}}}
    task = SearchForm(**{**FORM, **DRAWING, "prompts": "", "task": "set"}).to_search(given).task
    assert task["examples"] == given["examples"] and "answer" not in task and "max_new_tokens" not in task


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"looker": " "}, "Name the model that looks"),
        ({"looks": "python"}, "one of classifier, clip, not 'python'"),
        ({"prompts": "w1\nw2\nw1"}, "at least 3 different prompts, one a line.* these are 2"),
        ({"prompts": "", "task": None}, "Choose a task"),
        ({"seeds": "1, -2"}, "[Ss]eed"),
        ({"seeds": "1 1"}, "each once"),
        ({"steps": 0}, "draw.steps must be a whole number of at least 1"),
        ({"steps": 1.5}, "draw.steps"),
        ({"steps": 10**9}, "draw.steps must be at most 1,000, got 1000000000"),
        ({"height": "1000000000"}, "draw.height must be at most 8,192, got 1000000000"),
        ({"guidance": "-1"}, "draw.guidance must be a number of at least 0"),
        ({"height": "20"}, "draw.height must be a multiple of 8 pixels, got 20"),
        ({"width": "0"}, "draw.width must be a whole number of at least 8"),
        ({"width": "wide"}, "draw.width"),
        ({"guidance": "1e999"}, "draw.guidance"),
    ],
)
def test_pictures_that_cannot_be_asked_for_are_refused_in_the_words_of_yaml(changes, told):
    with pytest.raises(TaskError, match=told):
        SearchForm(**{**FORM, **DRAWING, **changes}).to_search(None)


def test_a_search_is_over_the_part_that_draws(made):
    drawn = drawn_of(made["plain"], made["fine"])
    names = [str(made["plain"]), str(made["fine"])]
    task = {
        "name": "dark",
        "examples": {split: [{"question": f"w{n}", "answer": "dark"}] for n, split in enumerate(SPLITS)},
        "python": "score.py:grade",
        "draw": {"steps": 2},
    }
    values = {**FORM, "models": [*names, str(made["unet"])], "base": names[0], "task": "dark"}
    search = SearchForm(**values).to_search(task, None, drawn)
    assert list(map(str, search.models)) == [f"{names[1]}#unet", str(made["unet"])]
    added = SearchForm(**{**values, "method": "task_arithmetic"}).to_search(task, None, drawn)
    assert str(added.base_model) == f"{names[0]}#unet"
    hub = Search.from_dict({**search.to_dict(), "models": ["org/a#unet", "org/b#unet"]})
    with pytest.raises(AccessError, match="draw runs on your own machine"):
        require_fit_for_strangers(Settings(made["plain"], on_space=True), hub, task)
