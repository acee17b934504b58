"""Parts of a file from a storage that breaks answers off in the middle, or sends too much, on a real socket."""

import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hubtools import on_path
from test_hub_ranges import (  # noqa: F401 (naps, repo_id and _healthy_again are fixtures)
    CONTENT,
    SIZE,
    TIMES,
    WEIGHTS,
    _healthy_again,
    check,
    naps,
    opened,
    repo_id,
    spans,
)

from hubmerge.errors import HubError
from hubmerge.hub import Source
from hubmerge.localhub import Fault, LocalHub


class Storage(BaseHTTPRequestHandler):
    """A storage of another origin that does `habit` to every second answer, the first included."""

    protocol_version = "HTTP/1.1"
    habit = ""
    asked = 0

    def do_GET(self) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        body = CONTENT[first : last + 1]
        habit = Storage.habit if Storage.asked % 2 == 0 else ""
        Storage.asked += 1
        half = body[: len(body) // 2]
        declared = {"short": half, "too much": body + b"more"}.get(habit, body)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE}")
        self.send_header("Content-Length", str(len(declared)))
        self.end_headers()
        self.wfile.write(half if habit == "reset" else declared)
        if habit == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def storage(hub: LocalHub, repo_id: str) -> Iterator[Source]:  # noqa: F811
    """The repository, with its weights in a `Storage`."""
    source = opened(repo_id, hub)
    source.listing.store._ranged.clear()
    Storage.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}/{WEIGHTS}"
        hub.faults = on_path("/resolve/", Fault(status=302, headers={"Location": there}))
        yield source
        server.shutdown()


@pytest.mark.parametrize("habit", ["reset", "short"])
def test_half_a_body_is_continued(storage: Source, monkeypatch: pytest.MonkeyPatch, habit: str) -> None:
    monkeypatch.setattr(Storage, "habit", habit)
    for start, stop in spans(seed=12):
        check(storage, start, stop)
    assert Storage.asked == 2 * TIMES


def test_more_than_was_asked_for_is_an_error(storage: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Storage, "habit", "too much")
    for start, stop in spans(seed=14):
        with pytest.raises(HubError, match="sends more than was asked for"):
            storage.read_range(WEIGHTS, start, stop)
        check(storage, start, stop)
