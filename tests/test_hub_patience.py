"""A Hub that is slow, endless, or leads elsewhere: one sentence, and never a wait without end.

No test here waits for a server's pace: the limits are made tiny, and the server never finishes by itself.
"""

import errno
import gzip
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hubtools import checkpoint, on_path, publish
from huggingface_hub import constants

from hubmerge.errors import HubError, Interrupted, NetworkError, ResourceError
from hubmerge.evaluate.task import load_task
from hubmerge.hub import open_source, patience, search_models
from hubmerge.hub.errors import hub_errors
from hubmerge.hub.session import bounded_session
from hubmerge.localhub import Fault, LocalHub
from hubmerge.reference import ModelRef

Answer = Callable[[socket.socket, threading.Event], None]
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"


def drip(before: bytes, drop: bytes) -> Answer:
    """Sends `before` at once, and then `drop` now and then for as long as somebody listens."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(before)
        while not ended.wait(0.02):
            connection.sendall(drop)

    return answer


def flood(before: bytes, piece: bytes) -> Answer:
    """Sends `before`, and then `piece` again and again for as long as somebody listens."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(before)
        while not ended.is_set():
            connection.sendall(piece)

    return answer


def whole(answer: bytes) -> Answer:
    """Sends this and closes."""
    return lambda connection, _: connection.sendall(answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    """A function that makes HF_ENDPOINT a server that answers every request so."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    answers: list[Answer] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            answers[0](connection, ended)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    def start(answer: Answer) -> str:
        answers[:] = [answer]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        return url

    threading.Thread(target=accept, daemon=True).start()
    yield start
    ended.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "GRACE", 0.2)
    monkeypatch.setattr(patience, "TICK", 0.02)
    monkeypatch.setattr(patience, "HEADROOM", 2**16)
    monkeypatch.setattr("hubmerge.hub.session.LARGEST_ANSWER", 2**20)
    monkeypatch.setattr("hubmerge.hub.session.BACKOFF", 0.0)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b"[" + b" " * 2**24 + b"]")
BAD = {
    "headers a byte at a time": (drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"), "too slow"),
    "a body a byte at a time": (drip(OK + b"Content-Length: 100000\r\n\r\n", b" "), "too slow"),
    "chunks of a byte": (drip(CHUNKED, b"1\r\n \r\n"), "too slow"),
    "an endless body": (flood(OK + b"\r\n", b" " * 65536), "sends more than"),
    "endless chunks": (flood(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"), "sends more than"),
    "endless hints before the answer": (
        flood(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" * 500),
        "sends more",
    ),
    "a bomb": (
        whole(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "compressed answer .gzip.",
    ),
    "a bomb of unknown size": (whole(OK + b"Content-Encoding: br\r\n\r\n" + BOMB), "compressed answer .br."),
    "a circle": (
        whole(b"HTTP/1.1 302 Found\r\nLocation: /api/models\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        "in a circle",
    ),
    "no address": (
        whole(b"HTTP/1.1 302 Found\r\nLocation: http://x:port/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        "what is no address",
    ),
    "another scheme": (
        whole(
            b"HTTP/1.1 302 Found\r\nLocation: ftp://files.invalid/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        r"on to ftp://files\.invalid, which",
    ),
    "a host that is not there": (
        whole(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        r"on to http://127\.0\.0\.1:9, which does not answer as it should",
    ),
}
ASKING = {
    "opening": lambda: open_source(ModelRef.parse("alice/anything")),
    "searching": lambda: search_models("anything"),
    "a dataset": lambda: load_task({"examples": {"repo_id": "alice/anything", "test": "x.jsonl"}}),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("asking", ASKING)
def test_one_sentence(server: Callable[[Answer], str], name: str, asking: str) -> None:
    answer, says = BAD[name]
    server(answer)
    with pytest.raises(NetworkError, match=says) as caught:
        ASKING[asking]()
    if "on to" in says:
        assert "HF_ENDPOINT" not in str(caught.value)
    assert len(str(caught.value)) < 500


NONSENSE = {
    "a list": [],
    "null": None,
    "a text": "x",
    "no commit": {"siblings": []},
    "files as a text": {"sha": "a" * 40, "siblings": "x"},
    "files without end": {"sha": "a" * 40, "siblings": None},
    "a file as a text": {"sha": "a" * 40, "siblings": ["x"]},
    "a name as a number": {"sha": "a" * 40, "siblings": [{"rfilename": 1, "size": 1}]},
    "a size as a text": {"sha": "a" * 40, "siblings": [{"rfilename": "x", "size": "x"}]},
    "a size of yes": {"sha": "a" * 40, "siblings": [{"rfilename": "x", "size": True}]},
    "a size below nothing": {"sha": "a" * 40, "siblings": [{"rfilename": "x", "size": -1}]},
    "a size beyond all disks": {"sha": "a" * 40, "siblings": [{"rfilename": "x", "size": 10**300}]},
    "a commit as a number": {"sha": 5, "siblings": []},
    "a commit of another form": {"sha": "main", "siblings": []},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_answers_of_another_form(server: Callable[[Answer], str], name: str) -> None:
    body = json.dumps(NONSENSE[name]).encode()
    server(whole(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body))
    with pytest.raises(NetworkError, match=r"HF_ENDPOINT|the Hub says"):
        open_source(ModelRef.parse("alice/anything"))
    with pytest.raises(NetworkError):
        load_task({"examples": {"repo_id": "alice/anything", "test": "x.jsonl"}})


LISTS = [
    [5, "x", None, [], {}, {"id": 5}, {"id": "a/b", "downloads": "x", "config": [], "cardData": "x", "safetensors": 3}],
    [{"id": "a/b", "config": {"architectures": "x"}, "likes": -1, "cardData": {"license": []}, "gated": "auto"}],
]


@pytest.mark.parametrize("models", LISTS)
def test_search_takes_what_has_a_name(server: Callable[[Answer], str], models: list) -> None:
    body = json.dumps(models).encode()
    server(whole(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body))
    (found,) = search_models("x")
    assert (found.repo_id, found.downloads, found.likes, found.license) == ("a/b", 0, 0, None)


@pytest.mark.parametrize(
    ("card", "bases"),
    [({"base_model": 5}, ()), ({"base_model": ["x/y", 5]}, ("x/y",)), ({"license": {}, "base_model": "x/y"}, ("x/y",))],
)
def test_cards_of_another_form(hub: LocalHub, card: dict, bases: tuple[str, ...]) -> None:
    commit = publish("alice/carded", checkpoint())
    source = open_source(ModelRef.parse("alice/carded"))
    files = [{"rfilename": file.path, "size": file.size} for file in source.files.values()]
    answer = {"sha": commit, "siblings": files, "cardData": card}
    hub.faults = on_path("/api/models", Fault(status=200, body=json.dumps(answer).encode()))
    try:
        source = open_source(ModelRef.parse("alice/carded"))
    finally:
        hub.faults = None
    assert source.base_models == bases
    assert source.licence.id is None


def test_a_slow_file(server: Callable[[Answer], str]) -> None:
    """A whole file, and a part of one, from a server that begins well."""
    publish("alice/slow", checkpoint())
    source = open_source(ModelRef.parse("alice/slow"))
    size = source.files["model.safetensors"].size
    about = b'X-Repo-Commit: %s\r\nETag: "%s"\r\n' % (b"a" * 40, b"b" * 64)
    server(drip(OK + about + b"Content-Length: %d\r\n\r\n" % size, b"x"))
    with pytest.raises(NetworkError, match="too slow"):
        source.local_path("model.safetensors")
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 200-%d/%d\r\n" % (size - 1, size)
    server(drip(part + b"Content-Length: %d\r\n\r\n" % (size - 200), b"x"))
    source.listing.store._ranged.clear()
    with pytest.raises(HubError, match="too slow"):
        source.read_range("model.safetensors", 200, size)


def test_a_log_may_take_its_time(server: Callable[[Answer], str]) -> None:
    """Twenty bytes in more than twice the time that a slow answer is given: what follows a log waits, all else ends."""

    def answer(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(OK + b"Content-Length: 20\r\n\r\n")
        while not ended.wait(0.03) and connection.send(b" "):
            pass

    url = server(answer)
    with pytest.raises(patience.Unbearable, match="too slow"):
        bounded_session().get(url)
    with patience.unhurried():
        assert bounded_session().get(url).content == b" " * 20


def test_a_download_without_end(server: Callable[[Answer], str]) -> None:
    publish("alice/endless", checkpoint())
    source = open_source(ModelRef.parse("alice/endless"))
    about = b'X-Repo-Commit: %s\r\nETag: "%s"\r\n' % (b"a" * 40, b"b" * 64)
    server(flood(OK + about + b"\r\n", b"x" * 65536))
    with pytest.raises(NetworkError, match="sends more than"):
        source.local_path("model.safetensors")


@pytest.mark.parametrize("asking", ASKING)
def test_whoever_waits_can_be_stopped(
    server: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, asking: str
) -> None:
    """What a job's time limit or its person raises ends a read that would go on for hours."""
    monkeypatch.setattr(patience, "GRACE", 10_000.0)
    looks = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 5:
            raise Interrupted("The job has used up its time.")

    server(drip(OK + b"Content-Length: 100000\r\n\r\n", b" "))
    with pytest.raises(Interrupted), patience.stoppable(check):
        ASKING[asking]()


def test_what_is_slow_but_fast_enough_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte buys time: a stream that keeps the least speed is never cut."""
    clock = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: clock[0])

    class Wire(patience.httpcore2.NetworkStream):
        pace = 0.0

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            clock[0] += timeout
            return b"x" * int(timeout * self.pace)

    wire = Wire()
    stream = patience._Stream(wire, "example.org")
    wire.pace = 1.5 * patience.LEAST_SPEED
    for _ in range(1000):
        assert stream.read(65536, 30.0)
    wire.pace = 0.5 * patience.LEAST_SPEED

    def read_on() -> None:
        for _ in range(1000):
            stream.read(65536, 30.0)

    with pytest.raises(patience.Unbearable, match=r"example\.org is too slow"):
        read_on()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("alice/readonly", checkpoint())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(ResourceError, match=r"cannot be written .* set HF_HOME"):
        open_source(ModelRef.parse("alice/readonly"))


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENOSPC, errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
def test_a_cache_whose_disk_refuses(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))  # a write that fails names no file

    publish("alice/no-room", checkpoint())
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    with pytest.raises(ResourceError, match=rf"The cache .* cannot be written \({os.strerror(number)}\); .*HF_HOME"):
        open_source(ModelRef.parse("alice/no-room"))


def test_a_download_of_another_length() -> None:
    """huggingface_hub says so by an `OSError` of no number."""
    with pytest.raises(NetworkError, match="Downloading x failed: the connection"), hub_errors("downloading x"):
        raise OSError("Consistency check failed: file should be of size 8 but has size 7")
