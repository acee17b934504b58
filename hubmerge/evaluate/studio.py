"""Pictures of models that strangers made, drawn in a process of its own that has a limit of memory and can be ended.

A pipeline's settings say how large its parts make a picture on the way, which no header bounds. So whoever draws for
others does it here: what takes too much memory or time ends this process, and nothing beside it.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from .. import errors
from ..errors import HubmergeError, Interrupted, ResourceError

TICK = 0.1
"""Seconds between two looks whether a picture is taken back."""
_GRACE = 5.0
"""Seconds that the process has to come to its next step once it is told to stop; then it is ended."""
IDLE_SECONDS = 600.0
_START = (
    "import sys; sys.path[:] = sys.argv[3:]; from hubmerge.evaluate.studio_process import serve; "
    "serve(int(sys.argv[1]), sys.argv[2] == '1')"
)
_FEW_PLACES = {"MALLOC_ARENA_MAX": "2"}
"""glibc would reserve 64 MB for each thread, which count as memory that is taken."""
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "XDG_CACHE_HOME")
_PASSED_TOO = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "CUDA_", "OMP_", "MKL_")


class Studio:
    """One such process, started when it is first asked; one request at a time. `memory`, `limited`: see
    `studio_process.serve`."""

    def __init__(self, memory: int = 0, limited: bool = False) -> None:
        self._memory, self._limited = memory, limited
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._count = 0
        self.model: str | None = None
        """What it was asked last, which it may still hold."""
        self.used = time.monotonic()

    def ask(
        self, work: str, model: str, stop: Callable[[], bool], seconds: float | None = None, **request: Any
    ) -> Generator[dict[str, Any], None, None]:
        """The answers to a request (see studio_process.py), one after another.

        Raises `Interrupted` once `stop` says so, `ResourceError` after so many `seconds` or where the process ends,
        and what the process raises.
        """
        process = self._running()
        self._count += 1
        number, end = self._count, None if seconds is None else time.monotonic() + seconds
        self.model, finished = model, False
        try:
            self._send(process, {"id": number, "work": work, "model": model, **request})
            while True:
                if stop():
                    raise Interrupted("It was taken back.")
                if end is not None and time.monotonic() > end:
                    raise ResourceError(
                        f"This took more than the {seconds:g} seconds that it has on this page; ask for fewer or "
                        "smaller pictures, or for fewer steps."
                    )
                try:
                    answer = self._answers.get(timeout=TICK)
                except queue.Empty:
                    continue
                if answer is None:
                    raise ResourceError(
                        "The process that draws has ended: it may have taken more memory than there is; ask for a "
                        "smaller picture, or take a smaller model."
                    )
                if answer["id"] != number:
                    continue  # of a request that was taken back
                if "error" in answer:
                    finished = True
                    kind = getattr(errors, answer["kind"], HubmergeError)
                    raise kind(answer["error"])
                if "done" in answer:
                    finished = True
                    return
                yield answer
        finally:
            self.used = time.monotonic()
            if not finished:
                self._stop(process, number)

    def close(self) -> None:
        """Ends the process; the next request starts another."""
        process, self._process, self.model = self._process, None, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    assert pipe is not None
                    pipe.close()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        names = [name for name in os.environ if name in _PASSED or name.startswith(_PASSED_TOO)]
        environment = {name: os.environ[name] for name in names}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, str(self._memory), str(int(self._limited)), *sys.path],
            env={**environment, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", **_FEW_PLACES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()
        return self._process

    def _send(self, process: "subprocess.Popen[bytes]", request: Mapping[str, Any]) -> None:
        assert process.stdin is not None
        with suppress(OSError):  # it has ended, which the answers tell
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()

    def _stop(self, process: "subprocess.Popen[bytes]", number: int) -> None:
        """Ends a request that is not finished: at its next step, or with the process where that does not come."""
        self._send(process, {"stop": number})
        end = time.monotonic() + _GRACE
        while time.monotonic() < end:
            with suppress(queue.Empty):
                answer = self._answers.get(timeout=TICK)
                if answer is None:
                    break
                if answer["id"] == number and ("error" in answer or "done" in answer):
                    return
        self.close()


def _listen(process: "subprocess.Popen[bytes]", answers: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    assert process.stdout is not None
    with suppress(OSError, ValueError):
        for line in process.stdout:
            answers.put(json.loads(line))  # of this program's own process
    answers.put(None)


class Studios:
    """As many of them as are at work at once; what was not used for `IDLE_SECONDS` ends at the next `sweep`."""

    def __init__(self, memory: int = 0, limited: bool = False) -> None:
        self._how = memory, limited
        self._free: list[Studio] = []
        self._lock = threading.Lock()

    @contextmanager
    def one(self, model: str) -> Iterator[Studio]:
        """One that nobody else uses meanwhile: that which holds the model, if there is one."""
        with self._lock:
            held = next((one for one in self._free if one.model == model), None)
            studio = held or (self._free[0] if self._free else Studio(*self._how))
            if studio in self._free:
                self._free.remove(studio)
        try:
            yield studio
        finally:
            with self._lock:
                self._free.append(studio)

    def sweep(self, idle: float = IDLE_SECONDS) -> None:
        """Ends those that were not used for so many seconds."""
        with self._lock:
            old = [one for one in self._free if time.monotonic() - one.used >= idle]
            self._free = [one for one in self._free if one not in old]
        for one in old:
            one.close()
