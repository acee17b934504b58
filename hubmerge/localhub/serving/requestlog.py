"""The log of requests: who asked for what and how many bytes went out, without any secret."""

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, unquote, urlencode

REMEMBERED = 20_000  # entries kept in memory
LARGEST_FILE = 32 << 20  # bytes of requests.jsonl before it becomes requests.1.jsonl
_SECRETS = frozenset({"code", "code_verifier", "nonce", "signature", "state", "token", "access_token", "client_secret"})


@dataclass(frozen=True)
class Request:
    """One answered request."""

    time: str  # ISO 8601, UTC
    method: str
    path: str  # as it came, percent-quoted
    query: str  # without values that are secrets
    range: str | None  # the Range header
    status: int
    received: int  # bytes of the request's body
    sent: int  # bytes of the response's body
    user: str | None  # None for an anonymous visitor
    seconds: float


class RequestLog:
    """Entries in memory (the newest `REMEMBERED`) and, once opened, appended to a file of JSON lines."""

    def __init__(self, path: Path, redact: Callable[[str], str]) -> None:
        self._path = path
        self._redact = redact
        self._entries: deque[Request] = deque(maxlen=REMEMBERED)
        self._guard = threading.Lock()
        self._file: IO[str] | None = None

    def open(self) -> None:
        """Start appending to the file."""
        self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Stop appending."""
        with self._guard:
            if self._file is not None:
                self._file.close()
                self._file = None

    def add(self, entry: Request) -> None:
        """Record one request; its path and query are cleaned of tokens."""
        with self._guard:
            asked_range = self._redact(entry.range) if entry.range is not None else None
            clean = {"path": self._clean_path(entry.path), "query": self._clean(entry.query), "range": asked_range}
            entry = Request(**{**asdict(entry), **clean})
            self._entries.append(entry)
            if self._file is not None:
                self._file.write(json.dumps(asdict(entry)) + "\n")
                self._file.flush()
                if self._file.tell() > LARGEST_FILE:
                    self._file.close()
                    self._path.replace(self._path.with_suffix(".1.jsonl"))
                    self._file = self._path.open("a", encoding="utf-8")

    def _clean(self, query: str) -> str:
        pairs = parse_qsl(query, keep_blank_values=True)
        shown = [(self._redact(key), "[secret]" if key in _SECRETS else self._redact(value)) for key, value in pairs]
        return urlencode(shown)

    def _clean_path(self, path: str) -> str:
        """The path as it came, or where a token hides behind quotes in it, the path without them and the token."""
        plain = unquote(path)
        return self._redact(path) if self._redact(plain) == plain else self._redact(plain)

    @property
    def entries(self) -> list[Request]:
        """What is remembered, oldest first."""
        with self._guard:
            return list(self._entries)

    def clear(self) -> None:
        """Forget what is in memory; the file keeps it."""
        with self._guard:
            self._entries.clear()
