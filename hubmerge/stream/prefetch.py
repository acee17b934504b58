"""Weights read from the Hub by range ahead of their use: several requests at a time, a bounded number of bytes."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import Interrupted
from ..hub.content import HashedFile
from ..hub.patience import stoppable
from ..hub.source import Source
from ..methods.blocks import BLOCK
from .dtypes import DTYPES
from .tensors import TensorId, TensorPlan, stored_by

CONNECTIONS = 8
"""Requests at a time."""

SPAN = 8 * 2**20
"""Bytes that a request asks for: enough to outweigh its latency, and few enough to hold several of each source."""

WINDOW = 128 * 2**20
"""Bytes read ahead at most, where one tensor's share does not need more."""

Take = Callable[[TensorId, int, int], memoryview]
"""Gives the bytes from start to stop, in positions of its file, of a tensor where it is stored: part of one block."""


@dataclass
class _Span:
    """Bytes `start` to `stop` of a file, fetched with one request, and how many `pieces` are still to be used."""

    index: int
    file: str
    start: int
    stop: int
    pieces: int = 0
    content: memoryview | None = None
    failure: BaseException | None = None

    @property
    def nbytes(self) -> int:
        return self.stop - self.start


@dataclass
class _Piece:
    """Part of one tensor, within one span."""

    span: _Span
    start: int
    stop: int


@dataclass
class _Pieces:
    """What is fetched of one stored tensor for one output tensor, in order; `used`: how many of them are done with."""

    pieces: list[_Piece] = field(default_factory=list)
    used: int = 0


class Prefetch:
    """Reads ahead what is `far` of all that `tensors` need, in their order.

    Tensors may be merged in parallel if each is begun in this order. Bytes that lie together in a file are read
    together. `again`: tensors are read more than once, so they are kept until they are done with.
    """

    def __init__(
        self, sources: Sequence[Source], tensors: Sequence[TensorPlan], far: Callable[[TensorId], bool], again: bool
    ) -> None:
        self._sources = sources
        self._again = again
        self._wanted: dict[str, dict[TensorId, _Pieces]] = {}
        self._spans: deque[_Span] = deque()
        largest = self._lay_out(tensors, far)
        self._window = max(WINDOW, largest + len(sources) * SPAN)
        self._held = 0
        self._hashing = _hashers(self._spans, sources)
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._fetch, name=f"hubmerge-fetch-{number}", daemon=True)
            for number in range(min(CONNECTIONS, len(self._spans)))
        ]
        for thread in self._threads:
            thread.start()

    @contextmanager
    def taking(self, tensor: TensorPlan) -> Iterator[Take]:
        """How to take what was fetched for `tensor`; all of it counts as used in the end."""
        wanted = self._wanted.get(tensor.name, {})
        try:
            yield lambda one, start, stop: self._take(wanted[one], start, stop)
        finally:
            for pieces in wanted.values():
                self._use(pieces, len(pieces.pieces))

    def stop(self) -> None:
        """Ends the reading ahead; whoever waits for bytes gets `Interrupted`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _lay_out(self, tensors: Sequence[TensorPlan], far: Callable[[TensorId], bool]) -> int:
        """Sorts all that is far into spans; returns the bytes that must be held for one tensor to be merged."""
        last: dict[int, _Span] = {}
        largest, stored = 0, stored_by(self._sources)
        for tensor in tensors:
            wanted: defaultdict[TensorId, _Pieces] = defaultdict(_Pieces)
            ids = [one for one in dict.fromkeys(map(stored, tensor.reads)) if far(one)]
            for first in range(0, tensor.parameters, _blocks_in_span(self._sources, ids) * BLOCK):
                for index, name in ids:
                    header = self._sources[index].tensors[name]
                    size = DTYPES[header.dtype].nbytes
                    start = header.start + first * size
                    stop = min(start + _blocks_in_span(self._sources, ids) * BLOCK * size, header.stop)
                    wanted[index, name].pieces.append(self._piece(last, index, header.file, start, stop))
            held = sum(piece.stop - piece.start for pieces in wanted.values() for piece in pieces.pieces)
            largest = max(largest, held if self._again else min(held, len(ids) * SPAN))
            self._wanted[tensor.name] = dict(wanted)
        return largest

    def _piece(self, last: dict[int, _Span], index: int, file: str, start: int, stop: int) -> _Piece:
        span = last.get(index)
        if span is None or (span.file, span.stop) != (file, start) or stop - span.start > SPAN:
            span = last[index] = _Span(index, file, start, start)
            self._spans.append(span)
        span.stop = stop
        span.pieces += 1
        return _Piece(span, start, stop)

    def _take(self, wanted: _Pieces, start: int, stop: int) -> memoryview:
        place = next(n for n, piece in enumerate(wanted.pieces) if piece.start <= start < piece.stop)
        piece = wanted.pieces[place]
        assert stop <= piece.stop
        if not self._again:
            self._use(wanted, place)
        with self._changed:
            while piece.span.content is None and piece.span.failure is None and not self._stopped:
                self._changed.wait()
        if piece.span.failure is not None:
            raise piece.span.failure
        if piece.span.content is None:
            raise Interrupted("The merge was stopped.")
        return piece.span.content[start - piece.span.start : stop - piece.span.start]

    def _use(self, wanted: _Pieces, count: int) -> None:
        """Counts the first `count` pieces as done with."""
        with self._changed:
            for piece in wanted.pieces[wanted.used : count]:
                piece.span.pieces -= 1
                if piece.span.pieces == 0:
                    piece.span.content = None
                    self._held -= piece.span.nbytes
            wanted.used = max(wanted.used, count)
            self._changed.notify_all()

    def _fetch(self) -> None:
        while (span := self._next()) is not None:
            try:
                with stoppable(self._check):
                    content = self._sources[span.index].read_range(span.file, span.start, span.stop)
                    self._hash(span, content)
            except BaseException as exc:  # whoever needs these bytes raises it
                span.failure = exc
                if (hashing := self._hashing.get((span.index, span.file))) is not None:
                    hashing.failed = True
            else:
                span.content = content
            with self._changed:
                self._changed.notify_all()

    def _check(self) -> None:
        if self._stopped:
            raise Interrupted("The merge was stopped.")

    def _hash(self, span: _Span, content: memoryview) -> None:
        """Hashes the span after those before it in its file; raises `SourceError` where the whole is not as listed."""
        hashing = self._hashing.get((span.index, span.file))
        if hashing is None:
            return
        with self._changed:
            # Those before were begun before and wait for nobody behind them, so their turn comes.
            self._changed.wait_for(lambda: hashing.position == span.start or hashing.failed or self._stopped)
        try:
            if hashing.position == span.start and not hashing.failed:
                hashing.update(content)
        finally:
            with self._changed:
                self._changed.notify_all()

    def _next(self) -> _Span | None:
        """The next span to fetch, when there is room for it; None: there is nothing more to do."""
        # One thread at a time waits for room: what is needed first is fetched first.
        with self._turn, self._changed:
            if self._stopped or not self._spans:
                return None
            span = self._spans.popleft()
            while self._held + span.nbytes > self._window and not self._stopped:
                self._changed.wait()
            self._held += span.nbytes
            return None if self._stopped else span


def _hashers(spans: Iterable[_Span], sources: Sequence[Source]) -> dict[tuple[int, str], HashedFile]:
    """For each file that is read from its first tensor to its end in order, what hashes it; others cannot be."""
    ends: dict[tuple[int, str], int] = {}
    starts: dict[tuple[int, str], int] = {}
    torn: set[tuple[int, str]] = set()
    for span in spans:
        file = span.index, span.file
        starts.setdefault(file, span.start)
        if ends.setdefault(file, span.start) != span.start:
            torn.add(file)
        ends[file] = span.stop
    hashers = {}
    for (index, name), start in starts.items():
        source = sources[index]
        first = min(tensor.start for tensor in source.tensors.values() if tensor.file == name)
        if (index, name) not in torn and start == first:
            hasher = source.hashing(name, first)
            if hasher is not None and ends[index, name] == hasher.size:
                hashers[index, name] = hasher
    return hashers


def _blocks_in_span(sources: Sequence[Source], tensors: Sequence[TensorId]) -> int:
    """Blocks of the widest of `tensors` that a span holds."""
    widest = max((DTYPES[sources[index].tensors[name].dtype].nbytes for index, name in tensors), default=1)
    return max(1, SPAN // (BLOCK * widest))
