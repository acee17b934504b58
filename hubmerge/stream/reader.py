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
from .adapted import Adapted
from .compute import Read, is_finite
from .dtypes import DTYPES
from .prefetch import Prefetch
from .tensors import TensorId, TensorPlan, stored_by

Fetching = Callable[[Source, str], None]


class Reader:
    """Gives the stored tensors that `tensors` need, several of them in parallel, each begun in this order.

    A shard is opened when its first tensor is needed and closed after its last; one on the Hub is downloaded then, and
    `fetching` is told its source and name before. With `ranged`, tensors of shards that are not on this machine are
    read from the Hub by range instead, ahead of use, and no file is made; `again`: whether they are read more than
    once, so that they have to be kept meanwhile.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        tensors: Sequence[TensorPlan],
        fetching: Fetching | None = None,
        *,
        ranged: bool = False,
        again: bool = False,
    ) -> None:
        self._sources = sources
        self._fetching = fetching
        self._lock = threading.Lock()
        self._opening: dict[tuple[int, str], threading.Lock] = {}
        self._open: dict[tuple[int, str], _Shard] = {}
        self._stored = stored_by(sources)
        self._left = Counter(self._file(one) for tensor in tensors for one in tensor.reads)
        # Asked once: a file that comes into the cache meanwhile changes nothing.
        self._far = {(i, file) for i, file in self._left if ranged and not sources[i].is_here(file)}
        self._prefetch = Prefetch(sources, tensors, lambda one: self._file(one) in self._far, again)
        self._adapted = Adapted(sources)
        self._buffers = threading.local()
        self._stopped = False

    @contextmanager
    def reading(self, tensor: TensorPlan) -> Iterator[Read]:
        """How to read what goes into `tensor`, one of those that the reader was made for.

        Reading raises `SourceError` for a shard that is cut short or cannot be read and for NaN or infinity, `HubError`
        for what the Hub refuses.
        """
        checked: set[tuple[TensorId, int, int]] = set()
        with self._prefetch.taking(tensor) as take:

            def read(index: int, name: str, start: int, stop: int) -> Tensor:
                self._check()
                stored = self._stored((index, name))
                source = self._sources[stored[0]]
                header = source.tensors[name]
                dtype = DTYPES[header.dtype]
                if start == stop:
                    return torch.empty(0, dtype=dtype.torch)
                begin, end = (header.start + at * dtype.nbytes for at in (start, stop))
                if (stored[0], header.file) in self._far:
                    data = take(stored, begin, end)
                else:
                    data = self._buffer(end - begin)
                    self._shard(stored[0], header.file).read(begin, data)
                values = torch.frombuffer(data, dtype=dtype.torch)
                if (stored, start, stop) not in checked:
                    check_finite(source, name, values)
                    checked.add((stored, start, stop))
                return self._adapted.add(index, name, start, values)

            yield read
        for one in tensor.reads:
            self._finish(self._file(one))

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

    def _file(self, tensor: TensorId) -> tuple[int, str]:
        index, name = self._stored(tensor)
        return index, self._sources[index].tensors[name].file

    def _buffer(self, nbytes: int) -> memoryview:
        """Memory of the calling thread, used again for each of its reads."""
        if len(getattr(self._buffers, "memory", b"")) < nbytes:
            self._buffers.memory = bytearray(nbytes)
        return memoryview(self._buffers.memory)[:nbytes]

    def _shard(self, index: int, file: str) -> "_Shard":
        with self._lock:
            opening = self._opening.setdefault((index, file), threading.Lock())
        # Whoever needs a shard that is being downloaded waits, and nobody else.
        with opening:
            if (index, file) not in self._open:
                source = self._sources[index]
                if self._fetching is not None:
                    self._fetching(source, file)
                with stoppable(self._check):
                    self._open[index, file] = _Shard(source, file)
            return self._open[index, file]

    def _finish(self, file: tuple[int, str]) -> None:
        with self._lock:
            self._left[file] -= 1
            if self._left[file] == 0 and file in self._open:
                self._open.pop(file).close()


def load_tensor(source: Source, name: str) -> Tensor:
    """A whole stored tensor, in its stored shape and dtype; its file is downloaded where it is not on this machine."""
    header = source.tensors[name]
    dtype = DTYPES[header.dtype].torch
    if header.nbytes == 0:
        return torch.empty(header.shape, dtype=dtype)
    data, shard = bytearray(header.nbytes), _Shard(source, header.file)
    with closing(shard):
        shard.read(header.start, memoryview(data))
    tensor = torch.frombuffer(data, dtype=dtype).view(header.shape)
    check_finite(source, name, tensor)
    return tensor


def check_finite(source: Source, name: str, values: Tensor) -> None:
    """Raises `SourceError` where a stored tensor has NaN or infinite values."""
    if values.is_floating_point() and not is_finite(values):
        raise SourceError(f"{name} of {source.name} has NaN or infinite values; this model cannot be merged.")


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
