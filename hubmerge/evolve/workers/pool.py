"""Where candidates are measured: a pool of workers, here the one in this process. ray_pool.py has those of Ray."""

import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from ...errors import Interrupted
from ...evaluate.measurement import Measurement
from ...text import sentences
from ..examples.asked import EVERYTHING, Asked
from ..spaces.candidate import Contestant

TICK = 0.25
"""Seconds between two looks at whether the user wants to stop."""


class Worker(Protocol):
    """Lives where candidates are measured, and holds what that takes: the resident model, the task."""

    def measure(self, candidate: Contestant, asked: Asked) -> Measurement:
        """How good `candidate` is on the examples `asked`; what it raises costs that candidate alone."""
        ...


MakeWorker = Callable[[], Worker]
"""Makes a worker, once in each process. For actors it must pickle: `functools.partial` of a module's function with
plain arguments. Models do not travel in it: each worker opens them by their pinned names."""


class Pool(Protocol):
    """Workers that measure candidates. Use as a context manager.

    `size`: how many candidates can be measured at the same time.
    """

    size: int

    def submit(self, number: int, candidate: Contestant, asked: Asked = EVERYTHING) -> None:
        """Begins to measure a candidate, or lets it wait for a free worker; returns at once."""
        ...

    def finished(self, wait: float | None = None) -> dict[int, Measurement]:
        """What has finished since the last call, by number, in the order it did; {} where nothing is on its way.

        Waits up to `wait` seconds for the first, without end where it is None. A candidate that raised, ran out of
        memory, or was measured as something that is not a number has an `error`.
        """
        ...

    def close(self) -> None:
        """Ends the workers; what they have not finished is dropped."""
        ...

    def __enter__(self) -> "Pool": ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LocalPool:
    """One worker in this process. A candidate is measured when `finished` asks for it, in the order submitted.

    So `Interrupted` and Ctrl-C reach the caller, whatever `wait` says. Raises what `make_worker` raises.
    """

    size = 1

    def __init__(self, make_worker: MakeWorker) -> None:
        self._worker: Worker | None = make_worker()
        self._waiting: deque[tuple[int, Contestant, Asked]] = deque()

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def submit(self, number: int, candidate: Contestant, asked: Asked = EVERYTHING) -> None:
        """Puts a candidate in the queue."""
        self._waiting.append((number, candidate, asked))

    def finished(self, wait: float | None = None) -> dict[int, Measurement]:
        """Measures the next candidate; {} where none waits."""
        if not self._waiting:
            return {}
        assert self._worker is not None, "the pool is closed"
        number, candidate, asked = self._waiting.popleft()
        return {number: attempt(self._worker, candidate, asked)}

    def close(self) -> None:
        """Lets go of the worker and its memory."""
        self._waiting.clear()
        self._worker = None
        _free_memory()


def measure_all(
    pool: Pool, candidates: Sequence[tuple[Contestant, Asked]], tell: Callable[[int], None]
) -> list[Measurement]:
    """The measurements of candidates on what each is asked, in their order; the pool must have nothing else on its way.

    `tell` gets the number done so far, 0 first, and at least every quarter of a second where there are actors; what
    it raises, such as `Interrupted`, ends the wait.
    """
    for number, (candidate, asked) in enumerate(candidates):
        pool.submit(number, candidate, asked)
    found: dict[int, Measurement] = {}
    tell(0)
    while len(found) < len(candidates):
        found |= pool.finished(TICK)
        tell(len(found))
    return [found[number] for number in range(len(candidates))]


def attempt(worker: Worker, candidate: Contestant, asked: Asked) -> Measurement:
    """The measurement of one candidate, whatever it does; only `Interrupted` and what is no `Exception` pass."""
    started, exhausted = time.perf_counter(), False
    try:
        measured = worker.measure(candidate, asked)
    except Interrupted:
        raise
    except Exception as exc:
        measured, exhausted = Measurement(error=describe(exc)), _out_of_memory(exc)
    if not measured.is_finite:
        measured = Measurement(error="The measurement is not a finite number.")
    if exhausted:  # only now that the exception, which held every frame's tensors, is gone
        _free_memory()
    return replace(measured, seconds=time.perf_counter() - started)


def describe(exc: BaseException) -> str:
    """An exception in one line: "ValueError: no such layer"."""
    # A stranger's text may be in it, and it goes into the journal.
    text = sentences(" ".join(str(exc).split()))
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _out_of_memory(exc: Exception) -> bool:
    # On a CPU torch says it with a plain RuntimeError.
    return isinstance(exc, MemoryError) or "out of memory" in str(exc) or "can't allocate memory" in str(exc)


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
