"""Failures on demand, so that tests can see a client survive them."""

import socket
import struct
from asyncio import Transport
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    `status` answers in the server's place (with `headers` and `body`), for example 429 with Retry-After, or 503.
    `truncate_after` lets the true answer start, then closes the connection after that many bytes of its body.
    `reset` drops the connection (TCP reset) before any answer. `ignore_range` answers a Range request with 200 and
    the whole file. `delay` waits that many seconds first, alone or before any of the others.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncate_after: int | None = None
    reset: bool = False
    ignore_range: bool = False
    delay: float = 0.0  # seconds

    def __post_init__(self) -> None:
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"a fault's status is an HTTP status from 200 to 599, not {self.status}")
        if self.delay < 0 or (self.truncate_after is not None and self.truncate_after < 0):
            raise ValueError("a fault's delay and truncate_after cannot be negative")


# Called for every request, on the server's thread, before it is handled: quick, and without waiting.
Faults = Callable[[Request], "Fault | None"]


def reset(transport: Transport | None) -> None:
    """Drop a connection so that the client sees a reset, not an orderly end."""
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
