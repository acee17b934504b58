"""Work with what a repository brought - chat templates, expressions of tokenizers - in a process that can be ended.

A chat template is a program, and an expression can take longer than anybody lives. So they run in a child of a process
of their own (see apart_server.py), which has a second of a processor for each text and 512 MB, no token and no open
file. Where the system cannot hand a connection to another process (Windows), they run here, without limits.
"""

import atexit
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..errors import TaskError

SECONDS = 1.0
"""Of a processor that one text has: a thousand times what a template needs."""
_PATIENCE = 120.0
"""Seconds that the answer may take in all, on a machine that is busy with other things."""
_KEPT, _KEPT_BYTES = 16, 4_000_000
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from hubmerge.evaluate.apart_server import serve; serve(int(sys.argv[1]))"
)
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT", "LD_LIBRARY_PATH")
"""What the process sees of the environment: no token, no address."""


class _Server:
    """The process, started when it is first needed, and again where it is gone. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None

    def connect(self) -> socket.socket:
        """A connection to a child of its own."""
        ours, theirs = socket.socketpair()
        with theirs:
            for attempt in (1, 2):
                with self._lock:
                    door = self._door or self._open()
                try:
                    socket.send_fds(door, [b"."], [theirs.fileno()])
                    return ours
                except OSError:
                    self.close()
                    if attempt == 2:
                        ours.close()
                        raise
        raise AssertionError

    def _open(self) -> socket.socket:
        door, far = socket.socketpair()
        with far:
            environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, str(far.fileno()), *sys.path],
                pass_fds=[far.fileno()],
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._door = door
        return door

    def gone(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def close(self) -> None:
        """Lets the process end; the next request starts another."""
        with self._lock:
            if self._door is not None:
                self._door.close()
            process, self._door, self._process = self._process, None, None
        if process is not None:
            process.kill()
            process.wait()

    def forget(self) -> None:
        """In a process that was forked off: the server is the other's, and a lock may be held by nobody."""
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.returncode = 0  # it is not ours to wait for
        if self._door is not None:
            self._door.close()
        self._door = self._process = None


_SERVER = _Server()
_KNOWN: dict[str, list[dict[str, Any]]] = {}
_POSSIBLE = hasattr(socket, "send_fds") and hasattr(os, "fork")
atexit.register(_SERVER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SERVER.forget)


def start() -> None:
    """Starts the process, where there is none: it is then ready when the first text is."""
    if _POSSIBLE:
        with suppress(OSError), _SERVER._lock:
            _SERVER._door or _SERVER._open()


def render(template: str, tokens: Mapping[str, Any], conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Each conversation as a chat template writes it, and what begins the answer; `tokens` are the special tokens.

    Raises `TaskError` where the template refuses one, fails, or takes too much time, memory or text.
    """
    # No template says things more than a few times, or has much of its own to say.
    most = [4 * sum(len(str(turn["content"])) for turn in turns) + 200_000 for turns in conversations]
    answers = _ask(
        "render", len(conversations), template=template, tokens=tokens, conversations=conversations, most=most
    )
    for turns, answer in zip(conversations, answers, strict=True):
        if "text" not in answer:
            roles = ", ".join(dict.fromkeys(turn["role"] for turn in turns))
            raise TaskError(f"The model's chat template refuses these messages (roles: {roles}): {answer['error']}.")
    return [answer["text"] for answer in answers]


def cut(tokenizer: Mapping[str, Any], texts: Sequence[str]) -> None:
    """Raises `TaskError` where a tokenizer's normalizer or pre-tokenizer does not come to an end with the texts.

    tokenizer: a tokenizer.json, in which the model may stand for another.
    """
    for answer in _ask("cut", len(texts), tokenizer=json.dumps(tokenizer), texts=texts):
        if "error" in answer:
            raise TaskError(f"The model's tokenizer cannot cut a prompt into words: {answer['error']}.")


def _ask(work: str, count: int, **request: Any) -> list[dict[str, Any]]:
    """The answers to a request, one for each of `count` texts; those to many texts are remembered for a while."""
    text = json.dumps({"work": work, "seconds": SECONDS, **request}).encode() + b"\n"
    key = hashlib.sha256(text).hexdigest()
    if (known := _KNOWN.get(key)) is not None:
        return known
    answers = _exchange(text, count) if _POSSIBLE else _here(text)
    if count > 1 and not any("error" in answer for answer in answers) and len(text) <= _KEPT_BYTES:
        _KNOWN[key] = answers
        while len(_KNOWN) > _KEPT:
            _KNOWN.pop(next(iter(_KNOWN)), None)
    return answers


def _exchange(text: bytes, count: int) -> list[dict[str, Any]]:
    """What the child answers; where it ended before, an error for the text that it was at."""
    answers: list[dict[str, Any]] = []
    with _SERVER.connect() as connection:
        connection.settimeout(_PATIENCE)
        with connection.makefile("rwb") as stream:
            with suppress(OSError):  # it ended before it read everything
                stream.write(text)
                stream.flush()
            with suppress(OSError, ValueError):
                while len(answers) < count and (line := stream.readline()):
                    answers.append(json.loads(line))  # of this program's own child, as large as it allows
    if not answers and _SERVER.gone():
        raise TaskError("The process that renders chat templates could not be started, or was killed; try again.")
    for _ in range(len(answers), count):
        answers.append({"error": f"it takes more than {SECONDS:g} second of computing, or too much memory"})
    return answers


def _here(text: bytes) -> list[dict[str, Any]]:
    from .apart_server import answers_to

    return list(answers_to(json.loads(text)))  # just written here
