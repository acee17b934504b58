"""The forms of the Space: recipes, searches and links, and the lists that models are picked from."""

import base64
import sys
import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hubmerge.errors import HubmergeError, NotFoundError, RecipeError, SearchError
from hubmerge.hub import open_source
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.zoo.kinds import demo_search
from space.forms.filled import filled, names
from space.forms.parts import ANCHORS, LAYERS, ONE
from space.forms.recipe import apply, compose, fields, spread
from space.forms.search import SearchForm, explain_genes, gene_names, searchable
from space.forms.share import LONGEST_LINK, LONGEST_RECIPE, pack, read_file, unpack
from space.settings import Settings
from space.tabs import evolve, merge, pick
from space.views.draw import curve

MODELS = ("org/math", "org/japanese@main")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_form_whose_recipe_reads_back(name):
    method = METHODS[name]
    recipe = compose(method, MODELS[: method.max_models or 2], "org/base")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert (recipe.base_model is None) == (method.base == "none")
    shown = fields(recipe)
    per_model = sum(parameter.per_model for parameter in method.parameters)
    assert len(shown) == per_model * len(recipe.models) + len(method.parameters) - per_model
    assert apply(recipe, shown, [field.value for field in shown]) == recipe


def test_a_slider_changes_its_own_value_only():
    recipe = compose(METHODS["ties"], MODELS, "org/base")
    shown = fields(recipe)
    at = next(i for i, field in enumerate(shown) if field.parameter.name == "weight" and field.model == 1)
    values = [field.value for field in shown]
    values[at] = 0.25
    changed = apply(recipe, shown, values)
    assert changed.models[1].parameters["weight"] == 0.25
    assert changed.models[0] == recipe.models[0] and changed.parameters == recipe.parameters


def test_picking_another_model_or_method_keeps_what_was_set():
    recipe = compose(METHODS["ties"], MODELS, "org/base")
    values = [0.3 if field.parameter.name == "weight" else field.value for field in fields(recipe)]
    recipe = apply(recipe, fields(recipe), values)
    more = compose(METHODS["dare_ties"], [*MODELS, "org/code"], "org/base", recipe)
    assert [entry.parameters["weight"] for entry in more.models] == [0.3, 0.3, 1.0]
    assert more.parameters["seed"] == 0


def test_what_the_form_cannot_show_stays_as_it_is():
    recipe = Recipe.from_yaml(
        """
        merge_method: ties
        base_model: org/base
        models:
          - {model: org/math, parameters: {weight: [0, 1, 0, 1, 0, 1, 0, 1, 0, 1], density: 0.5}}
          - {model: org/japanese, parameters: {weight: [{filter: mlp, value: [0, 1]}, {value: 1}], density: 0.5}}
        """
    )
    shown = fields(recipe)
    assert not any(field.parameter.name == "weight" for field in shown)
    changed = apply(recipe, shown, [field.value for field in shown])
    assert [entry.parameters["weight"] for entry in changed.models] == [
        entry.parameters["weight"] for entry in recipe.models
    ]


def test_a_gradient_has_a_control_a_value_and_one_value_becomes_a_gradient_and_back():
    recipe = compose(METHODS["ties"], MODELS, "org/base")
    by_layer = spread(recipe, 1, "weight", LAYERS)
    assert by_layer.models[1].parameters["weight"] == (1.0,) * ANCHORS
    assert by_layer.models[0] == recipe.models[0]
    shown = fields(by_layer)
    places = [at for at, field in enumerate(shown) if field.depth is not None]
    assert [shown[at].depth for at in places] == [0, 0.25, 0.5, 0.75, 1]
    values = [field.value for field in shown]
    values[places[-1]] = 0.2
    changed = apply(by_layer, shown, values)
    assert changed.models[1].parameters["weight"] == (1.0, 1.0, 1.0, 1.0, 0.2)
    assert Recipe.from_yaml(changed.to_yaml()) == changed
    assert spread(changed, 1, "weight", ONE).models[1].parameters["weight"] == 0.84
    assert apply(changed, fields(changed), [field.value for field in fields(changed)]) == changed
    assert "from 1 at the first layer to 0.2 at the last" in curve([1, 1, 0.2], 0, 2, "#000")


def test_a_recipe_comes_back_from_its_link():
    recipe = compose(METHODS["ties"], MODELS, "org/base")
    assert Recipe.from_yaml(unpack(pack(recipe.to_yaml()))) == recipe
    assert set(pack(recipe.to_yaml())) <= set(map(chr, range(48, 123))) | {"-"}
    with pytest.raises(RecipeError, match="not valid YAML"):
        pack("merge_method: [")
    many = {"merge_method": "linear", "models": [{"model": f"org{n * 7919 % 99991}/m{n}"} for n in range(3000)]}
    with pytest.raises(RecipeError, match="too long for a link"):
        pack(Recipe.from_dict(many).to_yaml())


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(raw)).decode()


@pytest.mark.parametrize(
    "link", ["", "%", "AAAA", "x" * (LONGEST_LINK + 1), _packed(b"a" * 5_000_000), _packed(b"\xff"), _packed(b"a: 1")]
)
def test_a_link_that_holds_no_recipe_is_refused(link):
    with pytest.raises(RecipeError) as refused:
        unpack(link)
    assert len(str(refused.value)) < 200


def test_a_file_that_holds_no_recipe_is_refused(tmp_path):
    for raw, said in ((b"\xff", "not UTF-8"), (b"a" * (LONGEST_RECIPE + 1), "larger than 0.2 MB"), (b"a: 1", "merge_")):
        (tmp_path / "recipe.yaml").write_bytes(raw)
        with pytest.raises(RecipeError, match=said):
            read_file(tmp_path / "recipe.yaml")


def test_the_base_is_not_merged_into_itself():
    assert compose(METHODS["ties"], ["org/base"], "org/base") is None
    assert compose(METHODS["ties"], [], None) is None
    assert len(compose(METHODS["linear"], ["org/base", "org/math"], "org/base").models) == 2


def test_models_fit_together_only_where_all_can_be_read(siblings, monkeypatch):
    known = {"org/base": siblings["base"], "org/math": siblings["math"]}

    def opened(name, token):
        if name not in known:
            raise NotFoundError("there is no such repository.")
        return open_source(ModelRef.parse(str(known[name])))

    page = SimpleNamespace(open=opened)
    monkeypatch.setattr(pick, "similar_models", lambda repo_id, token: ["org/math"])
    assert "All 2 are LlamaForCausalLM" in pick.describe(page, ["org/math"], "org/base", None)
    shown = pick.describe(page, ["org/math", "org/maths"], "org/base", None)
    assert "1 of 3 cannot be read" in shown and "hm-fine" not in shown
    assert "there is no such repository. Did you mean org/math?" in shown
    assert "cannot be read" not in pick.describe(page, ["org/maths"], None, None)  # its own card says it


def test_a_stage_of_the_recipe_is_picked_but_has_no_card(siblings):
    recipe = Recipe.from_yaml(
        """
        stages: [{name: ja, merge_method: linear, models: [{model: org/japanese}]}]
        merge_method: linear
        models: [{model: stage:ja}, {model: org/math}]
        """
    )
    assert merge.picked(recipe) == ["stage:ja", "org/math"]
    page = SimpleNamespace(open=lambda name, token: open_source(ModelRef.parse(str(siblings["math"]))))
    assert pick.describe(page, ["stage:ja", "org/math"], "stage:ja", None).count("<article") == 1
    assert "Nothing chosen yet" in pick.describe(page, ["stage:ja"], None, None)


def test_a_form_is_one_value_and_a_search():
    given = {"models": ["org/base", "org/math"], "base": "org/base", "task": "ja-word-problems", "file": None}
    budget = {"searcher": "usual", "evaluations": 24.0, "popsize": 6.0, "minutes": None, "seed": 3.0}
    asked = {"spaces": "ps", "method": "ties", "genes": ["weight"], "granularity": "model", "objectives": ["score"]}
    rest = {
        "language": "",
        "longest": 64,
        "picture": None,
        "search": 6,
        "validation": 6,
        "test": 6,
        "compared": False,
        "economy": True,
    }
    drawing = ("looks", "looker", "prompts", "seeds", "guidance", "height", "width", "negative")
    rest |= {**dict.fromkeys(drawing, ""), "steps": None}
    values = {**given, **budget, **asked, **rest}
    form = filled(SearchForm, [values[name] for name in names(SearchForm)])
    search = form.to_search(None)
    assert (search.searcher.evaluations, search.merge_method, len(search.models)) == (24, "ties", 1)
    assert search.base_model == ModelRef("org/base") and search.economy.racing
    paths = replace(form, spaces="dfs", economy=False)
    assert (search.searcher.name, paths.to_search(None).searcher.name) == ("cmaes", "edits")
    assert replace(paths, searcher="ga").to_search(None).searcher.name == "ga"
    with pytest.raises(SearchError, match="Choose at least one model"):
        replace(form, models=["org/base"]).to_search(None)
    for wrong, said in (({"seed": "x"}, "`seed` must be a number"), ({"genes": "weight"}, "`genes` must be a list")):
        with pytest.raises(HubmergeError, match=said):
            filled(SearchForm, [{**values, **wrong}[name] for name in names(SearchForm)])
    with pytest.raises(HubmergeError, match="31 fields, and 1 values"):
        filled(SearchForm, [None])


def test_the_page_says_what_a_search_lacks(tmp_path, monkeypatch):
    page = SimpleNamespace(settings=Settings(tmp_path), examples=SimpleNamespace(task=None), jobs=None)
    search = demo_search()
    monkeypatch.setitem(sys.modules, "evotorch", None)
    for asked in (
        lambda: evolve.plan_search(page, search, None),
        lambda: evolve.submit_search(page, "me", search, None),
    ):
        with pytest.raises(
            HubmergeError, match=r"needs evotorch, not installed here; run pip install 'hubmerge\[evolve\]'"
        ):
            asked()


def test_every_gene_is_explained():
    for name in searchable():
        explained = explain_genes(METHODS[name])
        assert all(f"{gene}: " in explained for gene in gene_names(METHODS[name]))


def test_a_choice_keeps_its_place_in_the_list() -> None:
    """What a visitor picks while an answer is on its way is a place in the list as it was."""
    before: list[str] = ["first"]
    for found in (["a", "b", "c"], ["c"], [], ["d", "a"]):
        now = pick.offered(found, ["kept"], before)
        assert now[: len(before)] == before and {*found, "kept"} <= set(now) and len(set(now)) == len(now)
        before = now
    for number in range(60):  # a list that would grow for ever begins anew, and is never shorter than it was
        found = [f"m{number}.{n}" for n in range(20)]
        now = pick.offered(found, ["kept"], before)
        assert {*found, "kept"} <= set(now) and len(before) <= len(now) <= pick.MOST_OFFERED
        before = now


def test_a_list_grows_by_the_answers_and_not_by_the_keys() -> None:
    """The Hub answers the keys of a slow typist at once and in another order; each visitor has a list of their own."""
    lists = pick.Lists(["first"])
    whole = lists.grown("one", ["a", "b", "c"], [])
    assert lists.grown("one", ["b"], []) == whole == ["first", "a", "b", "c"]  # to the key before
    assert lists.grown("two", ["b"], ["x"]) == ["first", "b", "x"]
    assert lists.grown("one", ["d"], ["x"]) == [*whole, "d", "x"]
    for number in range(pick.MOST_VISITORS):
        lists.grown(f"visitor {number}", ["a"], [])
    assert lists.grown("one", ["b"], []) == ["first", "b"]  # forgotten
