"""Bytes of a file straight to a connection by the operating system: ASGI's "zero copy send", which uvicorn lacks.

Several times cheaper than reading them into Python and writing them out, and it holds nothing in memory.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import h11

from .connections import connection_of

MESSAGE = "http.response.zerocopysend"  # with a "file" (anything with fileno()), "offset" and "count", all bytes


class Disconnected(Exception):
    """The client went away while its answer was being sent."""


class _Length:
    """Stands for that many bytes where h11 only counts them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


async def send_file(scope: Mapping[str, Any], message: Mapping[str, Any]) -> None:
    """Send a part of a file as the next bytes of the body; the answer's head has gone out and gives its length.

    Raises:
        Disconnected: the client is gone.
        OSError: the file is shorter than that, or the operating system cannot send from it.
    """
    transport, count = connection_of(scope), message["count"]
    if transport is None:
        raise Disconnected
    protocol: Any = transport.get_protocol()
    protocol.conn.send_with_data_passthrough(h11.Data(data=_Length(count)))  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    try:
        sent = await loop.sendfile(transport, message["file"], message["offset"], count, fallback=False)
    except (OSError, RuntimeError) as error:
        # Of a connection that broke before, asyncio says SendfileNotAvailableError.
        if isinstance(error, ConnectionError) or not _is_open(transport):
            raise Disconnected from None
        raise
    if sent != count:
        raise OSError(f"a file ended {count - sent} bytes before what was to be sent of it")


def _is_open(transport: asyncio.Transport) -> bool:
    try:
        transport.get_extra_info("socket").getpeername()
    except OSError:
        return False
    return not transport.is_closing()
