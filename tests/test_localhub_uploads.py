"""Large files reach the embedded Hub whole, checked and from whoever has them, or not at all."""

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from localhubtools import call, commit_lines, small_parts_hub
from waiting import until


@pytest.fixture
def hub(tmp_path):
    with small_parts_hub(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token="hf_alice")


def upload_instructions(hub, content: bytes, size: int | None = None, repo: str = "alice/m", token: str = "hf_alice"):
    oid = hashlib.sha256(content).hexdigest()
    body = {"operation": "upload", "objects": [{"oid": oid, "size": len(content) if size is None else size}]}
    status, _, answer = call(hub, "POST", f"/{repo}.git/info/lfs/objects/batch", body, token)
    assert status == 200, answer
    return oid, json.loads(answer)["objects"][0]


def objects_in(root: Path) -> set[str]:
    return {path.name for path in (root / "objects" / "sha256").rglob("*") if path.is_file()}


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
    incoming = hub.root / "objects" / "incoming"
    until(lambda: any(entry.method == "PUT" for entry in hub.log), "the upload is not over")
    until(lambda: not list(incoming.iterdir()), "what came of it is kept")
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
