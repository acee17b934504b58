"""Whatever is sent to any route of the embedded Hub is answered, and what is wrong is said to be so: never a 500."""

import base64
import http.client
import json
import re
import socket
import tracemalloc
from itertools import cycle, islice
from urllib.parse import urlsplit

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from localhubtools import USERS, call

from hubmerge.localhub import LocalHub
from hubmerge.localhub.app import hub_routes
from hubmerge.localhub.serving.connections import MOST_UNREAD
from hubmerge.localhub.serving.faults import Fault

NAMES = [
    "x" * 300,
    "%00",
    "a%00b",
    "..",
    "%2e%2e%2f%2e%2e%2fsecret",
    "%ff%fe",
    "9" * 5000,
    "%f0%9f%98%80",
    "-",
    "refs%2Fpr%2F9",
]
QUERIES = [
    "",
    "?cursor=" + "9" * 5000,
    "?limit=-1&p=" + "9" * 400,
    "?%00=%ff&expand=" + "x" * 300,
    "?num_parameters=min:" + "9" * 400,
]
HEADERS = [
    {"Range": "bytes=" + "9" * 5000 + "-"},
    {"Range": "bytes=-" + "9" * 5000},
    {"Authorization": "Basic \xe9"},
    {"Authorization": "Bearer \xff"},
    {"Cookie": "localhub_user=" + "9" * 5000 + "." + "9" * 5000 + ".x"},
    {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"},
]
BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 200 + b"1" + b"}" * 200,
    b"9" * 5000,
    *(
        json.dumps(
            dict.fromkeys(
                (
                    "name",
                    "type",
                    "organization",
                    "sdk",
                    "hardware",
                    "variables",
                    "fromRepo",
                    "toRepo",
                    "gated",
                    "private",
                    "user",
                    "startingPoint",
                    "tag",
                    "message",
                    "files",
                    "gitIgnore",
                    "content",
                    "objects",
                    "size",
                    "title",
                    "description",
                    "comment",
                    "status",
                    "pullRequest",
                    "paths",
                    "expand",
                    "flavor",
                    "key",
                    "value",
                    "token",
                    "next",
                    "code",
                    "client_id",
                    "redirect_uri",
                    "grant_type",
                    "code_verifier",
                ),
                value,
            )
            | {"operation": "upload"}
        ).encode()
        for value in (None, True, -1, 1e308, 10**400, "x" * 300, "\ud800", "\0", [], {}, [None], [{}], [[1]], {"a": 1})
    ),
    b'{"key":"header","value":{"summary":"s"}}\n{"key":"file","value":{"path":"\\ud800","content":""}}',
    b'{"key":"header","value":{"summary":5}}',
    b'{"key":5,"value":{}}',
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LocalHub(tmp_path_factory.mktemp("hub"), USERS) as server:
        for name in ("alice/m", "alice/spare"):
            HfApi(endpoint=server.endpoint, token="hf_alice").create_repo(name)
        yield server


class Line:
    """One connection, which must never be closed under a request."""

    def __init__(self, hub: LocalHub) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> None:
        sent = {"Authorization": "Bearer hf_alice", **(headers or {})}
        self.connection.request(method, path, body, {name: text.encode("latin-1") for name, text in sent.items()})
        answer = self.connection.getresponse()
        content = answer.read()
        shown = (method, path[:200], (body or b"")[:200], headers, answer.status, content[:300])
        assert answer.status < 500 or answer.status == 501, shown
        if answer.status >= 400 and method != "HEAD":
            assert answer.headers["X-Error-Code"], shown
            assert "error" in json.loads(content), shown


REPOSITORY = {"kind": "models", "namespace": "alice", "name": "m"}
ROUTES = {(method, route.path): route for route in hub_routes() for method in sorted(route.methods or ())}


def path_of(route, **parts: str) -> str:
    """The route's path with these parts; the others name what there is."""
    values = {**REPOSITORY, **parts}
    return re.sub(r"{(\w+)(?::path)?}", lambda match: values.get(match[1], "main"), route.path)


def test_names(hub, thorough):
    """Every part of every route with many names; those that find a repository, the same everywhere, take turns."""
    turns = cycle(NAMES)
    many = len(NAMES) if thorough else len(NAMES) // 3
    with Line(hub) as line:
        for (method, pattern), route in ROUTES.items():
            for part in re.findall(r"{(\w+)(?::path)?}", pattern):
                for name in islice(turns, 1 if part in REPOSITORY else many):
                    line.send(method, path_of(route, **{part: name}), None if method in ("GET", "HEAD") else b"{}")


def test_queries_and_headers(hub, thorough):
    queries, headers = cycle(QUERIES), cycle(HEADERS)
    share = 1 if thorough else 3
    with Line(hub) as line:
        for (method, _), route in ROUTES.items():
            path = path_of(route)
            for query in islice(queries, len(QUERIES) // share):
                line.send(method, path + query)
            for given in islice(headers, len(HEADERS) // share):
                line.send(method, path, headers=given)


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_bodies(hub, number, thorough):
    """Each body to every route that takes one; by turns as JSON and as a form, with --thorough as both."""
    kinds = ("application/json", "application/x-www-form-urlencoded")
    routes = [(method, route) for (method, _), route in ROUTES.items() if method not in ("GET", "HEAD")]
    with Line(hub) as line:
        for turn, (method, route) in enumerate(routes, number):
            for kind in kinds if thorough else [kinds[turn % 2]]:
                line.send(method, path_of(route), BODIES[number], {"Content-Type": kind})


def test_the_size_a_client_claims_takes_no_memory(hub):
    path = "/alice/m.git/info/lfs/objects/batch"
    tracemalloc.start()
    for size in (10**30, 5 << 40, True, -1):
        objects = [{"oid": f"{number:064x}", "size": size} for number in range(1000)]
        call(hub, "POST", path, {"operation": "upload", "objects": objects[:1]})
        status, _, body = call(hub, "POST", path, {"operation": "upload", "objects": objects})
        assert status == (200 if type(size) is int and 0 <= size <= 5 << 40 else 400)
        assert len(body) < 20 << 20
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


CARDS = [
    "x: !!bool foo",
    "x: !!int x",
    "x: !!timestamp x",
    "x: 2026-13-01",
    "x: 0x" + "f" * 200_000,
    "x: " + "[" * 200 + "]" * 200,
    'tags: ["\\ud800"]',
    "? [a]\n: b",
    "x: !!float x",
]


def test_files_that_cannot_be_read_spoil_no_listing(hub):
    """A card, a config or a header that cannot be is left out of what is told of its own repository alone."""
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    api.create_repo("alice/odd")
    for card in CARDS:
        operation = {
            "path": "README.md",
            "content": base64.b64encode(f"---\n{card}\n---\n".encode()).decode(),
        }
        lines = [{"key": "header", "value": {"summary": "s"}}, {"key": "file", "value": operation}]
        status, _, _ = call(
            hub, "POST", "/api/models/alice/odd/commit/main", "\n".join(map(json.dumps, lines)).encode()
        )
        assert status in (200, 400)
        for path in ("/api/models?full=1&cardData=1&config=1", "/alice/odd", "/"):
            assert call(hub, "GET", path, headers={"Accept": "text/html"})[0] == 200, card[:50]
    shapes = ["[1e400]", "[-1]", '["9"]', "[" + "9" * 4000 + "]", str([9] * 1500), "5", "null", "[true]"]
    headers = ['{"a":{"dtype":"F32","shape":' + shape + ',"data_offsets":[0,0]}}' for shape in shapes]
    configs = [
        '{"a":' * 600 + "1" + "}" * 600,
        '{"model_type":"\\ud800"}',
        '{"architectures":' + "9" * 5000 + "}",
        "[]",
        '{"a":1e999}',
    ]
    for header, config in zip(headers, (configs * 2)[: len(headers)], strict=True):
        weights = len(header).to_bytes(8, "little") + header.encode()
        files = {"model.safetensors": weights, "config.json": config.encode()}
        api.create_commit("alice/odd", [CommitOperationAdd(*file) for file in files.items()], commit_message="odd")
        for path in ("/api/models?full=1&config=1&expand=safetensors", "/api/models/alice/odd", "/alice/odd", "/"):
            assert call(hub, "GET", path, headers={"Accept": "text/html"})[0] == 200, (header[:80], config[:80])


def test_no_message_is_longer_than_a_line(hub):
    status, headers, body = call(hub, "GET", f"/api/models/alice/m/revision/{'x' * 20_000}")
    assert (status, headers["X-Error-Code"]) == (404, "RevisionNotFound")
    assert len(headers["X-Error-Message"]) < 600 and len(body) < 600
    assert urlsplit(hub.endpoint).port == hub.port


def test_counts_have_a_limit(hub):
    rules = {"files": [{"path": "x", "size": 1, "sample": ""}], "gitIgnore": "*a\n" * 10_000}
    assert call(hub, "POST", "/api/models/alice/m/preupload/main", rules)[0] == 400
    for fields in (b"paths=x&" * 1001, b"paths=x&" * 10_001, b"&" * 100_000):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, _, body = call(hub, "POST", "/api/models/alice/m/paths-info/main", fields, headers=headers)
        assert (status == 400 and b"may hold at most 1000 paths" in body) or b"more than 10000 fields" in body, body
    gone = b'{"key": "deletedFile", "value": {"path": "x"}}\n'
    head = b'{"key": "header", "value": {"summary": "x"}}\n'
    status, _, body = call(hub, "POST", "/api/models/alice/m/commit/main", head + gone * 25_001)
    assert status == 413 and b"at most 25000 operations" in body


def test_a_diff_of_many_lines_comes_to_an_end(hub):
    """Lines that come again and again, in another order: what comparing line by line takes hours for."""
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    texts = ["\n".join(f"{n * step % 211}" for n in range(50_000)) for step in (1, 17)]
    api.upload_file(path_or_fileobj=texts[0].encode(), path_in_repo="long.txt", repo_id="alice/spare")
    api.upload_file(path_or_fileobj=texts[1].encode(), path_in_repo="long.txt", repo_id="alice/spare", create_pr=True)
    [pull] = [one for one in api.get_repo_discussions("alice/spare") if one.is_pull_request]
    diff = api.get_discussion_details("alice/spare", pull.num).diff
    assert "@@ -1,50000 +1,50000 @@" in diff and diff.count("\n+") == 50_001


REFUSED = b"PUT /api/nothing/here HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer nobody's\r\n"


def status_of(line: socket.socket) -> int:
    """The status of the next answer, which is read to its end."""
    answer = http.client.HTTPResponse(line)
    answer.begin()
    answer.read()
    return answer.status


def test_a_body_without_end_is_not_waited_for(hub):
    """A refused client that goes on sending is heard no longer than it takes to see the answer."""
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with socket.create_connection(("127.0.0.1", hub.port), timeout=60) as line:
        line.sendall(REFUSED + b"Transfer-Encoding: chunked\r\n\r\n" + piece)
        assert status_of(line) == 404
        with pytest.raises(ConnectionError):
            line.sendall(piece * (40 * MOST_UNREAD // len(piece)))


def test_a_body_that_does_not_come_is_not_waited_for(hub, monkeypatch):
    monkeypatch.setattr("hubmerge.localhub.serving.connections.UNREAD_SECONDS", 0.0)
    with socket.create_connection(("127.0.0.1", hub.port), timeout=60) as line:
        line.sendall(REFUSED + b"Content-Length: 1000\r\n\r\n" + b"some")
        assert status_of(line) == 404
        assert line.recv(1) == b""


@pytest.mark.parametrize(
    "begun", [b"", b"GET /api/mod", REFUSED.replace(b"Bearer nobody's", b"") + b"Content-Length: 9\r\n\r\nsome"]
)
def test_a_request_that_is_never_finished_is_not_waited_for(hub, begun, monkeypatch):
    monkeypatch.setattr("hubmerge.localhub.serving.connections.SILENT_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", hub.port), timeout=60) as line:
        line.sendall(begun)
        while line.recv(1000):
            pass


def test_a_slow_answer_is_no_silence(hub, monkeypatch):
    """Nothing comes from a client that waits for its answer, and it is not let go for that."""
    monkeypatch.setattr("hubmerge.localhub.serving.connections.SILENT_SECONDS", 0.05)
    hub.faults = lambda request: Fault(delay=0.5)
    try:
        with socket.create_connection(("127.0.0.1", hub.port), timeout=60) as line:
            line.sendall(b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert status_of(line) == 200
    finally:
        hub.faults = None


def test_a_refused_body_of_a_size_keeps_its_connection(hub):
    body = REFUSED + b"Content-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.port), timeout=60) as line:
        for rest in (bytes(1_000_000), bytes(1_000_000)):
            line.sendall(body)
            assert status_of(line) == 404
            line.sendall(rest)
        line.sendall(b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert status_of(line) == 200
