"""Single requests to the embedded Hub: hostile names and paths, limits, byte ranges, memory."""

import asyncio
import hashlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from localhubtools import USERS, call, commit_lines
from starlette.requests import Request

from hubmerge.localhub import LocalHub
from hubmerge.localhub.serving.connections import connection_of
from hubmerge.localhub.serving.wire import Refusal, read_body

THOUSAND = bytes(range(250)) * 4


@pytest.fixture(scope="module")
def quiet_hub(tmp_path_factory):
    """One Hub for the tests that change nothing on it: alice/m with w.bin (LFS) and w.txt, 1,000 bytes each."""
    with LocalHub(tmp_path_factory.mktemp("quiet") / "hub", USERS) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        api.create_repo("alice/m")
        operations = [CommitOperationAdd(name, THOUSAND) for name in ("w.bin", "w.txt")]
        api.create_commit("alice/m", operations, commit_message="both")
        yield server


@pytest.mark.parametrize(
    "path", ["/api/agent-harnesses", "/api/nothing/at/all", "/lfs/x", "/oauth/x/y", "/.well-known/x"]
)
def test_unknown_addresses(quiet_hub, path):
    for method in ("GET", "POST", "PUT"):
        status, headers, _ = call(quiet_hub, method, path, b"{}" if method != "GET" else None)
        assert (status, bool(headers["X-Error-Code"])) == (404, True)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "a//b", ".", "a/./b", ".git/config", "a\\b", "a\nb", "x" * 2000]
)
def test_hostile_paths_are_refused(quiet_hub, path):
    line = commit_lines(("file", {"path": path, "content": ""}))
    assert call(quiet_hub, "POST", "/api/models/alice/m/commit/main", line)[0] == 400


@pytest.mark.parametrize(
    "name", ["..", "../../x", "a/b", "a..b", "a--b", ".hidden", "x.git", "", "x" * 97, "é", "a%2Fb"]
)
def test_hostile_repository_names_are_refused(quiet_hub, name):
    before = sorted(path for path in quiet_hub.root.parent.rglob("*") if "requests" not in path.name)
    assert call(quiet_hub, "POST", "/api/repos/create", {"name": name})[0] == 400
    assert call(quiet_hub, "POST", "/api/repos/create", {"name": "x", "organization": name or ".."})[0] in (400, 403)
    assert sorted(path for path in quiet_hub.root.parent.rglob("*") if "requests" not in path.name) == before


@pytest.mark.parametrize(
    "path",
    [
        "/alice/m/resolve/main/..%2F..%2F..%2F..%2Frequests.jsonl",
        "/alice/m/resolve/main/../../../../secret",
        "/alice/m/resolve/..%2F..%2Fsettings.json/x",
        "/alice/m/resolve/refs%2F..%2F..%2Fsettings.json/x",
        "/..%2F..%2Fobjects/sha256/resolve/main/x",
        "/api/models/alice/..%2F..%2F..%2Fobjects/tree/main",
        "/api/models/alice/m/revision/refs%2Fheads%2F..%2F..%2Fsettings.json",
        "/api/models/alice/m/discussions/..%2Fsettings",
    ],
)
def test_no_path_leads_out_of_the_folder(quiet_hub, path):
    status, _, body = call(quiet_hub, "GET", path)
    assert status == 404
    assert b"created" not in body


def test_bodies_are_bounded(quiet_hub):
    too_much = b'{"content": "' + b"x" * (9 << 20) + b'"}'
    assert call(quiet_hub, "POST", "/api/validate-yaml", too_much)[0] == 413
    line = commit_lines(("file", {"path": "a", "content": "A" * 14_000_000}))
    assert call(quiet_hub, "POST", "/api/models/alice/m/commit/main", line)[0] == 413
    for broken in (b"not json", b"[1, 2]", b'{"a": ' * 100_000):
        assert call(quiet_hub, "POST", "/api/validate-yaml", broken)[0] == 400


@pytest.mark.parametrize(
    ("header", "status", "span"),
    [
        (None, 200, (0, 1000)),
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=100-199", 206, (100, 200)),
        ("bytes=900-", 206, (900, 1000)),
        ("bytes=900-5000", 206, (900, 1000)),
        ("bytes=-100", 206, (900, 1000)),
        ("bytes=-5000", 206, (0, 1000)),
        ("bytes=1000-", 416, None),
        ("bytes=5000-6000", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=200-100", 200, (0, 1000)),
        ("bytes=0-1,5-6", 200, (0, 1000)),
        ("lines=1-2", 200, (0, 1000)),
    ],
)
@pytest.mark.parametrize("name", ["w.bin", "w.txt"])
def test_ranges(quiet_hub, header, status, span, name):
    head = HfApi(endpoint=quiet_hub.endpoint, token="hf_alice").model_info("alice/m").sha
    url, headers = f"/alice/m/resolve/main/{name}", {"Range": header} if header else {}
    for method in ("GET", "HEAD"):
        got, answer, body = call(quiet_hub, method, url, headers=headers)
        assert got == status
        assert answer["X-Repo-Commit"] == head
        assert answer["ETag"].strip('"') == (
            hashlib.sha256(THOUSAND).hexdigest()
            if name == "w.bin"
            else hashlib.sha1(b"blob 1000\0" + THOUSAND).hexdigest()
        )
        if span is None:
            assert answer["Content-Range"] == "bytes */1000"
            continue
        assert answer["Content-Length"] == str(span[1] - span[0])
        assert body == (THOUSAND[slice(*span)] if method == "GET" else b"")
        if status == 206:
            assert answer["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/1000"
        assert (answer["X-Linked-Size"] == "1000") == (name == "w.bin")


def test_an_answer_on_an_open_connection_does_not_wait(quiet_hub, monkeypatch):
    """With Nagle's algorithm on, each answer would wait 40 ms for the client to acknowledge its first half."""
    accepted = []

    def look(request) -> None:
        connection = connection_of(request.scope).get_extra_info("socket")
        accepted.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(quiet_hub, "faults", look)
    assert call(quiet_hub, "GET", "/api/models/alice/m")[0] == 200
    assert len(accepted) == 1 and accepted[0] != 0


def test_a_delivery_does_not_hold_the_file_in_memory(tmp_path):
    """Serving and receiving 300 MB moves the server's peak memory by far less than the file."""
    script = (
        "import sys, resource\nfrom hubmerge.localhub import LocalHub\n"
        "hub = LocalHub(sys.argv[1], {'alice': 'hf_alice'}, multipart_over=10**12).start()\n"
        "print(hub.endpoint, flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)\n"
    )
    size = 300_000_000
    command = [sys.executable, "-c", script, str(tmp_path / "hub")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def peak() -> int:
            process.stdin.write("peak\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        api = HfApi(endpoint=process.stdout.readline().strip(), token="hf_alice")
        api.create_repo("alice/m")
        api.upload_file(repo_id="alice/m", path_or_fileobj=b"warm", path_in_repo="warm.bin")
        before = peak()
        big = tmp_path / "big.bin"
        with big.open("wb") as file:
            file.truncate(size)
        api.upload_file(repo_id="alice/m", path_or_fileobj=big, path_in_repo="big.bin")
        with urllib.request.urlopen(f"{api.endpoint}/alice/m/resolve/main/big.bin") as answer:
            received = sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b""))
        after = peak()
        process.stdin.close()
        process.wait(120)
    assert received == size
    assert (after - before) * 1024 < 60_000_000


def test_a_client_that_goes_away_inside_its_body_is_no_failure_of_the_hub():
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    with pytest.raises(Refusal, match="closed before the whole body arrived"):
        asyncio.run(read_body(Request({"type": "http", "method": "POST", "headers": []}, receive)))
