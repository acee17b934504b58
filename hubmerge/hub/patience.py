"""Network reads that end: a least speed, a largest answer, a longest time, and somebody who may stop them.

Time limits of a socket are not enough: a server that sends one byte a second meets all of them for ever. So the
connections of huggingface_hub's client are watched where bytes come and go; whatever library asks, and in whichever
phase (request, headers, body, redirects), the same few limits hold.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpcore2
import httpx2

LEAST_SPEED = 1000.0
"""Bytes a second that an answer must bring once it has begun, over any stretch of `GRACE` seconds."""

GRACE = 60.0
"""Seconds for which it may bring less."""

LARGEST_ANSWER = 64 * 2**20
"""Bytes of an answer that is no file: the list of the largest repository is a tenth of that."""

LONGEST = 120.0
"""Seconds that a small request may take in all, its redirects and pages included."""

HEADROOM = 2**20
"""Bytes that an answer may have beside its content: headers, and how the content is cut into pieces."""

MOST_EXCHANGES = 100
"""Requests that one call may lead to without bringing anything: redirects, pages, repeats."""

TICK = 0.25
"""Seconds between two looks whether the work was stopped."""

_EXPANSION = 1032
"""How many bytes one compressed byte becomes at most, in gzip and deflate."""


class Unbearable(httpx2.TransportError):
    """An answer that is too slow, too large or never ends. Not one of those that are worth another try at once."""


@dataclass
class _Bounds:
    """What one call may take: `largest` bytes of each answer, until the time `until`; `exchanges` so far.

    `unpacked`: whether the caller reads a compressed answer's content, rather than the bytes that come.
    """

    largest: int | None = None
    until: float | None = None
    unpacked: bool = True
    exchanges: int = 0


_bounds: ContextVar[_Bounds | None] = ContextVar("hubmerge_bounds", default=None)
_unhurried: ContextVar[bool] = ContextVar("hubmerge_unhurried", default=False)
_check: ContextVar[Callable[[], None] | None] = ContextVar("hubmerge_check", default=None)


@contextmanager
def bounded(largest: int | None = None, seconds: float | None = None, *, unpacked: bool = True) -> Iterator[None]:
    """Within, on this thread: no answer has more than `largest` bytes, and all takes no longer than `seconds`.

    `unpacked`: an answer that could become larger when it is unpacked is refused.
    """
    until = None if seconds is None else time.monotonic() + seconds
    before = _bounds.set(_Bounds(largest, until, unpacked))
    try:
        yield
    finally:
        _bounds.reset(before)


@contextmanager
def unhurried() -> Iterator[None]:
    """Within, on this thread: an answer may bring as little as it likes, as one that follows a log does."""
    before = _unhurried.set(True)
    try:
        yield
    finally:
        _unhurried.reset(before)


@contextmanager
def stoppable(check: Callable[[], None]) -> Iterator[None]:
    """Within, on this thread: `check` is called at least every `TICK` seconds of waiting; what it raises ends it."""
    outer = _check.get()

    def both() -> None:
        if outer is not None:
            outer()
        check()

    before = _check.set(both)
    try:
        yield
    finally:
        _check.reset(before)


def check_stopped() -> None:
    """Raises what the work was stopped with, if it was."""
    check = _check.get()
    if check is not None:
        check()


def nap(seconds: float) -> None:
    """Sleeps, unless the work is stopped meanwhile."""
    if _check.get() is None:
        time.sleep(seconds)
        return
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check_stopped()
        time.sleep(min(left, TICK))


def watch(client: httpx2.Client) -> None:
    """Puts the connections of `client` under these limits; again, it does nothing."""
    # httpx2 has no public way to its connections; a transport of somebody else's making is left as it is.
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if pool is not None and backend is not None and not isinstance(backend, _Backend):
            pool._network_backend = _Backend(backend)
    hooks = client.event_hooks
    if _refuse_bomb not in hooks["response"]:
        client.event_hooks = {
            "request": [*hooks["request"], _ask_for_plain],
            "response": [*hooks["response"], _refuse_bomb],
        }


def _ask_for_plain(request: httpx2.Request) -> None:
    """Asks for the content as it is: only its size can be bounded while it arrives."""
    if _bounds.get() is not None:
        request.headers["Accept-Encoding"] = "identity"


def _refuse_bomb(answer: httpx2.Response) -> None:
    """Refuses an answer that could grow beyond all bounds when it is unpacked."""
    bounds = _bounds.get()
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if bounds is None or bounds.largest is None or not bounds.unpacked or coding in ("identity", ""):
        return
    size = answer.headers.get("content-length", "")
    known = size.isascii() and size.isdigit() and len(size) < 20
    if coding not in ("gzip", "deflate") or not known or int(size) * _EXPANSION > bounds.largest + HEADROOM:
        raise Unbearable(
            f"{answer.url.host} sends a compressed answer ({coding[:20]}) that was not asked for and may be of any "
            "size; check HF_ENDPOINT and any proxy in between.",
            request=answer.request,
        )


class _Backend(httpcore2.NetworkBackend):
    """Opens connections that are watched."""

    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, host)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.connect_unix_socket(path, timeout, socket_options), path)

    def sleep(self, seconds: float) -> None:
        nap(seconds)


class _Stream(httpcore2.NetworkStream):
    """A connection that counts what comes and how long it is waited for.

    Each byte buys time, up to `GRACE` seconds of it; waiting spends it. What a server takes to think, before the first
    byte of its answer, is left to the time limit of the request.
    """

    def __init__(self, inner: httpcore2.NetworkStream, host: str) -> None:
        self._inner = inner
        self._host = host
        self._credit = GRACE
        self._received = 0
        self._asking = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        began = time.monotonic()
        self._asking = False
        while True:
            waited = self._look(began, slow=self._received > 0)
            patience = TICK if timeout is None else max(0.001, min(TICK, timeout - waited))
            try:
                data = self._inner.read(max_bytes, patience)
                break
            except httpcore2.ReadTimeout:
                if timeout is not None and time.monotonic() - began >= timeout:
                    raise
        self._spend(began if self._received else None, len(data))
        self._received += len(data)
        bounds = _bounds.get()
        if bounds is not None:
            bounds.exchanges = 0 if self._received > HEADROOM else bounds.exchanges
            if bounds.largest is not None and self._received > bounds.largest + HEADROOM:
                raise Unbearable(
                    f"{self._host} sends more than the {bounds.largest:,} bytes that the answer may have; check "
                    "HF_ENDPOINT and any proxy in between."
                )
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._begin()
        connection = self._inner.get_extra_info("socket")
        encrypted = self._inner.get_extra_info("ssl_object")
        if encrypted is not None and encrypted is not getattr(connection, "_sslobj", None):
            # Encryption within that of a proxy is not the socket's own.
            self._inner.write(buffer, timeout)
            return
        view = memoryview(buffer)
        while view:
            began = time.monotonic()
            count = 0
            while not count:
                waited = self._look(began, slow=True)
                patience = TICK if timeout is None else max(0.001, min(TICK, timeout - waited))
                try:
                    connection.settimeout(patience)
                    count = connection.send(view)
                except TimeoutError as exc:
                    if timeout is not None and time.monotonic() - began >= timeout:
                        raise httpcore2.WriteTimeout(str(exc)) from exc
                except OSError as exc:
                    raise httpcore2.WriteError(str(exc)) from exc
            self._spend(began, count)
            view = view[count:]

    def _begin(self) -> None:
        """A new request begins, unless this is the rest of one."""
        if self._asking:
            return
        self._asking, self._received, self._credit = True, 0, GRACE
        bounds = _bounds.get()
        if bounds is not None:
            bounds.exchanges += 1
            if bounds.exchanges > MOST_EXCHANGES:
                raise Unbearable(
                    f"{self._host} leads from one address to the next without end; check HF_ENDPOINT and any proxy in "
                    "between."
                )

    def _look(self, began: float, slow: bool) -> float:
        """Whether to wait on; returns the seconds since `began`."""
        check_stopped()
        bounds, now = _bounds.get(), time.monotonic()
        if bounds is not None and bounds.until is not None and now > bounds.until:
            raise Unbearable(f"{self._host} does not come to an end of its answer; run the same again later.")
        if slow and now - began > self._credit and not _unhurried.get():
            raise Unbearable(
                f"{self._host} is too slow: less than {LEAST_SPEED:,.0f} bytes a second for {GRACE:,.0f} seconds; "
                "check the connection and run the same again."
            )
        return now - began

    def _spend(self, began: float | None, count: int) -> None:
        waited = time.monotonic() - began if began is not None else 0.0
        self._credit = min(GRACE, self._credit - waited + count / LEAST_SPEED)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._host)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
