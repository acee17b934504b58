"""A user of the page for the load test: what they do, how long it takes them, and what they must never see.

It imports gradio_client and with it huggingface_hub, so the environment must point at the Hub before.
"""

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client
from gradio_client.exceptions import AppError

ZOO = "hubmerge-demo"
EXPERTS = [f"{ZOO}/zoo-{name}" for name in ("math", "math-2", "japanese", "errands")]
LONGEST = 120.0
"""Seconds after which an answer counts as missing."""
LOOK_EVERY = 0.5
"""Seconds between two looks at a job that is waited for."""
SEARCH = """
base_model: {zoo}/zoo-base
models: [{own}, {zoo}/zoo-japanese]
merge_method: task_arithmetic
genome: {{genes: {{weight: [0, 2]}}}}
task:
  name: load
  examples: {{repo_id: {zoo}/ja-word-problems, search: search.jsonl, validation: validation.jsonl, test: test.jsonl}}
  metric: exact_number
  max_new_tokens: 16
splits: {{search: 8, validation: 8, test: 8}}
searcher: {{name: {searcher}, popsize: 4, evaluations: 8, seed: {seed}}}
"""
FREQUENT = {
    "look": 30,
    "plan": 12,
    "find": 8,
    "talk": 18,
    "merge": 8,
    "evolve": 3,
    "cancel": 4,
    "publish": 4,
    "pry": 12,
}
"""How often a user does what, as weights."""

Way = tuple[str, str, Callable[[], Any]]
"""A way to pry: its name, what a refusal says, and the attempt."""


@dataclass
class Tally:
    """What all users met. Safe to write from any thread."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    published: list[tuple[str, str]] = field(default_factory=list)
    secrets: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    owned: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, kind: str, seconds: float) -> None:
        """Notes an answer and the time it took."""
        with self._lock:
            self.seconds[kind].append(seconds)

    def count(self, what: Counter[str], name: str) -> None:
        """Adds one to an entry of one of the counters."""
        with self._lock:
            what[name] += 1

    def own(self, user: str, job: str) -> None:
        """Notes whose a job is."""
        with self._lock:
            self.owned[user].append(job)

    def hide(self, user: str, *secrets: str | None) -> None:
        """Notes words that nobody else may be shown."""
        with self._lock:
            self.secrets[user].update(filter(None, secrets))

    def leaked(self, user: str, text: str) -> str | None:
        """What `text`, shown to `user`, tells of somebody else: a job's id, a token or a private model."""
        with self._lock:
            others = [secret for name, secrets in self.secrets.items() if name != user for secret in secrets]
        return next((secret for secret in others if secret in text), None)

    def another(self, user: str, dice: random.Random) -> tuple[str, str] | None:
        """The name and a job of somebody else, where anybody has one."""
        with self._lock:
            found = [(name, job) for name, jobs in self.owned.items() if name != user for job in jobs]
        return dice.choice(found) if found else None


class Visitor:
    """One user: a session of the page, a Hub token or none, jobs, and a private model where there is a token.

    `folder` is where the server keeps all jobs; only `pry` uses it.
    """

    def __init__(
        self, page: str, folder: Path, name: str, token: str | None, private: str | None, tally: Tally, seed: int
    ) -> None:
        self.page, self.folder, self.tally, self.dice = page, folder, tally, random.Random(seed)
        self.name, self.token, self.private = name, token, private
        self.jobs: dict[str, tuple[str, str]] = {}  # id -> (kind, status)
        self.doomed: set[str] = set()  # publishing that must fail
        began = time.perf_counter()
        self.client = Client(
            page,
            verbose=False,
            analytics_enabled=False,
            download_files=False,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            httpx_kwargs={"timeout": LONGEST},
        )
        tally.took("open the page", time.perf_counter() - began)
        tally.hide(name, token, private)
        self.panels = self._panels()

    def live(self, until: float) -> None:
        """Does one thing after another, with pauses to think, until that time (time.monotonic)."""
        while time.monotonic() < until:
            (action,) = self.dice.choices(list(FREQUENT), list(FREQUENT.values()))
            self.do(action)
            time.sleep(self.dice.uniform(0.3, 2.0))

    def everything(self) -> None:
        """Does each thing once and waits for what it starts."""
        for action in ("merge", "evolve", "wait", "publish", "wait", "merge", "cancel", *FREQUENT, "wait"):
            self.do(action)
        for model in (*EXPERTS, *self._done()):
            self.talk(model)

    def do(self, action: str) -> None:
        """Does one thing; what goes wrong is noted and goes no further."""
        try:
            getattr(self, action)()
        except AppError as error:
            if "jobs under way" in str(error):
                self.tally.count(self.tally.refused, "too many jobs under way")
            else:
                self.tally.count(self.tally.failures, f"{action}: {error}"[:160])
        except NoAnswer:
            self.tally.count(self.tally.failures, f"{action}: no answer in {LONGEST:.0f} s")
        except Exception as error:
            self.tally.count(self.tally.failures, f"{action}: {type(error).__name__}: {error}"[:160])

    def close(self) -> None:
        """Ends the session."""
        self.client.close()
        for pool in (self.client.executor, self.client.helper_executor, self.client.stream_executor):
            pool.shutdown(wait=False, cancel_futures=True)

    # What a user does.

    def look(self) -> None:
        """Redraws the three panels of jobs, as a tick of the page does, and asks for the own jobs."""
        for panel in self.panels:
            # A program's jobs are filed under its token, the page's under the browser's key.
            self._ask("list jobs", f"token {self.token}" if self.token else None, fn_index=panel)
        for job in list(self.jobs)[-3:]:
            self._told(job)

    def plan(self) -> None:
        told = self._ask("plan", self._recipe(), api_name="/plan")
        if not told["tensors"] or told["problems"]:
            self.tally.count(self.tally.failures, f"plan: {told['problems'] or 'no tensors'}")

    def find(self) -> None:
        found = self._ask("search", "secret", api_name="/search")
        if self.private and self.private not in found:
            self.tally.count(self.tally.failures, "search: the own private model is missing")
        self._ask("search", self.dice.choice(["zoo", "math", "merged"]), api_name="/search")

    def merge(self) -> None:
        self._start("merge", self._recipe(), api_name="/merge")

    def evolve(self) -> None:
        searcher = self.dice.choice(["cmaes", "ga", "random"])
        own = self.private or EXPERTS[0]
        text = SEARCH.format(zoo=ZOO, own=own, searcher=searcher, seed=self.dice.randrange(100))
        self._start("evolve", text, api_name="/evolve")

    def publish(self) -> None:
        if self.token and (done := self._done()):
            repo = f"{self.name}/merged-{len(self.jobs)}"
            self._start("publish", self.dice.choice(done), repo, api_name="/publish")
            self.tally.published.append((self.name, repo))
            self.tally.hide(self.name, repo)

    def cancel(self) -> None:
        if under_way := [job for job, (_, status) in self.jobs.items() if status in ("queued", "running")]:
            told = self._ask("cancel", under_way[-1], api_name="/cancel")
            self._note(under_way[-1], told)

    def talk(self, model: str | None = None) -> None:
        """Chats with a model of the zoo, the own private one or a merged one; notes when the first words come."""
        model = model or self.dice.choice([*EXPERTS, *([self.private] if self.private else []), *self._done()[-3:]])
        began, first = time.perf_counter(), None
        question = f"Anna has {self.dice.randrange(2, 9)} apples and buys {self.dice.randrange(2, 9)} more."
        job = self.client.submit(model, question, max_new_tokens=48, api_name="/chat")
        while not job.done() and time.perf_counter() - began < LONGEST:
            if first is None and any(job.outputs()):
                first = time.perf_counter() - began
            time.sleep(0.01)
        said = job.result(timeout=1)
        self.tally.took("whole answer", time.perf_counter() - began)
        self.tally.took("first token", first or time.perf_counter() - began)
        if not said:
            self.tally.count(self.tally.failures, "chat: an empty answer")
        self._check("chat", said)

    def wait(self) -> None:
        """Waits until every own job has ended; notes how."""
        end = time.monotonic() + 10 * LONGEST
        while waiting := [job for job, (_, status) in self.jobs.items() if status in ("queued", "running")]:
            if time.monotonic() > end:
                raise NoAnswer
            for job in waiting:
                self._told(job)
            time.sleep(LOOK_EVERY)

    def pry(self) -> None:
        """Tries one way to reach what is somebody else's; it must be refused."""
        if found := self.tally.another(self.name, self.dice):
            self._try(found[0], self.dice.choice(self._ways(*found)))

    def pry_everywhere(self) -> None:
        """Tries every way once."""
        if found := self.tally.another(self.name, self.dice):
            for way in self._ways(*found):
                self._try(found[0], way)
            if self.token and self._done():
                self._start("publish", self._done()[-1], f"{found[0]}/stolen", api_name="/publish", doomed=True)

    def _ways(self, other: str, job: str) -> list[Way]:
        """What can be tried to reach the job of another user, their models and their files."""
        model, no_job, hidden = f"{other}/secret-{other}", "no job", "no such repository"
        recipe = json.dumps({"merge_method": "linear", "models": [{"model": model}]})
        ways: list[Way] = [
            ("job", no_job, lambda: self._call(job, api_name="/job")),
            ("cancel", no_job, lambda: self._call(job, api_name="/cancel")),
            ("chat with a job", hidden, lambda: self._call(job, "hello", api_name="/chat")),
            ("chat with a job's key", no_job, lambda: self._call(f"job:{job}", "hello", api_name="/chat")),
            ("chat with a private model", hidden, lambda: self._call(model, "hello", api_name="/chat")),
            ("plan with a private model", hidden, lambda: self._call(recipe, api_name="/plan")),
            ("file", "403", lambda: self._file(job)),
        ]
        if self.token:
            ways.append(("publish a job", no_job, lambda: self._call(job, f"{self.name}/taken", api_name="/publish")))
        return ways

    def _try(self, other: str, way: Way) -> None:
        name, sentence, attempt = way
        try:
            got = attempt()
        except AppError as error:
            self.tally.count(self.tally.refused if sentence in str(error) else self.tally.failures, f"pry: {name}")
        else:
            self.tally.count(self.tally.violations, f"{name}: {self.name} got {got!r:.80} of {other}")

    # How it is asked and what comes back.

    def _call(self, *arguments: Any, **where: Any) -> Any:
        return self.client.submit(*arguments, **where).result(timeout=LONGEST)

    def _ask(self, kind: str, *arguments: Any, **where: Any) -> Any:
        began = time.perf_counter()
        answer = self._call(*arguments, **where)
        self.tally.took(kind, time.perf_counter() - began)
        self._check(kind, answer)
        return answer

    def _check(self, kind: str, answer: Any) -> None:
        leaked = self.tally.leaked(self.name, answer if isinstance(answer, str) else json.dumps(answer, default=str))
        if leaked:
            self.tally.count(self.tally.violations, f"{kind}: {self.name} was shown {leaked}")

    def _start(self, kind: str, *arguments: Any, api_name: str, doomed: bool = False) -> None:
        job = self._ask(kind, *arguments, api_name=api_name)
        self.jobs[job] = (kind, "queued")
        self.tally.own(self.name, job)
        self.tally.hide(self.name, job)
        if doomed:
            self.doomed.add(job)

    def _told(self, job: str) -> None:
        self._note(job, self._ask("job", job, api_name="/job"))

    def _note(self, job: str, told: dict[str, Any]) -> None:
        kind, before = self.jobs[job]
        now = told["status"]
        self.jobs[job] = (kind, now)
        if before == now or now in ("queued", "running"):
            return
        if job in self.doomed and now in ("done", "failed"):
            wrote = f"publish: {self.name} wrote {told['title']}"
            refused = "pry: publish to another's account"
            self.tally.count(*((self.tally.violations, wrote) if now == "done" else (self.tally.refused, refused)))
            return
        self.tally.count(self.tally.jobs, f"{kind} {now}")
        if now not in ("done", "cancelled"):
            self.tally.count(self.tally.failures, f"{kind} job {now}: {told['error']}"[:160])

    def _done(self) -> list[str]:
        return [job for job, (kind, now) in self.jobs.items() if now == "done" and kind != "publish"]

    def _recipe(self) -> str:
        method = self.dice.choice(["linear", "task_arithmetic", "ties", "dare_ties"])
        models = [self.private or EXPERTS[0], self.dice.choice(EXPERTS[1:])]
        entries = [{"model": model, "parameters": {"weight": round(self.dice.uniform(0.2, 1), 2)}} for model in models]
        base = {} if method == "linear" else {"base_model": f"{ZOO}/zoo-base"}
        return json.dumps({"merge_method": method, "models": entries, **base})  # JSON is YAML

    def _file(self, job: str) -> str:
        """What the server sends of a file in a job's folder; AppError where it refuses."""
        answer = httpx.get(f"{self.page}gradio_api/file={self.folder}/{job}/job.json", headers=self.client.headers)
        if answer.status_code != 200:
            raise AppError(str(answer.status_code))
        return answer.text

    def _panels(self) -> list[int]:
        """The handlers that redraw the panels of jobs; the page keeps them from programs, so they are opened here."""
        config = self.client.config
        parts = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        wanted = {f"hm-{kind}-job" for kind in ("merge", "evolve", "publish")}
        found = []
        for handler in config["dependencies"]:
            on_tick = any(event == "tick" for _, event in handler["targets"])
            if on_tick and wanted & {parts.get(part) for part in handler["outputs"]}:
                self.client.endpoints[handler["id"]].is_valid = True
                found.append(handler["id"])
        assert len(found) == len(wanted), found
        return found
