"""The embedded Hub loses nothing: restarts, crashes, many clients at once, broken uploads, hostile names."""

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hubmerge.errors import HubError
from hubmerge.localhub import LocalHub

USERS = {"alice": "hf_alice", "bob": "hf_bob"}


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub", USERS, multipart_over=100_000, part_size=40_000) as server:
        HfApi(endpoint=server.endpoint, token="hf_alice").create_repo("alice/m")
        yield server


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token="hf_alice")


def call(hub, method, path, body=None, token="hf_alice", headers=None):
    """A raw request: (status, headers, body)."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    url = path if path.startswith("http") else hub.endpoint + path
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def upload_instructions(hub, content: bytes, size: int | None = None, repo: str = "alice/m", token: str = "hf_alice"):
    oid = hashlib.sha256(content).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(content) if size is None else size}]}
    status, _, answer = call(hub, "POST", f"/{repo}.git/info/lfs/objects/batch", body, token)
    assert status == 200, answer
    return oid, json.loads(answer)["objects"][0]


def commit_lines(*operations: tuple[str, dict], **header: str) -> bytes:
    lines = [("header", {"summary": "s", **header}), *operations]
    return b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in lines)


def objects_in(root: Path) -> set[str]:
    return {path.name for path in (root / "objects" / "sha256").rglob("*") if path.is_file()}


def test_everything_survives_a_restart(tmp_path):
    content = os.urandom(50_000)
    with LocalHub(tmp_path, USERS) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        api.create_repo("alice/kept", private=True)
        api.create_repo("alice/data", repo_type="dataset")
        done = api.upload_file(repo_id="alice/kept", path_or_fileobj=content, path_in_repo="a/w.safetensors")
        api.create_branch("alice/kept", branch="exp/1")
        api.create_tag("alice/kept", tag="v1")
        api.create_pull_request("alice/kept", title="idea")
        api.update_repo_settings("alice/kept", gated="manual")
        before = api.model_info("alice/kept", files_metadata=True)
        refs = api.list_repo_refs("alice/kept", include_pull_requests=True)
    with LocalHub(tmp_path, USERS) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        after = api.model_info("alice/kept", files_metadata=True)
        assert after.__dict__ == before.__dict__
        assert after.sha == done.oid
        assert api.list_repo_refs("alice/kept", include_pull_requests=True) == refs
        assert api.get_discussion_details("alice/kept", 1).title == "idea"
        path = api.hf_hub_download("alice/kept", "a/w.safetensors", local_dir=tmp_path / "copy")
        assert Path(path).read_bytes() == content
        assert [one.id for one in api.list_datasets()] == ["alice/data"]
        logged = (tmp_path / "requests.jsonl").read_text().splitlines()
        assert len(logged) > len(server.log) > 0
        assert json.loads(logged[0])["path"] == "/api/repos/create"


def test_one_folder_has_one_server(tmp_path):
    first = LocalHub(tmp_path, USERS).start()
    try:
        with pytest.raises(HubError, match="served by another local Hub"):
            LocalHub(tmp_path, USERS).start()
        with pytest.raises(HubError, match=f"cannot listen on 127.0.0.1:{first.port}"):
            LocalHub(tmp_path / "other", USERS, port=first.port).start()
    finally:
        first.stop()
    with LocalHub(tmp_path, USERS) as second:
        assert call(second, "GET", "/api/whoami-v2")[0] == 200


def test_a_server_that_starts_again_keeps_its_address(tmp_path):
    server = LocalHub(tmp_path, USERS)
    with server:
        endpoint = server.endpoint
        with pytest.raises(HubError, match="already runs"):
            server.start()
    with pytest.raises(urllib.error.URLError):
        call(server, "GET", "/api/whoami-v2")
    with server:
        assert server.endpoint == endpoint
        assert call(server, "GET", "/api/whoami-v2")[0] == 200
    server.stop()


def test_ctrl_c_ends_serve_quietly(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = (
        "import sys\nfrom hubmerge.localhub import LocalHub\n"
        f"LocalHub(sys.argv[1], {{'alice': 'hf_alice'}}, port={port}).serve()\nprint('stopped')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (0, "stopped\n", "")


def test_a_pull_request_number_left_by_a_crash_is_skipped(hub, api):
    head = hub.root / "models" / "alice" / "m" / "refs" / "heads" / "main"
    orphan = hub.root / "models" / "alice" / "m" / "refs" / "pr" / "1"
    orphan.parent.mkdir()
    orphan.write_bytes(head.read_bytes())
    assert api.create_pull_request("alice/m", title="next").num == 2


def test_stale_uploads_are_cleared_and_young_ones_kept(tmp_path):
    incoming = tmp_path / "objects" / "incoming"
    for name in ("old", "young"):
        (incoming / f"parts-{name}").mkdir(parents=True)
        (incoming / f"parts-{name}" / "1").write_bytes(b"x")
    os.utime(incoming / "parts-old", (0, 0))
    with LocalHub(tmp_path, USERS):
        assert [entry.name for entry in incoming.iterdir()] == ["parts-young"]


def test_a_repository_deleted_meanwhile_is_a_missing_one(hub, api, monkeypatch):
    """The request passed the check that the repository exists, and then it did not any more."""
    from hubmerge.localhub.store import Store

    lost = Store(hub.root).find("model", "alice/m")
    monkeypatch.setattr(Store, "find", lambda store, type, id: lost)
    for path in hub.root.glob("models/alice/m/settings.json"):
        path.unlink()
    for method, path in (
        ("GET", "/api/models/alice/m"),
        ("DELETE", "/api/repos/delete"),
        ("GET", "/alice/m/resolve/main/x"),
    ):
        status, headers, _ = call(hub, method, path, {"name": "m"} if method == "DELETE" else None)
        assert (status, headers["X-Error-Code"]) == (404, "RepoNotFound")


@pytest.mark.parametrize(
    "path", ["/api/agent-harnesses", "/api/nothing/at/all", "/lfs/x", "/oauth/x/y", "/.well-known/x"]
)
def test_unknown_addresses(hub, path):
    for method in ("GET", "POST", "PUT"):
        status, headers, _ = call(hub, method, path, b"{}" if method != "GET" else None)
        assert (status, bool(headers["X-Error-Code"])) == (404, True)


def test_eight_processes_commit_and_nothing_is_lost(hub, api, tmp_path):
    """Eight clients, each a process of its own, add three files each to one branch at the same time."""
    script = (
        "import sys\nfrom huggingface_hub import HfApi\nwho = sys.argv[1]\n"
        "for number in range(3):\n"
        "    name = f'{who}-{number}' + ('.bin' if number % 2 else '.txt')\n"
        "    HfApi().upload_file(repo_id='alice/m', path_or_fileobj=name.encode() * 50, path_in_repo=name)\n"
    )
    environment = {**os.environ, **hub.environment("alice"), "HF_HOME": str(tmp_path / "home")}
    clients = [subprocess.Popen([sys.executable, "-c", script, str(who)], env=environment) for who in range(8)]
    assert [client.wait(60) for client in clients] == [0] * 8
    commits = api.list_repo_commits("alice/m")
    assert len(commits) == 1 + 24
    files = {f"{who}-{number}{'.bin' if number % 2 else '.txt'}" for who in range(8) for number in range(3)}
    assert set(api.list_repo_files("alice/m")) == files | {".gitattributes"}


def test_eight_clients_with_parent_commit_retry_and_nothing_is_lost(hub, api):
    """With parent_commit a client that comes too late is told 412; all get through, one after the other."""
    conflicts, ready = [], threading.Barrier(8)

    def client(who: int) -> None:
        mine = HfApi(endpoint=hub.endpoint, token="hf_alice")
        ready.wait(10)
        for _ in range(100):
            parent = mine.model_info("alice/m").sha
            try:
                add = CommitOperationAdd(f"{who}.txt", b"%d" % who)
                mine.create_commit("alice/m", [add], commit_message=f"{who}", parent_commit=parent)
                return
            except HfHubHTTPError as error:
                if error.response.status_code != 412:
                    raise
                conflicts.append(who)
        raise AssertionError("never got through")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    assert set(api.list_repo_files("alice/m")) == {f"{who}.txt" for who in range(8)} | {".gitattributes"}
    assert len(api.list_repo_commits("alice/m")) == 9
    assert conflicts


def test_a_stale_parent_is_refused(hub, api):
    old = api.model_info("alice/m").sha
    api.upload_file(repo_id="alice/m", path_or_fileobj=b"1", path_in_repo="a.txt", parent_commit=old)
    for options in ({}, {"create_pr": True}):
        with pytest.raises(HfHubHTTPError) as late:
            api.upload_file(repo_id="alice/m", path_or_fileobj=b"2", path_in_repo="a.txt", parent_commit=old, **options)
        assert late.value.response.status_code == 412
    assert len(api.list_repo_commits("alice/m")) == 2
    assert list(api.get_repo_discussions("alice/m")) == []


# What must have reached the disk when the process dies at its n-th move of a finished file: nothing of the commit.
CRASH = """
import os, sys
from hubmerge.localhub import LocalHub, disk, objects
hub = LocalHub(sys.argv[1], {"alice": "hf_alice"})
real = os.replace
def replace(source, target):
    kind = "objects" if "sha256" in str(target) else "commits" if "commits" in str(target) else "refs"
    if armed and kind == sys.argv[2]:
        if sys.argv[3] == "after":
            real(source, target)
        os._exit(9)
    real(source, target)
os.replace = replace
armed = False
hub.start()
print(hub.endpoint, flush=True)
sys.stdin.readline()
armed = True
sys.stdin.readline()
"""


@pytest.mark.parametrize(
    ("kind", "moment", "visible"),
    [
        ("objects", "before", False),
        ("objects", "after", False),
        ("commits", "after", False),
        ("refs", "before", False),
        ("refs", "after", True),
    ],
)
def test_a_crash_never_leaves_half_a_commit(tmp_path, kind, moment, visible):
    """The server dies at a chosen move of a file; after the restart the commit is there whole or not at all."""
    command = [sys.executable, "-c", CRASH, str(tmp_path), kind, moment]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        api = HfApi(endpoint=process.stdout.readline().strip(), token="hf_alice")
        api.create_repo("alice/m")
        before = api.upload_file(repo_id="alice/m", path_or_fileobj=b"old", path_in_repo="a.txt").oid
        process.stdin.write("arm\n")
        process.stdin.flush()
        lines = commit_lines(
            ("file", {"path": "a.txt", "content": base64.b64encode(b"new").decode()}),
            ("file", {"path": "b.txt", "content": base64.b64encode(b"more").decode()}),
        )
        server = LocalHub(tmp_path, {"alice": "hf_alice"})
        server.port = int(api.endpoint.rpartition(":")[2])
        with pytest.raises(OSError, match=r"."):
            call(server, "POST", "/api/models/alice/m/commit/main", lines)
        assert process.wait(20) == 9
    with LocalHub(tmp_path, {"alice": "hf_alice"}) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        head = api.model_info("alice/m").sha
        assert (head != before) == visible
        text = Path(api.hf_hub_download("alice/m", "a.txt", revision=head, local_dir=tmp_path / "copy")).read_text()
        assert text == ("new" if visible else "old")
        assert ("b.txt" in api.list_repo_files("alice/m")) == visible
        assert call(server, "POST", "/api/models/alice/m/commit/main", lines)[0] == 200
        assert Path(api.hf_hub_download("alice/m", "b.txt", local_dir=tmp_path / "copy")).read_text() == "more"


def test_large_files_go_up_in_parts(hub, api):
    content = os.urandom(205_123)
    api.upload_file(repo_id="alice/m", path_or_fileobj=content, path_in_repo="w.safetensors")
    puts = [entry for entry in hub.log if entry.method == "PUT"]
    assert [entry.received for entry in sorted(puts, key=lambda entry: entry.path)] == [40_000] * 5 + [5_123]
    assert call(hub, "GET", "/alice/m/resolve/main/w.safetensors")[2] == content
    assert not list((hub.root / "objects" / "incoming").iterdir())


def test_an_object_is_stored_once(hub, api):
    content = os.urandom(30_000)
    for name in ("one.bin", "two.bin"):
        api.upload_file(repo_id="alice/m", path_or_fileobj=content, path_in_repo=name)
    assert len([entry for entry in hub.log if entry.method == "PUT"]) == 1
    assert hashlib.sha256(content).hexdigest() in objects_in(hub.root)


@pytest.mark.parametrize("fault", ["other bytes", "too short", "too long"])
def test_a_wrong_upload_is_refused(hub, fault):
    content = os.urandom(5_000)
    oid, instructions = upload_instructions(hub, content)
    sent = {"other bytes": os.urandom(5_000), "too short": content[:-1], "too long": content + b"!"}[fault]
    status, headers, _ = call(hub, "PUT", instructions["actions"]["upload"]["href"], sent, token=None)
    assert status == 400
    assert "refused" in headers["X-Error-Message"] or "larger" in headers["X-Error-Message"]
    assert oid not in objects_in(hub.root)
    assert not list((hub.root / "objects" / "incoming").iterdir())
    line = commit_lines(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": oid, "size": 5_000}))
    assert call(hub, "POST", "/api/models/alice/m/commit/main", line)[0] == 400
    assert call(hub, "POST", instructions["actions"]["verify"]["href"], {"oid": oid, "size": 5_000})[0] == 404
    assert call(hub, "PUT", instructions["actions"]["upload"]["href"], content, token=None)[0] == 200
    assert call(hub, "POST", "/api/models/alice/m/commit/main", line)[0] == 200


def test_an_upload_that_breaks_off_leaves_nothing(hub):
    content = os.urandom(50_000)
    oid, instructions = upload_instructions(hub, content)
    path = instructions["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    with socket.create_connection(("127.0.0.1", hub.port)) as connection:
        connection.sendall(
            f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n".encode() + content[:20_000]
        )
    deadline = threading.Event()
    incoming = hub.root / "objects" / "incoming"
    for _ in range(200):
        if any(entry.method == "PUT" for entry in hub.log) and not list(incoming.iterdir()):
            break
        deadline.wait(0.02)
    assert not list(incoming.iterdir())
    assert oid not in objects_in(hub.root)


def test_parts_that_are_missing_or_wrong_are_refused(hub):
    content = os.urandom(110_000)
    oid, instructions = upload_instructions(hub, content)
    upload = instructions["actions"]["upload"]
    assert call(hub, "PUT", upload["header"]["1"], content[:40_000], token=None)[0] == 200
    assert call(hub, "PUT", upload["header"]["2"], content[40_000:70_000], token=None)[0] == 400
    assert call(hub, "PUT", upload["header"]["3"], bytes(30_000), token=None)[0] == 200
    assert call(hub, "POST", upload["href"], {"oid": oid, "parts": []}, token=None)[0] == 400
    assert call(hub, "PUT", upload["header"]["2"], content[40_000:80_000], token=None)[0] == 200
    assert call(hub, "POST", upload["href"], {"oid": oid, "parts": []}, token=None)[0] == 400  # the third part is zeros
    assert oid not in objects_in(hub.root)


def test_an_upload_url_is_good_for_one_object_only(hub):
    _, first = upload_instructions(hub, b"first" * 10)
    second = hashlib.sha256(b"second").hexdigest()
    href = first["actions"]["upload"]["href"]
    forged = href.replace(hashlib.sha256(b"first" * 10).hexdigest(), second)
    assert call(hub, "PUT", forged, b"second", token=None)[0] == 403
    assert call(hub, "PUT", href.replace("size=50", "size=51"), b"first" * 10, token=None)[0] == 403
    assert call(hub, "PUT", href.partition("?")[0], b"first" * 10, token=None)[0] == 403


def test_knowing_a_hash_is_not_having_the_bytes(hub, api):
    """Bob cannot reach alice's private file by committing a pointer to its hash."""
    content = os.urandom(20_000)
    api.create_repo("alice/secret", private=True)
    api.upload_file(repo_id="alice/secret", path_or_fileobj=content, path_in_repo="w.bin")
    bob = HfApi(endpoint=hub.endpoint, token="hf_bob")
    bob.create_repo("bob/m")
    oid, instructions = upload_instructions(hub, content, repo="bob/m", token="hf_bob")
    assert "actions" in instructions
    line = commit_lines(("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": oid, "size": 20_000}))
    assert call(hub, "POST", "/api/models/bob/m/commit/main", line, token="hf_bob")[0] == 400


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "a//b", ".", "a/./b", ".git/config", "a\\b", "a\nb", "x" * 2000]
)
def test_hostile_paths_are_refused(hub, path):
    line = commit_lines(("file", {"path": path, "content": ""}))
    assert call(hub, "POST", "/api/models/alice/m/commit/main", line)[0] == 400


@pytest.mark.parametrize(
    "name", ["..", "../../x", "a/b", "a..b", "a--b", ".hidden", "x.git", "", "x" * 97, "é", "a%2Fb"]
)
def test_hostile_repository_names_are_refused(hub, name):
    before = sorted(path for path in hub.root.parent.rglob("*") if "requests" not in path.name)
    assert call(hub, "POST", "/api/repos/create", {"name": name})[0] == 400
    assert call(hub, "POST", "/api/repos/create", {"name": "x", "organization": name or ".."})[0] in (400, 403)
    assert sorted(path for path in hub.root.parent.rglob("*") if "requests" not in path.name) == before


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
def test_no_path_leads_out_of_the_folder(hub, path):
    status, _, body = call(hub, "GET", path)
    assert status == 404
    assert b"created" not in body


def test_bodies_are_bounded(hub):
    too_much = b'{"content": "' + b"x" * (9 << 20) + b'"}'
    assert call(hub, "POST", "/api/validate-yaml", too_much)[0] == 413
    line = commit_lines(("file", {"path": "a", "content": "A" * 14_000_000}))
    assert call(hub, "POST", "/api/models/alice/m/commit/main", line)[0] == 413
    for broken in (b"not json", b"[1, 2]", b'{"a": ' * 100_000):
        assert call(hub, "POST", "/api/validate-yaml", broken)[0] == 400


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
def test_ranges(hub, api, header, status, span, name):
    content = bytes(range(250)) * 4
    api.upload_file(repo_id="alice/m", path_or_fileobj=content, path_in_repo=name)
    url, headers = f"/alice/m/resolve/main/{name}", {"Range": header} if header else {}
    for method in ("GET", "HEAD"):
        got, answer, body = call(hub, method, url, headers=headers)
        assert got == status
        assert answer["X-Repo-Commit"] == api.model_info("alice/m").sha
        assert answer["ETag"].strip('"') == (
            hashlib.sha256(content).hexdigest()
            if name == "w.bin"
            else hashlib.sha1(b"blob 1000\0" + content).hexdigest()
        )
        if span is None:
            assert answer["Content-Range"] == "bytes */1000"
            continue
        assert answer["Content-Length"] == str(span[1] - span[0])
        assert body == (content[slice(*span)] if method == "GET" else b"")
        if status == 206:
            assert answer["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/1000"
        assert (answer["X-Linked-Size"] == "1000") == (name == "w.bin")


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
        process.wait(20)
    assert received == size
    assert (after - before) * 1024 < 60_000_000
