"""Weights read from the Hub by range ahead of their use: several requests at a time, a bounded number of bytes."""

import threading
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import Interrupted
from ..hub.content import HashedFile
from ..hub.patience import stoppable
from ..hub.source import Source
from ..methods.blocks import BLOCK
from .dtypes import STORED
from .stage import Stage
from .tensors import TensorPlan
from .weights import Extent

CONNECTIONS = 8
"""Requests at a time."""

SPAN = 8 * 2**20
"""Bytes that a request asks for: enough to outweigh its latency, and few enough to hold several of each source."""

GAP = 2**10
"""Bytes between two tensors of a file that are read with them: a request of its own would take longer. In an archive
each tensor has a header before it."""

WINDOW = 128 * 2**20
"""Bytes read ahead at most, where one tensor's share does not need more."""

LEAST_SPAN = 2**20
"""Bytes that a request asks for where memory is scarce: a block of float32."""


@dataclass(frozen=True)
class Ahead:
    """How far is read ahead: bytes that a request asks for, and bytes that are held where nothing needs more."""

    span: int
    window: int

    def held(self, nbytes: int, tensors: int, reread: bool) -> int:
        """Bytes that must be held of an output tensor whose share is `nbytes`, in so many stored tensors."""
        return nbytes if reread else min(nbytes, tensors * self.span)

    def most(self, held: int, sources: int) -> int:
        """Bytes that are held at most: `held` of one tensor, and what comes next of each source."""
        return max(self.window, held + sources * self.span)


def far_ahead() -> Ahead:
    """As far as is worth while."""
    return Ahead(SPAN, WINDOW)


Take = Callable[[Extent], memoryview]
"""Gives the bytes of a part of one block, where it is stored."""

_Place = tuple[str, str]
_Stored = tuple[_Place, str]


@dataclass
class _Span:
    """Bytes `start` to `stop` of a file, fetched with one request, and how many `pieces` are still to be used."""

    source: Source
    file: str
    start: int
    stop: int
    pieces: int = 0
    content: memoryview | None = None
    failure: BaseException | None = None

    @property
    def nbytes(self) -> int:
        return self.stop - self.start

    @property
    def place(self) -> tuple[_Place, str]:
        return self.source.place, self.file


@dataclass
class _Piece:
    """Part of one tensor, within one span; `step`: which part of the output tensor it is for."""

    span: _Span
    start: int
    stop: int
    step: int

    def holds(self, byte: int) -> bool:
        """Whether a byte of the file is in it."""
        return self.start <= byte < self.stop


@dataclass
class _Pieces:
    """What is fetched of one stored tensor for one output tensor, in the order of its steps.

    `used`: how many of them are done with. `reread`: none is before the output tensor is, and they are in the order of
    their bytes.
    """

    reread: bool
    pieces: list[_Piece] = field(default_factory=list)
    used: int = 0

    def find(self, start: int, stop: int) -> int:
        """The place of one that holds the byte at `start`, and of what follows up to `stop` as much as any."""
        if self.reread:
            last = bisect_right(self.pieces, start, key=lambda piece: piece.start) - 1
            if last >= 0 and stop <= self.pieces[last].stop:
                return last
        holding = (n for n in range(self.used, len(self.pieces)) if self.pieces[n].holds(start))
        return max(holding, key=lambda n: (min(stop, self.pieces[n].stop), -n))

    def before(self, place: int) -> int:
        """How many are for steps before that of the one at `place`."""
        step = self.pieces[place].step
        return next(n for n in range(self.used, place + 1) if self.pieces[n].step == step)


class Prefetch:
    """Reads ahead what is `far` of all that `tensors` need, in their order.

    Tensors may be merged in parallel if each is begun in this order. Bytes that lie together in a file are read
    together. What a tensor needs is kept until it is done with where it is read more than once, and else until what
    comes after its step is read.
    """

    def __init__(
        self,
        stage: Stage,
        tensors: Sequence[TensorPlan],
        far: Callable[[Extent], bool],
        ahead: Ahead | None = None,
    ) -> None:
        self._ahead = ahead or far_ahead()
        self._wanted: dict[str, dict[_Stored, _Pieces]] = {}
        self._spans: deque[_Span] = deque()
        largest = self._lay_out(stage, tensors, far)
        self._window = self._ahead.most(largest, len({span.source.place for span in self._spans}))
        self._held = 0
        self._hashing = _hashers(self._spans)
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
            yield lambda extent: self._take(wanted[extent.stored], *extent.bytes)
        finally:
            for pieces in wanted.values():
                self._use(pieces, len(pieces.pieces))

    def stop(self) -> None:
        """Ends the reading ahead; whoever waits for bytes gets `Interrupted`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _lay_out(self, stage: Stage, tensors: Sequence[TensorPlan], far: Callable[[Extent], bool]) -> int:
        """Sorts all that is far into spans; returns the bytes that must be held for one tensor to be merged."""
        last: dict[_Place, _Span] = {}
        largest = 0
        for tensor in tensors:
            wanted: dict[_Stored, _Pieces] = {}
            reread = stage.reads_again(tensor)
            step = self._blocks_in_span(extent for extent in stage.needs_all(tensor) if far(extent)) * BLOCK
            asked: set[tuple[_Stored, int, int]] = set()
            held: Counter[tuple[_Stored, int]] = Counter()
            for number, first in enumerate(range(0, tensor.parameters, step)):
                for extent in stage.needs(tensor, first, min(first + step, tensor.parameters)):
                    part = extent.stored, extent.start, extent.stop
                    if part not in asked and far(extent):
                        asked.add(part)
                        piece = self._piece(last, extent, number)
                        wanted.setdefault(extent.stored, _Pieces(reread)).pieces.append(piece)
                        held[extent.stored, 0 if reread else number] += piece.stop - piece.start
            if reread:
                for pieces in wanted.values():
                    pieces.pieces.sort(key=lambda piece: piece.start)
            most: dict[_Stored, int] = {}
            for (stored, _), nbytes in held.items():
                most[stored] = max(nbytes, most.get(stored, 0))
            largest = max(largest, sum(most.values()))
            self._wanted[tensor.name] = wanted
        return largest

    def _piece(self, last: dict[_Place, _Span], extent: Extent, step: int) -> _Piece:
        (place, file), (start, stop) = extent.file, extent.bytes
        span = last.get(place)
        near = span is not None and span.file == file and 0 <= start - span.stop <= GAP
        if span is None or not near or stop - span.start > self._ahead.span:
            begin = span.stop if span is not None and near else start
            span = last[place] = _Span(extent.source, file, begin, begin)
            self._spans.append(span)
        span.stop = stop
        span.pieces += 1
        return _Piece(span, start, stop, step)

    def _blocks_in_span(self, extents: Iterable[Extent]) -> int:
        """Blocks of the widest of these tensors that a span holds."""
        widest = max((STORED[extent.tensor.dtype].nbytes for extent in extents), default=1)
        return max(1, self._ahead.span // (BLOCK * widest))

    def _take(self, wanted: _Pieces, start: int, stop: int) -> memoryview:
        place = wanted.find(start, stop)
        piece = wanted.pieces[place]
        if not wanted.reread:
            self._use(wanted, wanted.before(place))
        with self._changed:
            while piece.span.content is None and piece.span.failure is None and not self._stopped:
                self._changed.wait()
        if piece.span.failure is not None:
            raise piece.span.failure
        if piece.span.content is None:
            raise Interrupted("The merge was stopped.")
        end = min(stop, piece.stop)
        found = piece.span.content[start - piece.span.start : end - piece.span.start]
        # A sample of a tensor may begin in one piece and end in the next.
        return found if end == stop else memoryview(bytearray(found) + self._take(wanted, end, stop))

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
                    content = span.source.read_range(span.file, span.start, span.stop)
                    self._hash(span, content)
            except BaseException as exc:  # whoever needs these bytes raises it
                span.failure = exc
                if (hashing := self._hashing.get(span.place)) is not None:
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
        hashing = self._hashing.get(span.place)
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


def _hashers(spans: Iterable[_Span]) -> dict[tuple[_Place, str], HashedFile]:
    """For each file that is read from its first tensor to its last in order, what hashes it; others cannot be."""
    sources: dict[tuple[_Place, str], Source] = {}
    ends: dict[tuple[_Place, str], int] = {}
    starts: dict[tuple[_Place, str], int] = {}
    torn: set[tuple[_Place, str]] = set()
    for span in spans:
        sources[span.place] = span.source
        starts.setdefault(span.place, span.start)
        if ends.setdefault(span.place, span.start) != span.start:
            torn.add(span.place)
        ends[span.place] = span.stop
    hashers = {}
    for place, start in starts.items():
        hasher = None if place in torn else sources[place].hashing(place[1])
        if hasher is not None and (hasher.position, hasher.stop) == (start, ends[place]):
            hashers[place] = hasher
    return hashers
