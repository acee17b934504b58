"""Every tensor of a model hashed, and the work of several threads counted for whoever watches."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from hashlib import sha256
from typing import NamedTuple, TypeVar

from ..amounts import size
from ..errors import ResourceError
from ..hub.source import Source
from ..hub.store import FileInfo, Folder
from ..progress import Event, Progress, silent
from .device import cores

PIECE = 16_000_000
"""Bytes read at once by one thread, so that memory does not grow with the tensors."""

_HUB_READERS = 8
_TICK = 0.25  # seconds between events while nothing is finished

T = TypeVar("T")


def hash_weights(
    source: Source, progress: Progress = silent, memory: int | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """The sha256 of each shard's header by file, and of each tensor's stored bytes by name.

    Several parts are read and hashed at a time, as many as `memory` has room for. Raises `SourceError` for a file that
    cannot be read or changes meanwhile, `HubError` for what the Hub refuses, `ResourceError` without room for one.
    """
    if memory is not None and memory < PIECE:
        raise ResourceError(
            f"Hashing {source.name} takes {size(PIECE)} of memory at least, and may take {size(memory)}; allow that "
            "much."
        )
    parts = _parts(source)
    here = {file: source.local_path(file) for file, _, _, _ in parts if source.is_here(file)}
    stopped = threading.Event()
    count = Count("verify", sum(part.stop - part.start for part in parts), progress)

    def read(file: str, start: int, stop: int) -> bytes | memoryview:
        if file not in here:
            return source.read_range(file, start, stop)
        return Folder(here[file].parent).read(FileInfo(here[file].name, source.files[file].size), start, stop)

    def hash_run(run: Sequence[_Part]) -> list[str]:
        file, first, end = run[0].file, run[0].start, run[-1].stop
        digests = [sha256() for _ in run]
        for start in range(first, end, PIECE):
            if stopped.is_set():
                break
            stop = min(start + PIECE, end)
            data = memoryview(read(file, start, stop))
            for part, digest in zip(run, digests, strict=True):
                digest.update(data[max(part.start - start, 0) : max(part.stop - start, 0)])
            count.add(stop - start)
        return [digest.hexdigest() for digest in digests]

    # On disk hashing is the work, and a core each is enough; the Hub is waited for.
    workers = cores() if len(here) == len({part.file for part in parts}) else _HUB_READERS
    if memory is not None:
        workers = min(workers, memory // PIECE)
    runs = list(_runs(parts))
    jobs = [(run[0].file, partial(hash_run, run)) for run in runs]
    headers: dict[str, str] = {}
    tensors: dict[str, str] = {}
    for run, digests in zip(runs, in_order(jobs, workers, stopped.set, count), strict=True):
        for part, digest in zip(run, digests, strict=True):
            if part.tensor is None:
                headers[part.file] = digest
            else:
                tensors[part.tensor] = digest
    return headers, tensors


class _Part(NamedTuple):
    """Bytes of a weight file that are hashed: those of a tensor, or of the header (`tensor` None)."""

    file: str
    start: int
    stop: int
    tensor: str | None


def _parts(source: Source) -> list[_Part]:
    """All parts of the source's weight files, in the order of their bytes; together they are the whole files."""
    tensors = [_Part(tensor.file, tensor.start, tensor.stop, tensor.name) for tensor in source.tensors.values()]
    ends: dict[str, int] = {}
    for part in tensors:
        ends[part.file] = min(part.start, ends.get(part.file, part.start))
    headers = [_Part(file, 0, end, None) for file, end in ends.items()]
    return sorted([*headers, *tensors], key=lambda part: (part.file, part.start, part.stop))


def _runs(parts: Iterable[_Part]) -> Iterator[tuple[_Part, ...]]:
    """Neighbours in a file, together at most a piece long, so that small ones share one read; a larger one alone."""
    run: list[_Part] = []
    for part in parts:
        if run and (part.file != run[0].file or part.stop - run[0].start > PIECE):
            yield tuple(run)
            run = []
        run.append(part)
    if run:
        yield tuple(run)


class Count:
    """Bytes done by several threads, and the events that tell of them, sent by the thread that asks for it."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._done = 0
        self._lock = threading.Lock()

    def add(self, nbytes: int) -> None:
        with self._lock:
            self._done += nbytes

    def tell(self, note: str) -> None:
        self._progress(Event(self._stage, self._done, self._total, "B", note))


def in_order(
    jobs: Sequence[tuple[str, Callable[[], T]]], workers: int, stop: Callable[[], None], count: Count
) -> list[T]:
    """Runs jobs (a note for people, and a call) on threads, begun in their order; `stop` makes running ones end soon.

    Events come from the calling thread alone, which is also the one that Ctrl-C reaches.
    """
    results: list[T] = []
    pool = ThreadPoolExecutor(workers, "hubmerge-verify")
    try:
        for note, future in [(note, pool.submit(call)) for note, call in jobs]:
            while not wait([future], _TICK).done:
                count.tell(note)
            results.append(future.result())
            count.tell(note)
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
    return results
