"""The Space without a browser: form and recipe, drawings, tokens, settings."""

import base64
import gc
import sys
import threading
import weakref
import zlib
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from waiting import until

from hubmerge.demo import space_examples
from hubmerge.errors import AccessError, HubmergeError, NotFoundError, RecipeError, SearchError
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.studio import Studios
from hubmerge.evolve.plan import Phase, SearchPlan
from hubmerge.evolve.report.palette import COLOURS
from hubmerge.evolve.workers.footprint import Footprint
from hubmerge.hub import open_source
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.zoo.kinds import demo_search
from space.app import _examples as page_examples
from space.app import _serve as serve_page
from space.forms.filled import filled, names
from space.forms.parts import ANCHORS, LAYERS, ONE
from space.forms.recipe import apply, compose, fields, spread
from space.forms.search import SearchForm, explain_genes, gene_names, searchable
from space.forms.share import LONGEST_LINK, LONGEST_RECIPE, pack, read_file, unpack
from space.limits import Limits
from space.settings import Settings
from space.tabs import chat, evolve, merge, pick
from space.theme import HEAD
from space.upkeep import round_of
from space.views.draw import curve, interval, ribbons
from space.views.job import describe_job
from space.views.parts import note
from space.views.plan import describe_search_plan
from space.views.search import axis, results_table, seconds_left, told_apart, waiting
from space.visitors import access
from space.visitors.tables import steady
from space.wording import hub_url, short
from space.work.job import Job
from space.work.jobs import Jobs
from space.work.timed_cache import TimedCache

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
    with pytest.raises(HubmergeError, match="22 fields, and 1 values"):
        filled(SearchForm, [None])


def test_what_goes_into_a_template_is_text():
    evil = "<img src=x>\"'&\x1b\u202e"
    shown = note(evil, level=evil)
    assert "<img" not in shown and not set("\x1b\u202e") & set(shown)
    assert shown.count('"') == 2, "no quote of others ends an attribute"
    assert note(note("a"), "quiet") == '<div class="hm-quiet"><div class="hm-problem">a</div></div>'


def test_a_bar_is_full_only_at_the_end_and_what_is_waited_for_is_said():
    def at(kind="evolve", status="running", **event):
        return Job("1", "me", kind, "t", {}, status, event=event)

    for preparing in (at(), at(stage="open"), at(stage="read", done=3, total=7, unit="B")):
        assert "hm-bar unknown" in describe_job(preparing) and "valuenow" not in describe_job(preparing)
        assert "are being read" in waiting(preparing)
    read = at(stage="read", done=7, total=7, unit="B")
    assert "hm-bar unknown" in describe_job(read) and "scoring follows" in describe_job(read)
    assert "first candidate is being scored" in waiting(read) == waiting(at(stage="search", done=0, total=36))
    assert 'aria-valuenow="25"' in describe_job(at(stage="search", done=9, total=36))
    assert 'aria-valuenow="50"' in describe_job(at("merge", stage="merge", done=1, total=2, unit="B"))
    for after in (at(stage="search", done=36, total=36), at(stage="test", done=2, total=9), at("merge", stage="fetch")):
        assert "hm-bar unknown" in describe_job(after)
    assert 'aria-valuenow="100"' in describe_job(at(status="done", stage="test", done=9, total=9))
    assert "worker" in waiting(at(status="queued")) and waiting(at(status="failed")) == ""


def test_a_search_says_about_how_long_it_still_takes():
    assert axis([{}, {}]) == [1, 10] and axis([{}] * 180) == [1, 180]  # no marks between two candidates
    made = [SimpleNamespace(seconds=seconds) for seconds in (4.0, 0.0, 2.0)]  # the second was known already
    job = Job("1", "me", "evolve", "t", {}, "running", event={"stage": "search", "done": 3, "total": 33})
    assert seconds_left(job, made) == 60.0
    assert seconds_left(replace(job, status="cancelled"), made) is None
    assert seconds_left(replace(job, event={"stage": "test"}), made) is seconds_left(job, []) is None


def test_a_model_is_called_without_its_owner_where_that_tells_it_apart():
    names = ["org/base (base)", "org/math", "DARE-TIES, untuned", "n 1/2"]
    assert told_apart(names) == ["base (base)", "math", "DARE-TIES, untuned", "n 1/2"]
    assert told_apart(["org/math", "other/math"]) == ["org/math", "other/math"]
    row = {"model": "org/math", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "p_value": None}
    assert '<td title="org/math">math</td>' in results_table([row])


def test_a_picture_has_the_colours_of_a_dark_page():
    assert all(f"--{name}:{dark};" in HEAD for name, (_, dark) in COLOURS.items())


def test_the_plan_of_a_search_says_what_it_takes_and_what_stops_it():
    phases = (Phase("ps", "cmaes", (4, 64), 240), Phase("dfs", "cmaes", (96,), 120))
    demand = Demand(64, 100, 32)
    outlook = SearchPlan(phases, (), 7_100_000, 2_400_000, Footprint(5_000_000, 2_000_000), demand, 64)
    shown = describe_search_plan(Limits(disk_gb=1).on_search(outlook))
    for fact in ("240 recipes", "4 then 64 genes each", "120 paths", "7.1 MB", "7 MB", "2.4 MB", "hm-fine"):
        assert fact in shown
    shown = describe_search_plan(Limits(disk_gb=0.001).on_search(outlook))
    assert "HUBMERGE_SPACE_MAX_DISK_GB" in shown and "hm-fine" not in shown


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


def test_the_demo_page_has_something_to_ask_in_either_language():
    page = SimpleNamespace(examples=page_examples(space_examples()))
    prompts = [question["text"] for question in chat._questions(page)]
    assert len(set(prompts)) == 4 and prompts[0].isascii() and not prompts[-1].isascii()
    with pytest.raises(HubmergeError, match="'promts'; known: base_model, models, task, prompts"):
        page_examples({"promts": []})


def test_a_page_is_stopped_also_where_a_job_is_not(tmp_path, monkeypatch, capsys):
    def ends(*arguments):
        raise KeyboardInterrupt if arguments == (0.1,) else SystemExit

    monkeypatch.setattr("space.app.sleep", ends)
    monkeypatch.setattr("atexit._run_exitfuncs", ends)
    jobs = SimpleNamespace(counts=lambda: {"running": 1}, close=lambda: None, wait=lambda seconds: False)
    blocks = SimpleNamespace(is_running=True, local_url="http://127.0.0.1:7/", close=lambda verbose: None)
    processes = {"studios": Studios(), "lookers": Studios()}
    with pytest.raises(SystemExit):
        serve_page(SimpleNamespace(settings=Settings(tmp_path), jobs=jobs, blocks=blocks, **processes))
    assert capsys.readouterr().out.endswith("\nStopping what is at work ...\nStopped.\n")


def test_drawings_carry_no_markup_of_others():
    recipe = compose(METHODS["slerp"], ["org/math"], "org/base")
    assert "math" in ribbons(recipe) and ribbons(recipe).count("<path") == 2
    sliced = Recipe.from_dict(
        {"merge_method": "passthrough", "slices": [{"sources": [{"model": "org/a", "layer_range": [0, 2]}]}]}
    )
    assert ribbons(sliced).count("<path") == 1
    hostile = Recipe(merge_method="<script>alert(1)</script>", models=recipe.models)
    assert "<script>" not in ribbons(hostile)
    assert 'width="0.60"' in interval(0.0, 0.0, 0.0, 0.0, "#000")


def test_on_a_space_only_the_visitor_has_a_token(tmp_path, monkeypatch):
    monkeypatch.setattr(access.huggingface_hub, "get_token", lambda: "hf_machine")
    monkeypatch.setenv("HF_TOKEN", "hf_machine")  # restored after the Space has given it up
    home, space = Settings(tmp_path), Settings(tmp_path, on_space=True)
    login = gr.OAuthToken(token="hf_visitor", scope="", expires_at=0)
    mock = gr.OAuthToken(token="mock-oauth-token-for-local-dev", scope="", expires_at=0)
    assert access.visitor_token(space, login) == access.visitor_token(home, login) == "hf_visitor"
    assert access.visitor_token(space, None) is access.visitor_token(space, mock) is None
    assert access.visitor_token(home, None) == access.visitor_token(home, mock) == "hf_machine"
    with pytest.raises(AccessError, match="sign in"):
        access.require_token(space, mock)
    with pytest.raises(AccessError, match="no token of its own"):
        access.forget_own_token(space)
    access.forget_own_token(home)


def test_a_space_gives_up_the_token_of_its_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    monkeypatch.setattr(access.huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.utils._auth.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert access.huggingface_hub.get_token() == "hf_owner"
    access.forget_own_token(Settings(tmp_path, on_space=True))
    assert access.huggingface_hub.get_token() is None


def test_folders_of_a_space_are_out_of_reach(tmp_path):
    folder = ModelRef(str(tmp_path))
    assert access.require_hub_id(Settings(tmp_path), folder) == folder
    with pytest.raises(AccessError, match="folder of this server"):
        access.require_hub_id(Settings(tmp_path, on_space=True), folder)
    recipe = Recipe.from_dict({"merge_method": "linear", "models": [{"model": "org/a"}, {"model": str(tmp_path)}]})
    with pytest.raises(AccessError):
        access.require_hub_ids(Settings(tmp_path, on_space=True), recipe)


def test_settings_come_from_the_environment(tmp_path):
    settings = Settings.from_environment({"HUBMERGE_SPACE_DIR": str(tmp_path / "work"), "HUBMERGE_SPACE_WORKERS": "3"})
    assert settings.workers == 3 and not settings.on_space and settings.keep_hours == 0
    assert settings.secret() == settings.secret() != ""
    assert (tmp_path / "work" / "secret").stat().st_mode & 0o077 == 0
    space = Settings.from_environment(
        {"SPACE_ID": "org/space", "OAUTH_CLIENT_ID": "x", "HUBMERGE_SPACE_DIR": str(tmp_path)}
    )
    assert space.on_space and space.oauth and (space.keep_hours, space.cache_gb) == (24, 20)
    for wrong in ("many", "0"):
        with pytest.raises(HubmergeError):
            Settings.from_environment({"HUBMERGE_SPACE_DIR": str(tmp_path), "HUBMERGE_SPACE_WORKERS": wrong})


def test_the_shelf_makes_each_value_once_and_keeps_the_newest():
    shelf, made, gate = TimedCache(2, 60.0), [], threading.Event()

    def make(name):
        gate.wait()
        made.append(name)
        return name

    threads = [threading.Thread(target=shelf.get, args=("a", lambda: make("a"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    for name in ("b", "c", "a"):
        shelf.get(name, lambda name=name: make(name))
    assert made == ["a", "b", "c", "a"]
    stale = TimedCache(2, 0.0)
    stale.get("a", lambda: make("a"))
    assert stale.get("a", lambda: "fresh") == "fresh"


def test_the_shelf_lets_go_of_what_nobody_asked_for(monkeypatch):
    class Model:
        pass

    clock = [0.0]
    monkeypatch.setattr("space.work.timed_cache.time", SimpleNamespace(monotonic=lambda: clock[0]))
    models, cards = TimedCache(2, 20, in_use=True), TimedCache(2, 20)
    asked, idle, card = Model(), Model(), Model()
    kept = [weakref.ref(model) for model in (asked, idle, card)]
    models.get("asked", lambda made=asked: made)
    models.get("idle", lambda made=idle: made)
    cards.get("card", lambda made=card: made)
    del asked, idle, card
    for _ in range(3):
        clock[0] += 10
        assert models.get("asked", Model) is kept[0]()
        cards.get("card", Model)
    assert models.sweep() == 1
    gc.collect()
    assert [ref() is not None for ref in kept] == [True, False, False]


def test_what_cannot_be_made_leaves_nothing():
    shelf = TimedCache(2, 60.0)
    for number in range(100):
        with pytest.raises(KeyError):
            shelf.get(number, lambda: {}["no such model"])
    assert not shelf._locks


def test_a_round_of_upkeep_forgets_idle_models_and_old_jobs(tmp_path):
    jobs = Jobs(tmp_path, {"count": lambda work: {}}, keep_seconds=1e-9)
    job = jobs.submit("alice", "count", "old", {})
    until(lambda: not jobs.get("alice", job.id).active, "it does not end")
    page = SimpleNamespace(
        studios=Studios(),
        lookers=Studios(),
        jobs=jobs,
        sources=TimedCache(2, 60.0),
        loaded=TimedCache(2, 0.0, in_use=True),
        drawn=TimedCache(2, 60.0),
    )
    page.loaded.get("model", object)
    page.drawn.get("picture", object)
    round_of(page)
    assert not (tmp_path / job.id).exists() and jobs.of("alice") == []
    assert page.loaded.sweep() == 0 and page.loaded.get("model", lambda: "anew") == "anew"
    assert page.drawn.get("picture", lambda: "anew") != "anew"
    jobs.close()


def test_wording():
    assert short("org/name@main") == "name" and short("./folder/") == "folder"
    assert hub_url(ModelRef("org/name")).endswith("/org/name") and hub_url(ModelRef("/tmp")) is None


SEARCH = """
models: [org/a]
base_model: org/base
merge_method: task_arithmetic
genome: {genes: {weight: [0, 1]}}
task: TASK
"""


@pytest.mark.parametrize(
    "task",
    [
        "./task.yaml",
        "{examples: {folder: /etc, test: passwd.csv}}",
        "{examples: {test: private.jsonl}}",
        "{python: 'score.py:grade', examples: {repo_id: org/data, search: search.jsonl}}",
        "{judge: {base_url: 'http://127.0.0.1:1/v1', model: m}, examples: {repo_id: org/data, search: search.jsonl}}",
        "{lm_eval: gsm8k, examples: {search: 3}}",
    ],
)
def test_a_search_on_a_space_reads_no_file_runs_no_code_and_calls_no_address(tmp_path, task: str) -> None:
    with pytest.raises(AccessError):
        access.read_search(Settings(tmp_path, on_space=True), SEARCH.replace("TASK", task))


def test_a_search_on_a_space_names_only_models_of_the_hub(tmp_path) -> None:
    text = SEARCH.replace("TASK", "mgsm-ja")
    assert access.read_search(Settings(tmp_path, on_space=True), text).merge_method == "task_arithmetic"
    with pytest.raises(AccessError, match="folder of this server"):
        access.read_search(Settings(tmp_path, on_space=True), text + "tokenizer_source: /etc\n")


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


def test_what_gradio_knows_of_a_visitors_page_is_gone_through_while_it_changes() -> None:
    """As one drawing of the form does while another adds to it, or a program's call beside the browser's."""

    class Adding:
        """A block that is drawn by somebody else, who draws another at this very moment."""

        @property
        def rendered_in(self) -> None:
            mine.blocks[len(mine.blocks)] = self

    page = SimpleNamespace(default_config=BlocksConfig(SimpleNamespace(renderables=[])))
    page.default_config.blocks, page.default_config.fns = {0: Adding()}, {0: "event"}
    mine = copy(page.default_config)
    with pytest.raises(RuntimeError, match="changed size during iteration"):
        mine.attach_load_events(object())
    steady(page)
    mine, other = copy(page.default_config), copy(page.default_config)
    mine.attach_load_events(object())
    for go_through in (mine.fns.values, mine.fns.items, mine.fns.keys, lambda: mine.fns):
        for _ in go_through():
            mine.fns[len(mine.fns)] = "event"
    assert (len(mine.blocks), len(mine.fns)) == (2, 16)
    assert (len(other.blocks), len(other.fns)) == (1, 1), "each visitor has tables of their own"
