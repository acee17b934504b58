"""The Space in a process of its own, as `python app.py` serves it; for tests."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from hubmerge.localhub import LocalHub

ROOT = Path(__file__).parent.parent
SECRET = "sesame-7c1f"
"""What no stranger may be told: it lies in files beside the public page, and in its environment."""
_OF_GRADIO = (
    # Its thread, where it takes the process for a Space, which has the package `spaces`.
    re.compile(r"^Exception in thread .*\nTraceback.*(?:\n .*)*\n.*hot-reloading in Spaces$", re.M),
    # A visitor who reloads the page as a call ends: the old page asks for answers that are all told.
    re.compile(
        r"^ERROR: +Exception in ASGI application\nTraceback.*(?:\n .*)*in sse_stream(?:\n .*)*\n.*404: Not Found\n"
        r"\nThe above exception .*\n\nTraceback.*(?:\n .*)*\n.*but response already started\.$",
        re.M,
    ),
    # A control that was drawn anew: what the one before it still tells, as when it is left, comes too late.
    re.compile(
        r"^ERROR: +Exception in ASGI application\nTraceback.*(?:\n .*)*in get_fn(?:\n .*)*\nKeyError: \d+$", re.M
    ),
)
"""Tracebacks that gradio writes where nothing is wrong."""


@dataclass(frozen=True)
class Served:
    """A page in a process of its own: its address, the folder it is served from, and the one of its jobs and log."""

    url: str
    home: Path
    work: Path
    process: "subprocess.Popen[bytes]"

    @contextmanager
    def quietly(self) -> Iterator[str]:
        """The address; fails where the page writes a traceback meanwhile."""
        log = self.work / "log"
        before = log.stat().st_size
        yield self.url
        no_traceback(log.read_bytes()[before:].decode(errors="replace"))


@contextmanager
def served(environment: Mapping[str, str], work: Path, home: Path = ROOT, *, quiet: bool = True) -> Iterator[Served]:
    """A page that sees `environment` and keeps its files in `work`; `home` has its app.py.

    Fails where the process does not start, or where it wrote a traceback by the time it is stopped; not for that last
    where it is not `quiet`: gradio writes one for each value that a control of its own refuses.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        **os.environ,
        **environment,
        "HF_HOME": str(work / "hf"),
        "HUBMERGE_SPACE_DIR": str(work / "jobs"),
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    log, url = work / "log", f"http://127.0.0.1:{port}/"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=home, env=settings, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            until(lambda: process.poll() is not None or _answers(url), log.read_text, seconds=300, every=0.2)
            assert process.poll() is None, log.read_text()
            yield Served(url, home, work, process)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if quiet:
        no_traceback(log.read_text())


class Own:
    """The page as a person runs it on their own machine; started when first asked for, and anew after it was killed."""

    def __init__(self, hub: LocalHub, work: Path) -> None:
        self._hub, self._work = hub, work
        self._open, self._page = ExitStack(), None

    def page(self) -> Served:
        """The page, which is running."""
        if self._page is None:
            # One person may have all workers but one, and a test has two jobs at work.
            environment = self._hub.environment("alice") | {"HUBMERGE_SPACE_WORKERS": "3"}
            self._page = self._open.enter_context(served(environment, self._work))
        return self._page

    def kill(self) -> None:
        """Ends the page at once; its files stay."""
        self.page().process.kill()
        self.close()

    def close(self) -> None:
        """Ends the page, if it runs."""
        self._page = None
        self._open.close()


@contextmanager
def public(hub: LocalHub, root: Path) -> Iterator[Served]:
    """A Space: deployed to the Hub, started from what came down again, its owner's token and secrets lying about."""
    from huggingface_hub import HfApi

    from hubmerge.deploy import deploy

    home, work = root / "home", root / "work"
    work.mkdir()
    repo_id = deploy("alice/public-page").repo_id
    HfApi().snapshot_download(repo_id, repo_type="space", local_dir=home)
    row = {"api_key": SECRET, "question": SECRET, "answer": SECRET}
    (home / "secret.jsonl").write_text(json.dumps(row) + "\n")
    (home / "secret.yaml").write_text(json.dumps({"name": SECRET, "examples": {"search": "secret.jsonl"}}))
    (home / "secret.py").write_text(f"def score(outputs, examples):\n    raise ValueError({SECRET!r})\n")
    # Compiled files tell afterwards that it was the code in `home` that ran.
    own = {"A_SECRET": SECRET, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    with served({**hub.environment("alice"), **_of_space(hub, repo_id), **own}, work, home, quiet=False) as page:
        yield page


def _of_space(hub: LocalHub, repo_id: str) -> dict[str, str]:
    """What the Hub sets for a Space whose README asks for a login; none where gradio lacks what its login needs."""
    login = {
        "OAUTH_CLIENT_ID": "hubmerge-space",
        "OAUTH_CLIENT_SECRET": "secret of the Space",
        "OAUTH_SCOPES": "openid profile contribute-repos gated-repos",
        "OPENID_PROVIDER_URL": hub.endpoint,
    }
    return {"SYSTEM": "spaces", "SPACE_ID": repo_id} | (login if find_spec("authlib") else {})


def ended(ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What `ask` is told of a job, once the job is neither queued nor running."""
    told: list[Mapping[str, Any]] = []

    def over() -> bool:
        told[:] = [ask()]
        return told[0]["status"] not in ("queued", "running")

    until(over, lambda: told[0], every=0.2)
    return told[0]


def no_traceback(written: str) -> None:
    """Fails where a log holds a traceback that is not gradio's own."""
    for known in _OF_GRADIO:
        written = known.sub("", written)
    assert "Traceback" not in written, written


def in_this_process(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Lets `space.app` build a page in `folder`, here, and leave the process as it was."""
    # gradio makes an event loop for each lock, and closes none.
    monkeypatch.setattr("gradio.queueing.safe_get_lock", asyncio.Lock)
    monkeypatch.setattr("gradio.utils.safe_get_lock", asyncio.Lock)
    monkeypatch.setattr("gradio.utils.safe_get_stop_event", asyncio.Event)
    for name in ("serve_many", "share_memory"):
        monkeypatch.setattr(f"space.app.{name}", lambda: None)
    monkeypatch.setattr("space.app.start_upkeep", lambda page: None)
    monkeypatch.setenv("HUBMERGE_SPACE_DIR", str(folder))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
