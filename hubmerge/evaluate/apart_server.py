"""The process that `apart.py` starts: it forks a child for each piece of work, and the child has limits.

It imports what the work needs once, holds no token and no file, and does nothing by itself: so a child costs a few
milliseconds, and one that is killed takes nothing with it.
"""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

MEMORY = 512 * 2**20
"""Bytes that a child may take beyond what it begins with (where the system counts them: Linux does)."""
TOTAL_SECONDS = 20
"""Seconds of a processor that all pieces of one request have."""
MOST_WORDS = 300
"""Characters of an error that are told."""


def serve(control: int) -> None:
    """Takes a connection for each request from the socket `control`, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; we end when the parent does
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
    _warm()
    with socket.socket(fileno=control) as door:
        while True:
            message, handles, _, _ = socket.recv_fds(door, 1, 1)
            if not message:
                return
            for handle in handles:
                if os.fork() == 0:
                    door.close()
                    _answer(socket.socket(fileno=handle))
                os.close(handle)


def _answer(connection: socket.socket) -> None:
    """Does one request, and ends the process."""
    try:
        with connection.makefile("rb") as asked, connection.makefile("wb") as said:
            request = json.loads(asked.readline())  # of the process that started this one
            os.nice(5)
            _limit()
            for answer in answers_to(request):
                said.write(json.dumps(answer).encode() + b"\n")
    finally:
        os._exit(0)


def answers_to(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answer to each text of a request: {"text": ...} or {"error": ...}."""
    yield from _WORK[request["work"]](request)


def _limit() -> None:
    import resource

    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: TOTAL_SECONDS}
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        limits[resource.RLIMIT_AS] = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    for kind, most in limits.items():
        with suppress(OSError, ValueError):  # a lower limit was set from outside
            resource.setrlimit(kind, (most, most))


def _in_time(seconds: float, piece: Callable[[], str], most: int) -> dict[str, Any]:
    """What `piece` gives, or the error; the system kills the process where it takes so many seconds of a processor."""
    _alarm(seconds)
    try:
        text = piece()
        return {"text": text} if len(text) <= most else {"error": f"it writes {len(text):,} characters"}
    except MemoryError:
        return {"error": "it takes too much memory"}
    except Exception as exc:  # whatever code from outside raises
        name = "" if type(exc).__name__ == "TemplateError" else f"{type(exc).__name__}: "
        return {"error": f"{name}{exc}"[:MOST_WORDS]}
    except BaseException as exc:  # tokenizers ends an expression that goes on too long with a panic
        return {"error": str(exc)[:MOST_WORDS]}
    finally:
        _alarm(0)


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _render(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each conversation through the chat template."""
    from transformers.utils.chat_template_utils import render_jinja_template

    for conversation, most in zip(request["conversations"], request["most"], strict=True):

        def piece(conversation: Any = conversation) -> str:
            rendered: Any = render_jinja_template(
                conversations=[conversation],
                chat_template=request["template"],
                add_generation_prompt=True,
                **request["tokens"],
            )
            return str(rendered[0][0])

        yield _in_time(request["seconds"], piece, most)


def _cut(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each text through the normalizer and the pre-tokenizer of a tokenizer, whose expressions may never end."""
    from tokenizers import Tokenizer

    made: list[Tokenizer] = []
    for text in request["texts"]:

        def piece(text: str = text) -> str:
            if not made:
                made.append(Tokenizer.from_str(request["tokenizer"]))
            made[0].encode(text, add_special_tokens=False)
            return ""

        yield _in_time(request["seconds"], piece, 0)


_WORK: dict[str, Callable[[dict[str, Any]], Iterator[dict[str, Any]]]] = {"render": _render, "cut": _cut}


def _warm() -> None:
    import tokenizers  # noqa: F401
    import transformers.utils.chat_template_utils  # noqa: F401
