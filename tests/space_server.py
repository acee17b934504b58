"""The Space in a process of its own, as `python app.py` serves it; for tests."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waiting import until

ROOT = Path(__file__).parent.parent
# gradio's own thread, where it takes the process for a Space, which has the package `spaces`.
_NO_RELOADING = re.compile(r"^Exception in thread [^\n]*\nTraceback[^\n]*(?:\n .*)*\n.*hot-reloading in Spaces$", re.M)


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
    written = _NO_RELOADING.sub("", log.read_text())
    assert not quiet or "Traceback" not in written, written


def ended(ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What `ask` is told of a job, once the job is neither queued nor running."""
    told: list[Mapping[str, Any]] = []

    def over() -> bool:
        told[:] = [ask()]
        return told[0]["status"] not in ("queued", "running")

    until(over, lambda: told[0], every=0.2)
    return told[0]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
