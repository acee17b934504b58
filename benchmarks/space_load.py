"""The page under load: users who plan, merge, evolve, chat, publish - and pry into each other's things.

    python benchmarks/space_load.py --users 10 --minutes 5

An embedded Hub holds the demo zoo and a private model of each user; `python app.py` serves the page as a Space does, in
a process of its own. One user first does everything once, and what the server then holds is the base. Then all users
come, most with a Hub token each, every fifth without. At the end, when all jobs have ended, the server's memory, files
and threads are looked at again. Exit code 1: somebody saw what is another's, or something failed. Needs Linux.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from hubmerge.localhub import LocalHub

if TYPE_CHECKING:
    from space_visitor import Tally, Visitor

TESTS = Path(__file__).parent.parent / "tests"
OWNER, NAMESPACE = "zoo-keeper", "hubmerge-demo"
EVERY = 0.25
"""Seconds between two looks at the server."""
TOLERATED = 0.1
"""How far from its base memory may be in the end, as a share of it."""


@dataclass(frozen=True)
class Vitals:
    """What a process holds: bytes in memory, open files and sockets, threads."""

    resident: int
    anonymous: int
    files: int
    threads: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Vitals":
        """What it holds now."""
        with process.oneshot():
            memory = process.memory_info()
            return cls(memory.rss, memory.rss - memory.shared, process.num_fds(), process.num_threads())

    def most(self, other: "Vitals") -> "Vitals":
        """The higher of each figure."""
        return Vitals(*map(max, vars(self).values(), vars(other).values()))


@contextmanager
def watched(process: psutil.Process) -> Iterator[Callable[[], Vitals]]:
    """A function that tells the most that the process held since this began."""
    highest, ended = [Vitals.of(process)], threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY):
            highest[0] = highest[0].most(Vitals.of(process))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: highest[0]
    finally:
        ended.set()
        thread.join()


def tokens_of(users: int) -> dict[str, str | None]:
    """The names of the users and the token of each; every fifth is a visitor who has none."""
    names = [f"user-{number:02}" for number in range(users)]
    return {name: None if number % 5 == 4 else hub_token(name) for number, name in enumerate(names)}


def give_private_models(hub: LocalHub, tokens: dict[str, str | None]) -> dict[str, str]:
    """Publishes the zoo for all, and a private model for each user with a token; the models' names."""
    from huggingface_hub import HfApi

    from hubmerge.zoo.kinds import shipped
    from hubmerge.zoo.publish import publish

    publish(hub.endpoint, hub_token(OWNER), NAMESPACE)
    private = {}
    for name, token in tokens.items():
        if token:
            private[name] = f"{name}/secret-{name}"
            api = HfApi(endpoint=hub.endpoint, token=token)
            api.create_repo(private[name], private=True)
            api.upload_folder(repo_id=private[name], folder_path=shipped() / "math")
    return private


def hub_token(name: str) -> str:
    """The token of a user of the embedded Hub."""
    return f"hf_of_{name}"


def live(visitors: "list[Visitor]", minutes: float) -> None:
    """Lets all users act at once for so long, then wait for their jobs and leave."""
    until = time.monotonic() + 60 * minutes

    def stay(visitor: "Visitor") -> None:
        visitor.live(until)
        visitor.do("pry_everywhere")
        visitor.do("wait")
        visitor.do("look")
        visitor.close()

    threads = [threading.Thread(target=stay, args=(visitor,), daemon=True) for visitor in visitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def look_behind(hub: LocalHub, work: Path, folder: Path, tally: "Tally", tokens: dict[str, str | None]) -> None:
    """Notes tokens that the server wrote down, and published models that are not their owner's alone."""
    from huggingface_hub import HfApi

    for path in [work / "log", *folder.rglob("*.json*")]:
        text = path.read_text(encoding="utf-8", errors="replace")
        for name, token in tokens.items():
            if token and token in text:
                tally.count(tally.violations, f"{path.name} holds the token of {name}")
    for name in filter(tokens.get, tokens):
        mine = {model.id for model in HfApi(endpoint=hub.endpoint, token=tokens[name]).list_models(author=name)}
        unknown = mine - {repo for owner, repo in tally.published if owner == name} - {f"{name}/secret-{name}"}
        seen = {model.id for model in HfApi(endpoint=hub.endpoint, token=False).list_models(author=name)}
        for repo in sorted(unknown | seen):
            tally.count(tally.violations, f"publish: {repo} {'is public' if repo in seen else 'is not of its owner'}")


def percentile(values: list[float], percent: int) -> float:
    """The value that so many percent of the values are not above."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def report(tally: "Tally", base: Vitals, peak: Vitals, after: Vitals) -> None:
    """Prints the tables."""
    from merge import table_row

    print(table_row("what", "requests", "p50 s", "p95 s", "most s"))
    print(table_row(*["---"] * 5))
    calls = {kind: took for kind, took in sorted(tally.seconds.items()) if kind not in ("first token", "whole answer")}
    rows = {
        **calls,
        "**all but chat**": [second for took in calls.values() for second in took],
        **{f"chat: {kind}": tally.seconds[kind] for kind in ("first token", "whole answer") if tally.seconds[kind]},
    }
    for kind, took in rows.items():
        figures = (f"{value:.2f}" for value in (percentile(took, 50), percentile(took, 95), max(took)))
        print(table_row(kind, len(took), *figures))
    print()
    print(table_row("server", "base", "peak", "afterwards", "change"))
    print(table_row(*["---"] * 5))
    for label, name, unit in (
        ("resident MB", "resident", 1e6),
        ("of it not shared MB", "anonymous", 1e6),
        ("open files", "files", 1),
        ("threads", "threads", 1),
    ):
        values = [getattr(vitals, name) / unit for vitals in (base, peak, after)]
        print(table_row(label, *(f"{value:.0f}" for value in values), f"{values[2] / values[0] - 1:+.1%}"))
    print()
    counted: dict[str, Counter[str]] = {
        "jobs": tally.jobs,
        "refused, as it should be": tally.refused,
        "failures": tally.failures,
        "violations of isolation": tally.violations,
    }
    for label, counter in counted.items():
        print(f"{label}: {counter.total()}")
        for name, times in sorted(counter.items()):
            print(f"  {times} x {name}")


def main() -> None:
    """Runs the users and reports; exit code 1 where something leaked, failed or stayed in memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before each of the two looks")
    parser.add_argument("--tolerate", type=float, default=TOLERATED, help="share of the base that memory may end above")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokens = tokens_of(options.users)
    accounts = {name: hub_token(name) for name in (OWNER, "warm-up", *filter(tokens.get, tokens))}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch, "space")
        work.mkdir()
        with LocalHub(Path(scratch, "hub"), accounts, {NAMESPACE: [OWNER]}) as hub:
            quiet = {"GRADIO_ANALYTICS_ENABLED": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
            os.environ.update(hub.environment(None), HF_HOME=str(Path(scratch, "home")), **quiet)
            violated = run(options, hub, tokens, work)
    sys.exit(1 if violated else 0)


def run(options: argparse.Namespace, hub: LocalHub, tokens: dict[str, str | None], work: Path) -> bool:
    """Serves the page, lets the users come and go, prints the report; whether something is wrong."""
    sys.path.insert(0, str(TESTS))
    from merge import conditions
    from space_server import running
    from space_visitor import Tally, Visitor

    warm_up = {"warm-up": hub_token("warm-up")}
    private = give_private_models(hub, {**tokens, **warm_up})
    # The server's own token reads everything of the zoo's keeper; a Space must give it up.
    environment = {**hub.environment(OWNER), "SPACE_ID": f"{OWNER}/hubmerge"}
    folder = work / "jobs" / "jobs"
    with running(environment, work) as (page, served):
        process = psutil.Process(served.pid)
        warm = Visitor(page, folder, "warm-up", hub_token("warm-up"), private["warm-up"], Tally(), options.seed)
        warm.everything()
        warm.close()
        if warm.tally.failures:
            sys.exit(f"The warm-up failed: {dict(warm.tally.failures)}")
        time.sleep(options.settle)
        base = Vitals.of(process)
        tally = Tally()
        with watched(process) as peak:
            visitors = [
                Visitor(page, folder, name, token, private.get(name), tally, options.seed + number)
                for number, (name, token) in enumerate(tokens.items(), 1)
            ]
            live(visitors, options.minutes)
            highest = peak()
        time.sleep(options.settle)
        after = Vitals.of(process)
        look_behind(hub, work, folder, tally, tokens)
        # Now: leaving the server raises where it wrote a traceback.
        print(conditions())
        report(tally, base, highest, after)
    grown = after.resident > (1 + options.tolerate) * base.resident
    return bool(tally.violations or tally.failures or grown)


if __name__ == "__main__":
    main()
