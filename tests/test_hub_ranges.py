"""Parts of a file of the Hub: the right bytes or one clear error, whatever comes in between."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubtools import checkpoint, on_path, publish
from localhubtools import hold_delays
from waiting import until

from hubmerge.errors import AccessError, HubError, Interrupted, NetworkError, NotFoundError, SourceError
from hubmerge.hub import Source, open_source, patience
from hubmerge.hub import ranges as hub_ranges
from hubmerge.hub import session as hub_session
from hubmerge.hub.patience import stoppable
from hubmerge.localhub import Fault, LocalHub
from hubmerge.reference import ModelRef

WEIGHTS = "model.safetensors"
FILES = checkpoint(width=256)
CONTENT = FILES[WEIGHTS]
SIZE = len(CONTENT)
TIMES = 20
THREADS = 8


@pytest.fixture(scope="module")
def repo_id(hub: LocalHub) -> str:
    """A private repository: without the token nothing of it is seen."""
    publish("alice/ranges", FILES, private=True)
    return "alice/ranges"


@pytest.fixture(autouse=True)
def _healthy_again(hub: LocalHub) -> Iterator[None]:
    yield
    hub.redirect_seconds, hub.faults = None, None


@pytest.fixture(params=[None, 60.0], ids=["in place", "redirected"])
def served(hub: LocalHub, request: pytest.FixtureRequest) -> str:
    """How the Hub serves large files; gives the part of their address that a request for content has."""
    hub.redirect_seconds = request.param
    return "/resolve/" if request.param is None else "/cdn/"


@pytest.fixture
def redirected(hub: LocalHub) -> LocalHub:
    """The Hub while it redirects large files to another origin."""
    hub.redirect_seconds = 60.0
    return hub


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps between attempts; the seconds that were asked for are listed."""
    slept: list[float] = []
    monkeypatch.setattr(hub_session, "JITTER", 0)
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    return slept


def opened(repo_id: str, hub: LocalHub) -> Source:
    source = open_source(ModelRef.parse(repo_id))
    hub.clear_log()
    return source


def reads(hub: LocalHub, part: str = "") -> list:
    return [request for request in hub.log if request.path.endswith(WEIGHTS) and part in request.path]


def check(source: Source, start: int, stop: int) -> None:
    assert source.read_range(WEIGHTS, start, stop) == CONTENT[start:stop]


def spans(seed: int, count: int = TIMES) -> list[tuple[int, int]]:
    """Random parts of the file, each of at least 1,000 bytes."""
    draw = random.Random(seed)
    starts = [draw.randrange(SIZE - 1000) for _ in range(count)]
    return [(start, draw.randrange(start + 1000, SIZE + 1)) for start in starts]


BUSY = {"RateLimit": '"resolvers";r=0;t=7'}
PASSING = {
    "429 with Retry-After": Fault(status=429, headers={"Retry-After": "7"}),
    "429 with RateLimit": Fault(status=429, headers=BUSY),
    "408": Fault(status=408),
    "503": Fault(status=503),
    "reset": Fault(reset=True),
    "cut at once": Fault(truncate_after=0),
    "cut in mid-body": Fault(truncate_after=900),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_costs_a_repeat(
    hub: LocalHub, repo_id: str, served: str, naps: list[float], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = opened(repo_id, hub)
    parts = spans(seed=1)
    for start, stop in parts:
        hub.faults = on_path(served, PASSING[name], times=2)
        check(source, start, stop)
    assert len(naps) >= TIMES, "a part may be smaller than what is left of it after the first cut"
    assert set(naps) == ({7} if "429" in name else {0.5} if "mid-body" in name else {0.5, 1})
    assert len([request for request in reads(hub) if request.status == 302]) <= 1
    if PASSING[name].status is None:
        assert sum(request.sent for request in reads(hub)) == sum(stop - start for start, stop in parts)


def with_headers(etag: str | None = None, size: int = SIZE, **headers: str) -> Callable[[object], Fault | None]:
    """Answers a request for content as a server would whose file is of another etag, size or kind."""

    def faults(request: object) -> Fault | None:
        if not request.url.path.endswith(WEIGHTS):  # type: ignore[attr-defined]
            return None
        first, last = request.headers["range"].removeprefix("bytes=").split("-")  # type: ignore[attr-defined]
        answer = {"Content-Range": f"bytes {first}-{last}/{size}", "ETag": f'"{etag or "none"}"'}
        answer |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        return Fault(status=206, headers=answer, body=b"x" * (int(last) + 1 - int(first)))

    return faults


REVOKED = {"X-Error-Message": "Invalid credentials in Authorization header"}
LASTING = {
    "range ignored": (Fault(ignore_range=True), HubError, "sends whole files"),
    "nothing at all": (Fault(status=204), HubError, "HTTP 204"),
    "token revoked": (Fault(status=401, headers=REVOKED), AccessError, "does not know this token"),
    "rights taken": (Fault(status=403), AccessError, "the Hub refused .403.; use a token with access"),
    "repository gone": (Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), NotFoundError, "no such repo"),
    "file cut": (Fault(status=416, headers={"Content-Range": "bytes */1000"}), HubError, "now has 1000"),
    "etag changed": (with_headers(etag="0" * 64), HubError, f"its ETag is now {'0' * 64}"),
    "size changed": (with_headers(size=SIZE - 1), HubError, f"had {SIZE} bytes, and now has {SIZE - 1}"),
    "other commit": (with_headers(x_repo_commit="f" * 40), HubError, "commit ffff"),
    "other part": (with_headers(content_range=f"bytes 8-9/{SIZE}"), HubError, "sends another part"),
    "part unnamed": (with_headers(content_range=""), HubError, "another part .Content-Range: None"),
    "compressed": (with_headers(content_encoding="gzip"), HubError, "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_one_clear_error(hub: LocalHub, repo_id: str, name: str, naps: list[float]) -> None:
    fault, kind, says = LASTING[name]
    source = opened(repo_id, hub)
    for start, stop in spans(seed=2):
        hub.faults = None
        check(source, 0, 1000)
        hub.clear_log()
        hub.faults = fault if callable(fault) else on_path(WEIGHTS, fault)
        with pytest.raises(kind, match=says) as caught:
            source.read_range(WEIGHTS, start, stop)
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"Reading {WEIGHTS} of {repo_id} failed: ")
        assert str(caught.value).endswith(".")
        assert "hf_alice" not in str(caught.value)
        assert len(reads(hub)) == 1, "what cannot help is not tried"
    hub.faults = None
    assert not naps
    check(source, 0, SIZE)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(ignore_range=True), "sends whole files"),
        (with_headers(etag="0" * 64), "its ETag was .* and is now 000"),
        (with_headers(size=SIZE + 8), f"now has {SIZE + 8}"),
    ],
    ids=["range ignored", "etag changed", "size changed"],
)
def test_the_storage_is_checked_as_well(redirected: LocalHub, repo_id: str, fault: object, says: str) -> None:
    source = opened(repo_id, redirected)
    for start, stop in spans(seed=3):
        redirected.faults = None
        check(source, 0, 1000)
        redirected.faults = on_path("/cdn/", fault) if isinstance(fault, Fault) else fault
        with pytest.raises(HubError, match=says):
            source.read_range(WEIGHTS, start, stop)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"X-Linked-Etag": f'"{"0" * 64}"'}, "its sha256 was .* ETag is now 000"),
        ({"X-Linked-Etag": 'W/"v2"'}, "ETag is now v2"),
        ({"X-Linked-Size": "12"}, f"had {SIZE} bytes, and now has 12"),
    ],
)
def test_a_redirect_to_another_file_is_not_followed(
    hub: LocalHub, repo_id: str, headers: dict[str, str], says: str
) -> None:
    source = opened(repo_id, hub)
    there = Fault(status=302, headers={"Location": f"http://127.0.0.1:{hub.cdn_port}/cdn/{WEIGHTS}", **headers})
    hub.faults = on_path("/resolve/", there)
    for start, stop in spans(seed=4):
        with pytest.raises(HubError, match=says):
            source.read_range(WEIGHTS, start, stop)
    assert not reads(hub, "/cdn/")


def test_the_hub_is_asked_once_and_the_token_stays_with_it(redirected: LocalHub, repo_id: str) -> None:
    tokens: dict[bool, set[bool]] = {True: set(), False: set()}

    def watch(request: object) -> None:
        tokens[request.url.path.startswith("/cdn/")].add("authorization" in request.headers)  # type: ignore[attr-defined]

    source = opened(repo_id, redirected)
    source.listing.store._ranged.clear()
    redirected.faults = watch
    together = threading.Barrier(THREADS)

    def work(number: int) -> None:
        together.wait()
        for start, stop in spans(seed=number):
            check(source, start, stop)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert len(reads(redirected, "/resolve/")) == 1
    assert len(reads(redirected, "/cdn/")) == THREADS * TIMES
    assert tokens == {False: {True}, True: {False}}
    needed = sum(stop - start for number in range(THREADS) for start, stop in spans(seed=number))
    assert sum(request.sent for request in reads(redirected)) == needed


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_address_that_expired_is_renewed(redirected: LocalHub, repo_id: str, status: int, naps: list[float]) -> None:
    source = opened(repo_id, redirected)
    for start, stop in spans(seed=5):
        redirected.faults = on_path("/cdn/", Fault(status=status), times=1)
        check(source, start, stop)
    assert len(reads(redirected, "/resolve/")) == TIMES
    assert not naps, "an expired address says nothing about the server"


def test_addresses_that_expire_all_the_time_under_many_threads(
    redirected: LocalHub, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(repo_id, redirected)
    source.listing.store._ranged.clear()
    # A clock that moves with every part that is asked for: an address is good for some parts more than threads ask at a
    # time, so that one that has just been given out is still good.
    parts = 0

    def count(request: object) -> None:
        nonlocal parts
        parts += request.url.path.startswith("/cdn/")  # type: ignore[attr-defined]

    redirected.faults = count
    monkeypatch.setattr("hubmerge.localhub.serving.signing.time", SimpleNamespace(time=lambda: float(parts)))
    redirected.redirect_seconds = valid = 2 * THREADS

    def work(number: int) -> None:
        for start, stop in spans(seed=number):
            check(source, start, stop)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    asked, delivered = len(reads(redirected, "/resolve/")), len(reads(redirected, "/cdn/"))
    assert delivered >= THREADS * TIMES > 2 * valid
    assert 2 <= asked <= 1 + delivered / valid, "once for all threads, when an address ran out"


def test_who_is_stopped_while_searching_for_the_place_stops_nobody_else(
    redirected: LocalHub, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(repo_id, redirected)
    source.listing.store._ranged.clear()
    stopped = threading.Event()

    def stop() -> None:
        if stopped.is_set():
            raise Interrupted("stopped")

    def first() -> None:
        with stoppable(stop):
            source.read_range(WEIGHTS, 0, 9)

    _, go_on = hold_delays(monkeypatch)
    redirected.faults = on_path("/resolve/", Fault(delay=1), times=1)
    with ThreadPoolExecutor(2) as pool:
        searching = pool.submit(first)
        ranged = source.listing.store._ranged
        place = until(lambda: ranged.get(WEIGHTS) and ranged[WEIGHTS]._place, "nobody searches")
        waiting = pool.submit(source.read_range, WEIGHTS, 9, 99)
        until(lambda: place._waiters, "nobody waits for it")
        assert not searching.done() and not waiting.done()
        stopped.set()
        with pytest.raises(Interrupted):
            searching.result()
        assert bytes(waiting.result()) == CONTENT[9:99]
    go_on.set()


def test_a_token_revoked_where_the_storage_still_answers(redirected: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, redirected)
    redirected.faults = on_path("/resolve/", Fault(status=401, headers=REVOKED))
    for start, stop in spans(seed=6):
        check(source, start, stop)  # the address is known and good for a while
    redirected.faults = lambda request: Fault(status=403 if "/cdn/" in request.url.path else 401, headers=REVOKED)
    for start, stop in spans(seed=7):
        with pytest.raises(AccessError, match="does not know this token"):
            source.read_range(WEIGHTS, start, stop)


def test_a_storage_that_refuses_new_addresses(redirected: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, redirected)
    redirected.faults = on_path("/cdn/", Fault(status=403))
    for start, stop in spans(seed=8):
        redirected.clear_log()
        with pytest.raises(HubError, match=r"127\.0\.0\.1, where the Hub keeps it, refuses the address") as caught:
            source.read_range(WEIGHTS, start, stop)
        assert "signature" not in str(caught.value)
        assert len(reads(redirected, "/resolve/")) == 1


def test_a_hub_that_begins_to_redirect_is_followed(hub: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, hub)
    check(source, 0, 1000)
    hub.redirect_seconds = 60.0
    for start, stop in spans(seed=9):
        check(source, start, stop)
    assert len(reads(hub, "/cdn/")) == TIMES


def test_a_circle_of_redirects(hub: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, hub)
    hub.faults = lambda request: Fault(status=307, headers={"Location": request.url.path})
    with pytest.raises(HubError, match="redirects in a circle"):
        source.read_range(WEIGHTS, 0, 1000)


def test_only_attempts_that_bring_nothing_count(hub: LocalHub, repo_id: str, naps: list[float]) -> None:
    source = opened(repo_id, hub)
    hub.faults = on_path(WEIGHTS, Fault(truncate_after=100))
    check(source, 0, 100 * 3 * hub_ranges.ATTEMPTS)
    naps.clear()
    hub.clear_log()
    hub.faults = on_path(WEIGHTS, Fault(truncate_after=0))
    with pytest.raises(NetworkError, match="broke"):
        source.read_range(WEIGHTS, 0, 1000)
    assert naps == [0.5, 1, 2, 4, 8]
    assert len(reads(hub)) == hub_ranges.ATTEMPTS
    naps.clear()
    hub.faults = on_path(WEIGHTS, Fault(status=429, headers={"RateLimit": '"api";r=0;t=200'}))
    with pytest.raises(NetworkError, match="again in 200 seconds"):
        source.read_range(WEIGHTS, 0, 1000)
    assert not naps


def test_those_who_wait_for_one_that_fails_search_themselves(redirected: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, redirected)
    source.listing.store._ranged.clear()
    redirected.faults = on_path("/resolve/", Fault(status=503, delay=0.05), times=2)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda span: check(source, *span), spans(seed=10, count=THREADS)))
    assert 3 <= len(reads(redirected, "/resolve/")) < 2 + THREADS


def test_everything_at_once(redirected: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, redirected)
    draw = random.Random(11)

    def weather(request: object) -> Fault | None:
        expired = [Fault(status=403)] if request.url.path.startswith("/cdn/") else []  # type: ignore[attr-defined]
        return draw.choice([*PASSING.values(), *expired]) if draw.random() < 0.2 else None

    redirected.faults = weather
    refused = []

    def work(number: int) -> None:
        for start, stop in spans(seed=number, count=40):
            try:
                check(source, start, stop)
            except HubError as error:
                refused.append(error)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert len(refused) <= 8, "only a fresh address that is refused, or six failures in a row, are errors"


def test_nothing_is_asked_for_nothing(hub: LocalHub, repo_id: str) -> None:
    source = opened(repo_id, hub)
    assert source.read_range(WEIGHTS, 64, 64) == b""
    assert not hub.log
    with pytest.raises(SourceError, match=r"alice/ranges has no file other\.safetensors"):
        source.read_range("other.safetensors", 0, 8)


def test_a_folder_is_read_the_same_way(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    source = open_source(ModelRef.parse(str(tmp_path)))
    for start, stop in spans(seed=13):
        check(source, start, stop)
    (tmp_path / WEIGHTS).write_bytes(CONTENT[:2000])
    with pytest.raises(SourceError, match="changed while it was being used"):
        source.read_range(WEIGHTS, 1500, 2500)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(SourceError, match="changed while it was being used"):
        source.read_range(WEIGHTS, 0, 8)
