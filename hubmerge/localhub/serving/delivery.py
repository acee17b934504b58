"""Sending stored files, whole or a byte range, a piece at a time."""

import mimetypes
import re
from collections.abc import Mapping
from contextlib import ExitStack
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..generated.model import Span
from ..store.objects import Objects
from . import zerocopy
from .wire import Refusal, refuse, site

PIECE = 16 << 20  # bytes sent at a time: how exactly the log knows what a client that went away has got

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_DIGITS = 19  # of a position in a file: a longer one lies behind the end of every file

# A file is a stranger's content on this server's address: a browser must not run it as a page of ours.
_UNTRUSTED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; sandbox"}
_SHOWN_AS_TEXT = (
    ".md",
    ".json",
    ".txt",
    ".yaml",
    ".yml",
    ".py",
    ".jinja",
    ".jsonl",
    ".csv",
    ".gitattributes",
    ".gitignore",
)


class RangeNotSatisfiable(ValueError):
    """The range lies outside the file."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open span [start, stop) that a Range header asks of a file of `size` bytes.

    Returns None where the whole file is to be sent: no header, or one (several ranges, another unit) that a server may
    ignore.

    Raises:
        RangeNotSatisfiable: the answer is 416.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        length = _position(last)
        if length == 0 or size == 0:
            raise RangeNotSatisfiable
        return max(size - length, 0), size
    start = _position(first)
    if last and _position(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable
    return start, min(_position(last) + 1, size) if last else size


def _position(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _DIGITS else 10**_DIGITS


class ObjectDelivery(Response):
    """The bytes [start, stop) of an object, sent by the operating system and never held in memory."""

    def __init__(
        self, objects: Objects, oid: str, start: int, stop: int, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, status, {**headers, "Content-Length": str(stop - start)})
        self._objects = objects
        self._oid = oid
        self._start = start
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with ExitStack() as held:
            # In a thread, since the first reader of a generated model waits for its weights to be made up.
            spans = [] if scope["method"] == "HEAD" else await run_in_threadpool(self._open, held)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for span in spans:
                for done in range(0, span.size, PIECE):
                    part = {"file": span.file, "offset": span.offset + done, "count": min(PIECE, span.size - done)}
                    last = span is spans[-1] and done + PIECE >= span.size
                    await send({"type": zerocopy.MESSAGE, **part, "more_body": not last})
            if not spans:
                await send({"type": "http.response.body", "body": b""})

    def _open(self, held: ExitStack) -> list[Span]:
        spans = held.enter_context(self._objects.open(self._oid, self._start, self._stop))
        return [span for span in spans if span.size]


def file_headers(path: str, etag: str) -> dict[str, str]:
    """What the answer to a request for a repository's file says about it, wherever it is served."""
    return {
        "ETag": f'"{etag}"',
        "Content-Type": _media_type(path),
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2])}",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        **_UNTRUSTED,
    }


def _media_type(path: str) -> str:
    if path.lower().endswith(_SHOWN_AS_TEXT):
        return "text/plain; charset=utf-8"
    guessed = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def deliver(request: Request, oid: str, size: int, headers: Mapping[str, str]) -> Response:
    """The answer to a GET or HEAD of an object of this size, with these `file_headers`: 200, 206, 304 or 416."""
    etag = headers["ETag"]
    if request.method == "GET" and request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=dict(headers))
    # If-Range with another ETag asks for the whole file, since the client's part is of an older one.
    wanted = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    headers = {"Accept-Ranges": "bytes", **headers}
    objects = site(request).store.objects
    try:
        span = parse_range(wanted, size)
    except RangeNotSatisfiable:
        said = {name: text for name, text in headers.items() if not name.lower().startswith("content-")}
        said["Content-Range"] = f"bytes */{size}"
        return refuse(Refusal(416, "The range lies outside the file.", headers=said))
    if span is None:
        return ObjectDelivery(objects, oid, 0, size, 200, headers)
    headers |= {"Content-Range": f"bytes {span[0]}-{span[1] - 1}/{size}"}
    return ObjectDelivery(objects, oid, *span, 206, headers)
