"""The connections of clients: known by their addresses, and closed where what still comes is for nobody."""

from asyncio import TimerHandle, Transport
from collections.abc import Mapping
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_UNREAD = 8 << 20
"""Bytes of a body that still come in after the answer, and are dropped; one that goes on is not waited for."""

SILENT_SECONDS = 60.0
"""Seconds that a client may leave a request half sent."""

UNREAD_SECONDS = 30.0
"""Seconds that the rest of such a body may take."""

_open: dict[tuple[Any, Any], Transport] = {}  # (server address, client address) -> transport


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol, which remembers the transport of each connection so that a fault can break it.

    A client that begins a request and falls silent is let go: nothing else ends its connection.

    A request may be answered before its body is there, most often refused. uvicorn then reads the rest without end. A
    client that is done soon keeps its connection; any other has had time to see the answer.
    """

    _silence: TimerHandle | None = None
    _unread: TimerHandle | None = None
    _dropped = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        _open[self.server, self.client] = transport
        self._await_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """A client went away."""
        _open.pop((self.server, self.client), None)
        self._forget_unread()
        self._forget_silence()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """An answer has been sent."""
        super().on_response_complete()
        if self._body_is_for_nobody() and not self.transport.is_closing():
            self._dropped = 0
            self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        """A client sent something."""
        if self._unread is not None:
            self._dropped += len(data)
            if self._dropped > MOST_UNREAD:
                self.transport.close()
                return
        super().data_received(data)
        if not self._body_is_for_nobody():
            self._forget_unread()
        self._await_more()

    def _await_more(self) -> None:
        """Lets the client go if it still owes the rest of a request after a while in which nothing came."""
        self._forget_silence()
        if self._owes_more():
            self._silence = self.loop.call_later(SILENT_SECONDS, self._end_silence)

    def _end_silence(self) -> None:
        if self.flow is not None and self.flow.read_paused:  # it is we who do not listen
            self._await_more()
        elif self._owes_more():
            self.transport.close()

    def _owes_more(self) -> bool:
        # While an answer is on its way, or made, it is the client that waits.
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and self.conn.our_state is not h11.SEND_BODY

    def _forget_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _body_is_for_nobody(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def connection_of(scope: Mapping[str, Any]) -> Transport | None:
    """The connection a request came over; None where it is closed."""
    return _open.get((_tuple(scope["server"]), _tuple(scope["client"])))


def _tuple(address: Any) -> Any:
    return None if address is None else tuple(address)
