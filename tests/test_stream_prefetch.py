"""Reading ahead: the right bytes in any order of use, bounded memory, errors where they belong, and an end."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from waiting import until

import hubmerge.stream.prefetch as prefetch
from hubmerge.errors import HubError, Interrupted, SourceError
from hubmerge.hub.answers import FileInfo
from hubmerge.hub.content import HashedFile
from hubmerge.hub.headers import TensorHeader
from hubmerge.methods import METHODS
from hubmerge.methods.blocks import BLOCK
from hubmerge.stream.carried import Carried
from hubmerge.stream.stage import Stage
from hubmerge.stream.tensors import TensorPlan
from hubmerge.stream.weights import Extent, Stored

FILE = "model.safetensors"
SIZES = {"large": 5 * BLOCK - 7, "small": 1000, "tiny": 3, "wide": 2 * BLOCK}


@dataclass
class Far:
    """A source whose bytes tell where they are from; counts requests and what was asked for."""

    tensors: dict[str, TensorHeader] = field(default_factory=dict)
    requests: list[tuple[int, int]] = field(default_factory=list)
    broken: tuple[int, int] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    place: object = field(default_factory=object)
    sha256: str | None = None

    def __post_init__(self) -> None:
        position = 64
        for name, elements in SIZES.items():
            self.tensors[name] = TensorHeader(name, "I16", (elements,), FILE, position, position + 2 * elements)
            position += 2 * elements
        self.content = np.arange(position, dtype=np.uint32).astype(np.uint8).tobytes()

    def read_range(self, file: str, start: int, stop: int) -> memoryview:
        assert file == FILE
        with self.lock:
            self.requests.append((start, stop))
        if self.broken and start < self.broken[1] and stop > self.broken[0]:
            raise HubError("Broken.")
        return memoryview(self.content)[start:stop]

    def hashing(self, file: str) -> HashedFile | None:
        if self.sha256 is None:
            return None
        info, start = FileInfo(FILE, len(self.content), self.sha256), min(t.start for t in self.tensors.values())
        stop = max(t.stop for t in self.tensors.values())
        return HashedFile(info, "org/far", (start, stop), lambda *part: memoryview(self.content)[slice(*part)])


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[Far]:
    monkeypatch.setattr(prefetch, "SPAN", 2 * BLOCK * 2)
    monkeypatch.setattr(prefetch, "WINDOW", 1)  # so that it is what one tensor needs, and a span a source
    return [Far(), Far()]


def plans() -> list[TensorPlan]:
    return [TensorPlan(name, (elements,), "I16", ((0, name), (1, name))) for name, elements in SIZES.items()]


def reading(
    sources: list[Far], tensors: list[TensorPlan], again: bool = False, only: Far | None = None
) -> prefetch.Prefetch:
    """Reads ahead what `tensors` need of all sources, or of one alone."""
    method = METHODS["ties" if again else "linear"]  # which reads all of a tensor first
    stage = Stage("", method, tuple(map(Stored, sources)), tuple(tensors), {}, Carried(sources[0]))
    return prefetch.Prefetch(stage, tensors, lambda extent: only in (None, extent.source))


def use(ahead: prefetch.Prefetch, sources: list[Far], plan: TensorPlan, passes: int = 1) -> None:
    """Takes all of a tensor, block by block, and checks every byte."""
    with ahead.taking(plan) as take:
        for start in [start for _ in range(passes) for start in range(0, plan.parameters, BLOCK)]:
            for index, name in plan.inputs:
                source = sources[index]
                extent = Extent(source, source.tensors[name], start, min(start + BLOCK, plan.parameters))
                assert bytes(take(extent)) == source.content[slice(*extent.bytes)]


def at_rest(ahead: prefetch.Prefetch) -> bool:
    """Whether its threads have ended, or the next to read waits for room."""
    return bool(ahead._changed._waiters) or not any(thread.is_alive() for thread in ahead._threads)


@pytest.mark.parametrize("again", [False, True])
def test_every_byte_once_and_never_more_than_the_window(sources: list[Far], again: bool) -> None:
    ahead = reading(sources, plans(), again)
    most, total = 0, sum(2 * elements for elements in SIZES.values())
    used = 0
    for plan in plans():
        until(lambda: at_rest(ahead), "the readers run on")  # as far ahead as they may
        fetched = sum(stop - start for source in sources for start, stop in source.requests)
        most = max(most, fetched - used)
        use(ahead, sources, plan, passes=2 if again else 1)
        used += 2 * 2 * plan.parameters
    ahead.stop()
    for source in sources:
        assert sum(stop - start for start, stop in source.requests) == total
        # "small" and "tiny" lie behind the end of "large", and come with it or with "wide".
        assert len(source.requests) <= 5
    whole, span = 2 * 2 * SIZES["large"], 2 * BLOCK * 2
    assert most <= (whole if again else 2 * span) + 2 * span
    assert used == 2 * total


@pytest.mark.parametrize("again", [False, True])
def test_tensors_in_parallel(sources: list[Far], again: bool) -> None:
    for _ in range(10):
        ahead = reading(sources, plans(), again)
        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(use, ahead, sources, plan) for plan in plans()]:
                done.result()
        ahead.stop()


def test_an_error_reaches_whoever_needs_these_bytes_and_nobody_else(sources: list[Far]) -> None:
    header = sources[1].tensors["wide"]
    sources[1].broken = (header.stop - 2, header.stop)
    ahead = reading(sources, plans())
    *good, bad = plans()
    for plan in good:
        use(ahead, sources, plan)
    with pytest.raises(HubError, match="Broken"):
        use(ahead, sources, bad)
    ahead.stop()


def test_stopping_ends_the_waiting(sources: list[Far], monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(Far, "read_range", lambda *_: gate.wait() and memoryview(b""))
    ahead = reading(sources, plans())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(use, ahead, sources, plans()[0])
        until(lambda: len(ahead._changed._waiters) == 2, "not one for room and one for bytes")
        assert not waiting.done()
        ahead.stop()
        with pytest.raises(Interrupted):
            waiting.result()
    gate.set()


def test_what_is_here_is_not_fetched(sources: list[Far]) -> None:
    ahead = reading(sources, plans()[1:2], only=sources[1])
    with ahead.taking(plans()[1]) as take:
        assert len(take(Extent(sources[1], sources[1].tensors["small"], 0, 1000))) == 2000
    ahead.stop()
    assert not sources[0].requests


def test_what_is_read_in_order_to_its_end_is_hashed(sources: list[Far]) -> None:
    for source in sources:
        source.sha256 = hashlib.sha256(source.content).hexdigest()
    ahead = reading(sources, plans())
    assert len(ahead._hashing) == 2
    for plan in plans():
        use(ahead, sources, plan)
    assert all(hashing.position == hashing.stop for hashing in ahead._hashing.values())
    sources[1].sha256 = "0" * 64
    ahead = reading(sources, plans())
    *first, last = plans()
    for plan in first:
        use(ahead, sources, plan)
    with pytest.raises(SourceError, match=r"org/far arrived otherwise .* the Hub lists 0000"):
        use(ahead, sources, last)
    ahead.stop()


def test_what_is_read_in_another_order_or_in_part_cannot_be(sources: list[Far]) -> None:
    for source in sources:
        source.sha256 = "0" * 64
    for some in (plans()[::-1], plans()[1:], plans()[:-1]):
        ahead = reading(sources, some)
        assert not ahead._hashing
        for plan in some:
            use(ahead, sources, plan)
