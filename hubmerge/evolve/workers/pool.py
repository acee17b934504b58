"""Where candidates are evaluated: a pool of workers, here the one in this process. actors.py has those of Ray."""

import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from ...errors import Interrupted
from ...evaluate.measurement import Measurement
from ...text import sentences

_TICK = 0.25
"""Seconds between two looks at whether the user wants to stop."""


class Worker(Protocol):
    """Lives where candidates are evaluated, and holds what that takes: the resident model, the task."""

    def measure(self, candidate: Any, job: Any) -> Measurement:
        """How good `candidate` is at `job`; what it raises costs that candidate alone."""
        ...


MakeWorker = Callable[[], Worker]
"""Makes a worker, once in each process. For actors it must pickle: `functools.partial` of a module's function with
plain arguments. Models do not travel in it: each worker opens them by their pinned names."""


@dataclass(frozen=True)
class Result:
    """What came of one candidate: its measurement, or the `error` that it ended in. `seconds`: of its evaluation."""

    number: int
    measurement: Measurement | None
    error: str | None
    seconds: float


class Task(NamedTuple):
    """One candidate on its way: `number` names it for the caller, `job` is passed to the worker as it is.

    `deaths`: how many actors ended while they evaluated it.
    """

    number: int
    candidate: Any
    job: Any
    deaths: int = 0


class Pool(Protocol):
    """Workers that evaluate candidates. Use as a context manager.

    `size`: how many candidates can be evaluated at the same time.
    """

    size: int

    def submit(self, number: int, candidate: Any, job: Any = None) -> None:
        """Begins to evaluate a candidate, or lets it wait for a free worker; returns at once."""
        ...

    def finished(self, wait: float | None = None) -> list[Result]:
        """What has finished since the last call, in the order it did; [] where nothing is on its way.

        Waits up to `wait` seconds for the first result, without end where it is None. A candidate that raised, ran
        out of memory, or was measured as something that is not a number has an `error` and no measurement.
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
    """One worker in this process. A candidate is evaluated when `finished` asks for it, in the order submitted.

    So `Interrupted` and Ctrl-C reach the caller, whatever `wait` says. Raises what `make_worker` raises.
    """

    size = 1

    def __init__(self, make_worker: MakeWorker) -> None:
        self._worker: Worker | None = make_worker()
        self._waiting: deque[Task] = deque()

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def submit(self, number: int, candidate: Any, job: Any = None) -> None:
        """Puts a candidate in the queue."""
        self._waiting.append(Task(number, candidate, job))

    def finished(self, wait: float | None = None) -> list[Result]:
        """Evaluates the next candidate and returns its result; [] where none waits."""
        if not self._waiting:
            return []
        assert self._worker is not None, "the pool is closed"
        return [attempt(self._worker, self._waiting.popleft())]

    def close(self) -> None:
        """Lets go of the worker and its memory."""
        self._waiting.clear()
        self._worker = None
        _free_memory()


def measure_all(pool: Pool, asked: Sequence[tuple[Any, Any]], tell: Callable[[int], None]) -> list[Result]:
    """The results of (candidate, job) pairs, in their order; the pool must have nothing else on its way.

    `tell` gets the number done so far, 0 first, and at least every quarter of a second where there are actors; what
    it raises, such as `Interrupted`, ends the wait.
    """
    for number, (candidate, job) in enumerate(asked):
        pool.submit(number, candidate, job)
    results: dict[int, Result] = {}
    tell(0)
    while len(results) < len(asked):
        results |= {result.number: result for result in pool.finished(_TICK)}
        tell(len(results))
    return [results[number] for number in range(len(asked))]


def attempt(worker: Worker, task: Task) -> Result:
    """The result of one candidate, whatever it does; only `Interrupted` and what is no `Exception` pass through."""
    started = time.perf_counter()
    measurement, error, exhausted = None, None, False
    try:
        measurement = worker.measure(task.candidate, task.job)
    except Interrupted:
        raise
    except Exception as exc:
        error, exhausted = describe(exc), _out_of_memory(exc)
    if measurement is not None and not measurement.is_finite:
        measurement, error = None, "The measurement is not a finite number."
    if exhausted:  # only now that the exception, which held every frame's tensors, is gone
        _free_memory()
    return Result(task.number, measurement, error, time.perf_counter() - started)


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
