"""The sources' tensors, read a part at a time: from shards on this machine, or ahead of use from the Hub by range."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..errors import Interrupted, SourceError
from ..hub.patience import stoppable
from ..hub.source import Source
from .compute import Read, is_finite
from .dtypes import STORED
from .prefetch import Ahead, Prefetch
from .stage import Stage
from .tensors import TensorPlan
from .weights import Extent, Reads

Fetching = Callable[[Source, str], None]

_File = tuple[tuple[str, str], str]
"""A weight file: the place of its source, and its name there."""


class Reader:
    """Gives what `tensors` of a stage are merged from, several of them in parallel, each begun in this order.

    A shard is opened when its first tensor is needed and closed after its last; one on the Hub is downloaded then, and
    `fetching` is told its source and name before. With `ranged`, tensors of shards that are not on this machine are
    read from the Hub by range instead, `ahead` of use, and no file is made. `room`: a folder for what is read twice.
    """

    def __init__(
        self,
        stage: Stage,
        tensors: Sequence[TensorPlan],
        fetching: Fetching | None = None,
        *,
        ranged: bool = False,
        ahead: Ahead | None = None,
        room: Path | None = None,
    ) -> None:
        self._stage = stage
        self._room = room
        self._fetching = fetching
        self._lock = threading.Lock()
        self._opening: dict[_File, threading.Lock] = {}
        self._open: dict[_File, _Shard] = {}
        sources: dict[_File, Source] = {}
        self._files: dict[str, set[_File]] = {}
        for tensor in tensors:
            needed = {extent.file: extent.source for extent in stage.needs_all(tensor)}
            sources |= needed
            self._files[tensor.name] = set(needed)
        self._left = Counter(file for needed in self._files.values() for file in needed)
        # Asked once: a file that comes into the cache meanwhile changes nothing.
        self._far = {file for file, source in sources.items() if ranged and not source.is_here(file[1])}
        self._prefetch = Prefetch(stage, tensors, lambda extent: extent.file in self._far, ahead)
        self._buffers = threading.local()
        self._stopped = False

    @contextmanager
    def reading(self, tensor: TensorPlan) -> Iterator[Read]:
        """How to read what goes into `tensor`, one of those that the reader was made for.

        Reading raises `SourceError` for a shard that is cut short or cannot be read and for NaN or infinity, `HubError`
        for what the Hub refuses.
        """
        checked: set[tuple[object, int, int]] = set()
        with self._prefetch.taking(tensor) as take:

            def stored(extent: Extent) -> Tensor:
                self._check()
                file, dtype = extent.file, STORED[extent.tensor.dtype]
                if extent.start == extent.stop:
                    return torch.empty(0, dtype=dtype.torch)
                if file in self._far:
                    data = take(extent)
                else:
                    begin, end = extent.bytes
                    data = self._buffer(end - begin)
                    (self._open.get(file) or self._shard(extent)).read(begin, data)
                values = torch.frombuffer(data, dtype=dtype.torch)
                if (part := (extent.stored, extent.start, extent.stop)) not in checked:
                    check_finite(extent.source, extent.tensor.name, values)
                    checked.add(part)
                return values

            reads = Reads(stored, self._room)
            with closing(reads):
                yield self._stage.read(reads)
        for file in self._files[tensor.name]:
            self._finish(file)

    def stop(self) -> None:
        """Makes all reading end with `Interrupted`, at once."""
        self._stopped = True
        self._prefetch.stop()

    def _check(self) -> None:
        if self._stopped:
            raise Interrupted("The merge was stopped; the same again goes on from here.")

    def close(self) -> None:
        """Ends the reading and closes all files; nobody may be reading any more."""
        self.stop()
        with self._lock:
            for shard in self._open.values():
                shard.close()
            self._open.clear()

    def _buffer(self, nbytes: int) -> memoryview:
        """Memory of the calling thread, used again for each of its reads."""
        if len(getattr(self._buffers, "memory", b"")) < nbytes:
            self._buffers.memory = bytearray(nbytes)
        return memoryview(self._buffers.memory)[:nbytes]

    def _shard(self, extent: Extent) -> "_Shard":
        file = extent.file
        with self._lock:
            opening = self._opening.setdefault(file, threading.Lock())
        # Whoever needs a shard that is being downloaded waits, and nobody else.
        with opening:
            if file not in self._open:
                if self._fetching is not None:
                    self._fetching(extent.source, extent.tensor.file)
                with stoppable(self._check):
                    self._open[file] = _Shard(extent.source, extent.tensor.file)
            return self._open[file]

    def _finish(self, file: _File) -> None:
        with self._lock:
            self._left[file] -= 1
            if self._left[file] == 0 and file in self._open:
                self._open.pop(file).close()


def check_finite(source: Source, name: str, values: Tensor) -> None:
    """Raises `SourceError` where a stored tensor has NaN or infinite values."""
    values = values.to(torch.float32) if values.dtype.itemsize == 1 and values.is_floating_point() else values
    if values.is_floating_point() and not is_finite(values):
        raise SourceError(f"{name} of {source.name} has NaN or infinite values; merge another copy or revision of it.")


class _Shard:
    """A weight file on this machine, open for several threads."""

    def __init__(self, source: Source, file: str) -> None:
        path: Path = source.local_path(file)
        self._cut = SourceError(
            f"{file} of {source.name} was cut short: {path} has fewer bytes than its header promises; fetch it again."
        )
        self._failed = f"{file} of {source.name} cannot be read"
        self._lock = threading.Lock()
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (open for as long as this object lives)
        except OSError as exc:
            raise SourceError(f"{self._failed} ({exc.strerror or exc}); fetch it again.") from exc

    def read(self, position: int, data: memoryview) -> None:
        """Fills `data` from `position` on."""
        try:
            with self._lock:
                self._file.seek(position)
                while len(data):
                    count = self._file.readinto(data)
                    if not count:
                        raise self._cut
                    data = data[count:]
        except OSError as exc:
            raise SourceError(f"{self._failed} ({exc.strerror or exc}); fetch it again.") from exc

    def close(self) -> None:
        self._file.close()
