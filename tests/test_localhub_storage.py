"""The embedded Hub loses nothing: restarts, crashes, many clients at once."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from localhubtools import USERS, call, commit_lines, small_parts_hub
from waiting import until

from hubmerge.errors import HubError
from hubmerge.localhub import LocalHub


@pytest.fixture
def hub(tmp_path):
    with small_parts_hub(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token="hf_alice")


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


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_ctrl_c_ends_serve_quietly(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = (
        "import sys\nfrom hubmerge.localhub import LocalHub\n"
        f"LocalHub(sys.argv[1], {{'alice': 'hf_alice'}}, port={port}).serve()\nprint('stopped')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: process.poll() is not None or listens(port), "nobody listens")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate()
    assert (process.returncode, out, errors) == (0, "stopped\n", "")


def test_a_pull_request_number_left_by_a_crash_is_skipped(hub, api):
    head = hub.root / "models" / "alice" / "m" / "refs" / "heads" / "main"
    orphan = hub.root / "models" / "alice" / "m" / "refs" / "pr" / "1"
    orphan.parent.mkdir()
    orphan.write_bytes(head.read_bytes())
    assert api.create_pull_request("alice/m", title="next").num == 2


def test_a_repository_deleted_meanwhile_is_a_missing_one(hub, api, monkeypatch):
    """The request passed the check that the repository exists, and then it did not any more."""
    from hubmerge.localhub.store.store import Store

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


def test_eight_clients_commit_and_nothing_is_lost(hub, api):
    """They add three files each to one branch at the same time."""
    ready = threading.Barrier(8)

    def client(who: int) -> None:
        mine = HfApi(endpoint=hub.endpoint, token="hf_alice")
        ready.wait()
        for number in range(3):
            name = f"{who}-{number}{'.bin' if number % 2 else '.txt'}"
            mine.upload_file(repo_id="alice/m", path_or_fileobj=name.encode() * 50, path_in_repo=name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    commits = api.list_repo_commits("alice/m")
    assert len(commits) == 1 + 24
    files = {f"{who}-{number}{'.bin' if number % 2 else '.txt'}" for who in range(8) for number in range(3)}
    assert set(api.list_repo_files("alice/m")) == files | {".gitattributes"}


def test_eight_clients_with_parent_commit_retry_and_nothing_is_lost(hub, api):
    """With parent_commit a client that comes too late is told 412; all get through, one after the other."""
    conflicts, ready = [], threading.Barrier(8)

    def client(who: int) -> None:
        mine = HfApi(endpoint=hub.endpoint, token="hf_alice")
        ready.wait()
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
from hubmerge.localhub import LocalHub
from hubmerge.localhub.store import disk, objects
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
        pytest.param("objects", "after", False, marks=pytest.mark.thorough),
        pytest.param("commits", "after", False, marks=pytest.mark.thorough),
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
        assert process.wait(120) == 9
    with LocalHub(tmp_path, {"alice": "hf_alice"}) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        head = api.model_info("alice/m").sha
        assert (head != before) == visible
        text = Path(api.hf_hub_download("alice/m", "a.txt", revision=head, local_dir=tmp_path / "copy")).read_text()
        assert text == ("new" if visible else "old")
        assert ("b.txt" in api.list_repo_files("alice/m")) == visible
        assert call(server, "POST", "/api/models/alice/m/commit/main", lines)[0] == 200
        assert Path(api.hf_hub_download("alice/m", "b.txt", local_dir=tmp_path / "copy")).read_text() == "more"
