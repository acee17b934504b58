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
from contextlib import contextmanager
from dataclasses import dataclass
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
)
"""Tracebacks that gradio writes where nothing is wrong."""


@contextmanager
def served(environment: Mapping[str, str], work: Path) -> Iterator[str]:
    """The address of a page; see `running`."""
    with running(environment, work) as (url, _):
        yield url


@contextmanager
def running(
    environment: Mapping[str, str], work: Path, root: Path = ROOT, *, quiet: bool = True
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Address and process of a page that sees `environment` and keeps its files in `work`; `root` has its app.py.

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
            [sys.executable, "app.py"], cwd=root, env=settings, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            until(lambda: process.poll() is not None or _answers(url), log.read_text, seconds=300, every=0.2)
            assert process.poll() is None, log.read_text()
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if quiet:
        no_traceback(log.read_text())


@dataclass(frozen=True)
class Public:
    """A page for strangers: its address, the folder it is served from, and the one of its jobs and log."""

    url: str
    home: Path
    work: Path

    @contextmanager
    def quietly(self) -> Iterator[str]:
        """The address; fails where the page writes a traceback meanwhile."""
        log = self.work / "log"
        before = log.stat().st_size
        yield self.url
        no_traceback(log.read_bytes()[before:].decode(errors="replace"))


@contextmanager
def public(hub: LocalHub, root: Path) -> Iterator[Public]:
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
    own = {"SPACE_ID": repo_id, "A_SECRET": SECRET, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    with running({**hub.environment("alice"), **own}, work, home, quiet=False) as (url, _):
        yield Public(url, home, work)


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
