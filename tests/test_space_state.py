"""The Space without a browser: whose rights it has, its settings, what it keeps and forgets."""

import gc
import threading
import weakref
from copy import copy
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from waiting import until

from hubmerge.demo import space_examples
from hubmerge.errors import AccessError, HubmergeError
from hubmerge.evaluate.studio import Studios
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from space.app import _examples as page_examples
from space.app import _serve as serve_page
from space.settings import Settings
from space.tabs import chat
from space.upkeep import round_of
from space.visitors import access
from space.visitors.tables import steady
from space.work.jobs import Jobs
from space.work.timed_cache import TimedCache


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
