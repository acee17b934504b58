"""The command line: parse, call, show. Run `hubmerge --help`.

Only what ends a program well is imported here: all else is imported by `main`, where Ctrl-C is already expected.

    commands.py    the whole command line, as one app
    deriving.py    commands that make something else of models: extract-lora, moe, transplant, gguf
    elsewhere.py   `--on`: commands that run on a machine of the Hub
    making.py      what the commands do that make a model
    merging.py     commands that merge: plan, merge, push
    options.py     what the commands share: the app they belong to, and the options that several take
    registering.py commands that make hubmerge a command of hf: register, unregister
    searching.py   commands that search and score: evolve, report, export, eval
    serving.py     commands that serve: hub, space and its deployment; and the demo and its models
    talking.py     the command that talks: chat
    telling.py     commands that tell what a model is and was made of: verify, reproduce, card, tree
    told.py        what commands print with --json
"""

import atexit
import ctypes
import errno
import gc
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell says of a program whose reader went away (`| head`)."""
_M_ARENA_MAX = -8
"""How malloc.h of glibc calls the number of heaps."""

_INTERRUPTED = "Interrupted."
_GO_ON = (["merge"], ["extract-lora"], ["moe"], ["transplant"], ["export"], ["evolve"], ["demo"], ["zoo", "train"])
"""Commands that go on where they were stopped."""

_REFUSED = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM")
_REFUSALS = {getattr(errno, name) for name in _REFUSED if hasattr(errno, name)}
"""What a machine says that has no room, or lets nobody in."""


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 2 bad input, 3 Hub or network, 130 interrupted, 141 nobody reads."""
    # What is left at the end goes with the process: to search it for garbage first takes as long as a small merge.
    atexit.register(gc.freeze)
    _open_streams()
    one_heap()
    # Read when huggingface_hub is imported: one display of progress is enough, and ours counts the whole work.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # Read when torch is imported: threads that wait give their core away, which another program may need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _ended_at_once():
        from .. import extras
        from ..errors import HubmergeError, Interrupted
        from ..terminal import clean_logs, err
        from ..typed import typed
        from .commands import app

    clean_logs()

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of fewer characters is no reason to stop
    try:
        app(prog_name=typed())
    except HubmergeError as exc:
        style = "yellow" if isinstance(exc, Interrupted) else "red"
        err.print("hubmerge: ", style=style, end="")
        err.print(str(exc), soft_wrap=True)
        sys.exit(exc.exit_code)
    except (KeyboardInterrupt, SystemExit) as exc:
        # Typer makes exit code 130 of Ctrl-C, and says nothing; of a broken pipe it makes 1, as rich does.
        if isinstance(exc, SystemExit) and exc.code != INTERRUPTED:
            if exc.code == 1 and isinstance(exc.__context__, BrokenPipeError):
                _forget_output()
                sys.exit(BROKEN_PIPE)
            raise
        err.print("\nhubmerge: ", style="yellow", end="")
        err.print(_interrupted(sys.argv[1:]), soft_wrap=True)
        sys.exit(INTERRUPTED)
    except (OSError, MemoryError, ImportError) as exc:
        if isinstance(exc, OSError) and _output_fails():
            _forget_output()
            said = f"Standard output cannot be written ({exc.strerror}); make room or send it elsewhere."
        elif isinstance(exc, ImportError) and (lack := extras.told(exc)) is not None:
            said = str(lack)
        elif (refusal := _refusal(exc)) is not None:
            said = refusal
        else:
            raise
        err.print("hubmerge: ", style="red", end="")
        err.print(said, soft_wrap=True)
        sys.exit(HubmergeError.exit_code)


def _open_streams() -> None:
    """Opens what was closed of standard input, output and error (`<&-`), to nowhere.

    Else the next file to be opened, a shard perhaps, takes that number, and what any library prints goes into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def one_heap() -> None:
    """Gives all threads of this process one heap: what one thread has freed another one takes.

    Else glibc makes up to eight a core, and a merge takes as much more as its threads happened to meet: 20 MB were
    seen. MALLOC_ARENA_MAX, where it is set, stays. Other C libraries have no such setting.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _refusal(exc: BaseException) -> str | None:
    """What to say of an error by which this machine gives no room or no right; None for any other."""
    from ..errors import remedy

    if isinstance(exc, OSError) and exc.errno in _REFUSALS:
        return f"{exc.filename2 or exc.filename or 'This machine'}: {exc.strerror}; {remedy(exc)}."
    if isinstance(exc, FileNotFoundError) and "No usable temporary directory" in str(exc):
        return f"{exc.strerror or exc}; make room there, or set TMPDIR to a folder that can be written."
    # A library that no memory is left for says so in words alone.
    if isinstance(exc, MemoryError) or re.search("failed to map segment|annot allocate memory", str(exc)):
        return "There is not enough memory; close other programs, or raise its limit (`ulimit -v`)."
    return None


def _interrupted(words: Sequence[str]) -> str:
    """What to say after Ctrl-C: the command that goes on, where there is one."""
    from ..typed import typed

    if not any(words[: len(names)] == names for names in _GO_ON):
        return _INTERRUPTED
    again = [*words, *(["--resume"] if words[0] == "evolve" and "--resume" not in words else [])]
    for place, word in enumerate(again):  # what was typed once need not stand in a terminal twice
        if word == "--token" and place + 1 < len(again):
            again[place + 1] = "TOKEN"
        elif word.startswith("--token="):
            again[place] = "--token=TOKEN"
    return f"{_INTERRUPTED[:-1]}; go on with: {typed(shlex.join(again))}"


@contextmanager
def _ended_at_once() -> Iterator[None]:
    # While modules are imported there is nothing to keep, and a KeyboardInterrupt may be swallowed by any of them.
    def end(number: int, frame: FrameType | None) -> NoReturn:
        with suppress(OSError):
            os.write(2, f"\nhubmerge: {_INTERRUPTED}\n".encode())
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    try:
        if before is signal.default_int_handler:  # not where a shell or a caller has it otherwise
            signal.signal(signal.SIGINT, end)
    except ValueError:  # not in the main thread
        before = None
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)


def _output_fails() -> bool:
    # The error may be any file's; one more line on the standard output tells.
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _forget_output() -> None:
    # Else Python tries once more at its end, and complains.
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
        os.close(nowhere)
