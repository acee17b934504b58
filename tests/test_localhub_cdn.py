"""Large files by way of a signed URL of another origin, as the real Hub sends them."""

import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, get_session
from localhubtools import USERS, call

from hubmerge.localhub import LocalHub

WEIGHTS = bytes(range(250)) * 400
FILE = "/alice/m/resolve/main/deep/w%20%231.bin"


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub", USERS, redirect_seconds=60) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        api.create_repo("alice/m", private=True)
        api.upload_file(repo_id="alice/m", path_or_fileobj=WEIGHTS, path_in_repo="deep/w #1.bin")
        api.upload_file(repo_id="alice/m", path_or_fileobj=b"{}", path_in_repo="config.json")
        server.clear_log()
        yield server


def resolve(hub, method="GET", path=FILE):
    return get_session().request(
        method, hub.endpoint + path, headers={"Authorization": "Bearer hf_alice"}, follow_redirects=False
    )


def test_the_redirect_tells_what_the_file_is(hub):
    commit = HfApi(endpoint=hub.endpoint, token="hf_alice").model_info("alice/m").sha
    for method in ("HEAD", "GET"):
        answer = resolve(hub, method)
        assert answer.status_code == 302
        assert answer.headers["X-Repo-Commit"] == commit
        assert answer.headers["X-Linked-Size"] == str(len(WEIGHTS))
        assert len(answer.headers["X-Linked-Etag"].strip('"')) == 64
        assert urlsplit(answer.headers["Location"]).port == hub.cdn_port != hub.port
    assert resolve(hub, path="/alice/m/resolve/main/config.json").content == b"{}"
    assert call(hub, "GET", FILE, token="hf_bob")[0] == 404


def test_the_location_needs_no_token_and_serves_ranges(hub):
    location, etag = (resolve(hub).headers[name] for name in ("Location", "X-Linked-Etag"))
    status, headers, body = call(hub, "GET", location, token=None)
    assert (status, headers["ETag"], body) == (200, etag, WEIGHTS)
    status, headers, body = call(hub, "GET", location, token=None, headers={"Range": "bytes=300-999"})
    assert (status, headers["Content-Range"], body) == (206, "bytes 300-999/100000", WEIGHTS[300:1000])
    assert call(hub, "GET", location, token=None, headers={"Range": "bytes=100000-"})[0] == 416
    status, headers, body = call(hub, "HEAD", location, token=None)
    assert (status, headers["Content-Length"], body) == (200, "100000", b"")


def test_a_location_is_for_one_file_and_for_a_time(hub, monkeypatch):
    location = resolve(hub).headers["Location"]
    for forged in (location.replace("w%20", "v%20"), location.replace("expires=", "expires=9"), location[:-1] + "!"):
        assert call(hub, "GET", forged, token=None)[0] == 403
    now = time.time()
    monkeypatch.setattr("hubmerge.localhub.serving.signing.time", SimpleNamespace(time=lambda: now))
    hub.redirect_seconds = 10
    location = resolve(hub).headers["Location"]
    assert call(hub, "GET", location, token=None)[0] == 200
    now += 10.5
    assert call(hub, "GET", location, token=None)[0] == 403
    hub.redirect_seconds = None
    assert resolve(hub).content == WEIGHTS


def test_each_port_serves_its_own(hub):
    location = resolve(hub).headers["Location"]
    assert call(hub, "GET", location.replace(str(hub.cdn_port), str(hub.port)), token=None)[0] == 404
    assert call(hub, "GET", f"http://127.0.0.1:{hub.cdn_port}/api/models", token=None)[0] == 404


def test_the_client_downloads_through_it_and_keeps_its_token_to_itself(hub, tmp_path):
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    metadata = get_hf_file_metadata(hub.endpoint + FILE, token="hf_alice", endpoint=hub.endpoint)
    assert (metadata.size, metadata.location.split("?")[0].endswith("/deep/w%20%231.bin")) == (len(WEIGHTS), True)
    path = api.hf_hub_download("alice/m", "deep/w #1.bin", cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == WEIGHTS
    folder = api.snapshot_download("alice/m", cache_dir=tmp_path / "other")
    assert (Path(folder) / "deep/w #1.bin").read_bytes() == WEIGHTS
    delivered = [request for request in hub.log if request.path.startswith("/cdn/")]
    assert [(request.status, request.sent, request.user) for request in delivered] == [(200, len(WEIGHTS), None)] * 2
    assert "signature=%5Bsecret%5D" in delivered[0].query


def test_a_client_that_follows_redirects_reads_a_range(hub):
    headers = {"Authorization": "Bearer hf_alice", "Range": "bytes=7-18"}
    answer = get_session().get(hub.endpoint + FILE, headers=headers, follow_redirects=True)
    assert (answer.status_code, answer.content) == (206, WEIGHTS[7:19])
    assert [(request.status, request.user) for request in hub.log] == [(302, "alice"), (206, None)]
