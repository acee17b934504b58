"""Twelve strangers on one page, nine of them up to no good: nobody else waits, and nothing of the server is read."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi
from localhubtools import hold_delays
from space_server import SECRET, ended
from test_evaluate_apart import BOMBS
from test_space_endpoints import UNSAID, WRONG
from test_space_hostile import BOMB, MODELS
from waiting import until

from hubmerge.localhub import Fault

pytestmark = pytest.mark.slow

GOOD = [f"alice/strangers-{name}" for name in ("base", "math", "japanese")]
SLOW, LOOPS, DOUBLING = (f"alice/strangers-{name}" for name in ("slow", "loops", "doubling"))
ROWS = [{"question": f"w{n} {n % 7}", "answer": str(n % 7)} for n in range(30)]
DEFAULTS = {"chat": (None, None, "", 0.0, 4, ""), "publish": (None, None, True, False, False)}
TASKS: list[Any] = [
    *(
        {"examples": {"repo_id": given, "search": "secret.jsonl"}, "prompt": "{api_key}"}
        for given in (0, False, [], {}, "", None, "../..", "/")
    ),
    {"examples": {"search": "secret.jsonl"}},
    {"examples": {"folder": ".", "search": "secret.jsonl"}},
    {"examples": {"search": ROWS}, "python": "secret.py:score"},
    {"examples": {"search": ROWS}, "judge": {"base_url": "http://169.254.169.254/v1", "model": "x"}},
    {"lm_eval": {"task": "x", "include_path": "."}, "examples": {"search": "test"}},
    "secret.yaml",
    "./secret.jsonl",
]


class Person:
    """Somebody at an address of their own, who calls the page's endpoints; puts all that is answered into `heard`."""

    def __init__(self, url: str, number: int, heard: list[str]) -> None:
        self.heard = heard
        self.http = httpx.Client(
            base_url=f"{url}gradio_api/", timeout=1200, headers={"X-Forwarded-For": f"203.0.113.{number}"}
        )
        config = self.http.get("../config").json()
        self.endpoints = {
            event["api_name"]: event for event in config["dependencies"] if event["api_visibility"] == "public"
        }
        self.session = f"person {number}"

    def begin(self, name: str, *values: Any, session: str | None = None, token: str | None = None) -> str:
        """Begins a call, and does not wait for it; arguments that are not given keep their defaults."""
        event = self.endpoints[name]
        rest = DEFAULTS.get(name, ())[len(values) :]
        body = json.dumps(
            {"fn_index": event["id"], "data": [*values, *rest], "session_hash": session or self.session},
        )
        headers = {"content-type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        answer = self.http.post("queue/join", content=body, headers=headers)
        self.heard.append(answer.text)
        assert answer.status_code == 200, answer.text
        return answer.json()["event_id"]

    def ask(self, name: str, *values: Any, token: str | None = None) -> tuple[bool, Any]:
        """Whether a call went well, and the result or what is said instead."""
        begun = self.begin(name, *values, token=token)
        with self.http.stream("GET", "queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                self.heard.append(line)
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed" and message["event_id"] == begun:
                    output = message["output"]
                    return message["success"], output["data"][0] if message["success"] else output["error"]
        raise AssertionError(f"{name} was not answered")

    def get(self, name: str, *values: Any) -> Any:
        well, told = self.ask(name, *values)
        assert well, told
        return told

    def refused(self, name: str, *values: Any, token: str | None = None) -> str:
        well, told = self.ask(name, *values, token=token)
        said = str(told)
        assert not well and said and len(said) < 1_000 and "\n" not in said.strip(), (name, said[:2_000])
        assert not UNSAID.search(said), said
        return said

    def finish(self, job: str) -> dict[str, Any]:
        return dict(ended(lambda: self.get("job", job)))


def recipe(*models: str) -> str:
    return json.dumps({"merge_method": "linear", "models": [{"model": model} for model in models]})


def search(task: Any, base: str = GOOD[0]) -> str:
    return json.dumps(
        {
            "models": GOOD[1:],
            "base_model": base,
            "merge_method": "task_arithmetic",
            "genome": {"genes": {"weight": [0, 2]}},
            "task": task,
            "searcher": {"name": "cmaes", "popsize": 4, "evaluations": 8},
            "baselines": [],
        }
    )


@pytest.fixture(scope="module")
def page(public_page, siblings, tmp_path_factory) -> tuple[str, Path]:
    """A page for strangers, with secrets in its folder and its environment."""
    from transformers import AutoTokenizer

    api, root = HfApi(), tmp_path_factory.mktemp("strangers")
    templates = {LOOPS: BOMBS["loops"][0], DOUBLING: BOMBS["doubling"][0]}
    folders = dict(zip(GOOD, (siblings[name] for name in ("base", "math", "japanese")), strict=True))
    for repo_id in (SLOW, LOOPS, DOUBLING):
        folders[repo_id] = shutil.copytree(siblings["math"], root / repo_id.rpartition("/")[2])
        if repo_id in templates:
            tokenizer = AutoTokenizer.from_pretrained(folders[repo_id])
            tokenizer.chat_template = templates[repo_id]
            tokenizer.save_pretrained(folders[repo_id])
    for repo_id, folder in folders.items():
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo_id)
    return public_page.url, public_page.work


def test_twelve_strangers_at_once(page, hub, monkeypatch: pytest.MonkeyPatch) -> None:
    url, work = page
    heard: list[str] = []
    people = [Person(url, number, heard) for number in range(1, 13)]
    _, go_on = hold_delays(monkeypatch)

    def silent(request: Any) -> Fault | None:
        return Fault(delay=1) if SLOW in request.url.path and "safetensors" in request.url.path else None

    hub.faults = silent
    over, slow = threading.Event(), []

    def merges(me: Person) -> None:
        assert me.get("plan", recipe(*GOOD))["output_bytes"] > 0
        job = me.get("merge", recipe(*GOOD))
        assert (told := me.finish(job))["status"] == "done", told
        assert isinstance(me.get("chat", job, "w1 2 w3", "", 0.0, 4), str)

    def talks(me: Person) -> None:
        for model in GOOD:
            assert isinstance(me.get("chat", model, "w1 2 w3", "", 0.0, 4), str)
            assert me.get("plan", recipe(model, GOOD[0]))["output_bytes"] > 0
        assert (told := me.finish(me.get("merge", recipe(*GOOD[1:]))))["status"] == "done", told

    def searches(me: Person) -> None:
        task = {"examples": {"search": ROWS[:10], "validation": ROWS[10:20], "test": ROWS[20:]}, "max_new_tokens": 4}
        assert (told := me.finish(me.get("evolve", search(task))))["status"] == "done", told

    def bombs(me: Person, model: str) -> None:
        said = me.refused("chat", model, "w1")
        assert "more than 1 second" in said or "too much memory" in said, said

    def bombs_a_job(me: Person) -> None:
        task = {"examples": {"search": ROWS[:10], "test": ROWS[10:]}, "max_new_tokens": 4}
        assert (told := me.finish(me.get("evolve", search(task, LOOPS))))["status"] == "failed", told
        assert "chat template" in told["error"]

    def reads_files(me: Person) -> None:
        for task in TASKS:
            assert SECRET not in me.refused("evolve", search(task))

    def sends_much(me: Person) -> None:
        for text in (BOMB, "[" * 50_000, "a: " + "x" * 10_000_000, recipe(*[GOOD[0]] * 100_000)):
            for name in ("plan", "merge", "evolve"):
                me.refused(name, text)
        me.refused("chat", GOOD[0], "w1 " * 1_000_000)

    def sends_nonsense(me: Person) -> None:
        for value in (value for value in WRONG.values() if not isinstance(value, str)):
            for name in ("plan", "merge", "evolve", "job", "cancel", "chat", "publish", "search"):
                me.refused(name, *[value] * len(me.endpoints[name]["inputs"]))

    def names_files(me: Person) -> None:
        for model in MODELS.values():
            for name, values in (
                ("plan", [recipe(model)]),
                ("merge", [recipe(model)]),
                ("evolve", [search("mgsm-ja", model)]),
                ("chat", [model, "hello"]),
                ("publish", [model, "alice/x"]),
                ("job", [model]),
            ):
                me.refused(name, *values)
            assert isinstance(me.get("search", model[:5_000]), list)

    def invents_tokens(me: Person) -> None:
        for number in range(30):
            well, told = me.ask("merge", recipe("alice/nothing", GOOD[0]), token=f"hf_{number:034}")
            assert well or "the most this page takes on" in told, told

    def floods(me: Person) -> None:
        """Has jobs and questions under way for as long as others are there: they wait for a Hub that says nothing."""
        for number in range(20):
            me.begin("chat", SLOW, "w1", session=f"flood {number}")
        slow.extend(me.get("merge", recipe(SLOW, GOOD[0])) for _ in range(3))
        me.refused("merge", recipe(SLOW))
        over.wait()

    def until_over(act: Callable[..., None], *more: Any) -> Callable[[Person], None]:
        def act_on(me: Person) -> None:
            act(me, *more)
            while not over.wait(2):  # the machine is there to be shared, not to be heated
                act(me, *more)

        return act_on

    honest = [merges, talks, searches]
    hostile = [
        floods,
        bombs_a_job,
        until_over(bombs, LOOPS),
        until_over(bombs, DOUBLING),
        *map(until_over, (reads_files, sends_much, sends_nonsense, names_files, invents_tokens)),
    ]
    assert len(honest) + len(hostile) == len(people)
    flooder = people[3]
    with ThreadPoolExecutor(len(people)) as pool:
        try:
            others = [pool.submit(act, me) for act, me in zip(hostile, people[3:], strict=True)]
            until(lambda: len(slow) == 3 or any(one.done() for one in others[:1]), "the flood does not begin")
            mine = [pool.submit(act, me) for act, me in zip(honest, people, strict=False)]
            for one in mine:
                one.result()
            # All that while one stranger's jobs and questions went on, and still do; none of the loops has ended.
            assert {flooder.get("job", job)["status"] for job in slow} == {"running", "queued"}
            for one in [others[0], *others[2:]]:
                assert not one.done(), one.exception()
        finally:
            over.set()
            go_on.set()
            hub.faults = None
        for one in others:
            one.result()
    pried = people[0]
    job = pried.get("merge", recipe(*GOOD))
    for name, values in (("job", [job]), ("cancel", [job]), ("chat", [job, "w1"]), ("publish", [job, "bob/x"])):
        people[1].refused(name, *values)
    assert pried.finish(job)["status"] == "done"
    told = "\n".join(heard)
    assert SECRET not in told and "hf_alice" not in told and str(work) not in told
