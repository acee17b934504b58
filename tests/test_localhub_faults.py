"""The embedded Hub's request log, and its failures on demand as the real client meets them."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError
from localhubtools import call, hold_delays
from waiting import until

from hubmerge.localhub import Fault, LocalHub


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path, {"alice": "hf_alice", "bob": "hf_bob"}) as server:
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        api.create_repo("alice/m")
        api.upload_file(repo_id="alice/m", path_or_fileobj=bytes(range(250)) * 400, path_in_repo="w.bin")
        server.clear_log()
        yield server


def once(fault: Fault, part: str):
    """Faults that hit the first request whose path contains `part`."""
    waiting = [fault]
    return lambda request: waiting.pop() if part in request.url.path and waiting else None


def fetch(hub, **headers: str):
    return get_session().get(f"{hub.endpoint}/alice/m/resolve/main/w.bin", headers=headers, timeout=120)


def test_the_log_tells_who_asked_for_what(hub):
    api = HfApi(endpoint=hub.endpoint, token="hf_bob")
    api.model_info("alice/m", expand=["sha"])
    fetch(hub, Range="bytes=10-19")
    assert not api.file_exists("alice/m", "absent")
    info, ranged, missing = hub.log
    assert (info.method, info.path, info.query, info.user) == ("GET", "/api/models/alice/m", "expand=sha", "bob")
    assert (ranged.status, ranged.range, ranged.sent, ranged.user) == (206, "bytes=10-19", 10, None)
    assert (missing.method, missing.status, missing.sent) == ("HEAD", 404, 0)
    written = [json.loads(line) for line in (hub.root / "requests.jsonl").read_text().splitlines()]
    assert [entry["path"] for entry in written[-3:]] == [entry.path for entry in hub.log]


def test_the_log_holds_no_token(hub):
    """Wherever a token or another secret turns up in a request, it is not written down."""
    paths = ("/hf_alice/x", "/api/models?search=hf_alice", "/oauth/authorize?code=s3cret-code&state=s3cret-state")
    for path in paths:
        get_session().get(hub.endpoint + path, headers={"Authorization": "Bearer hf_alice"})
    for path in ("/hf%5Falice/y", "/api/models?hf%5Falice=1", "/api/models"):
        call(hub, "GET", path, headers={"Range": "hf_alice"})
    text = (hub.root / "requests.jsonl").read_text() + repr(hub.log)
    assert "hf_alice" not in unquote(text)
    assert "s3cret" not in text
    assert [entry.path for entry in hub.log[:3]] == ["/[token]/x", "/api/models", "/oauth/authorize"]
    assert [entry.user for entry in hub.log] == ["alice"] * 6


def test_a_long_log_starts_a_second_file(hub, monkeypatch):
    monkeypatch.setattr("hubmerge.localhub.serving.requestlog.LARGEST_FILE", 1)
    for _ in range(3):
        fetch(hub)
    assert (hub.root / "requests.1.jsonl").read_text().count("\n") == 1
    assert len(hub.log) == 3


def test_a_lost_entry_is_never_seen_before_its_answer(hub):
    """The entry is in the log by the time the client has the whole answer."""
    for number in range(1, 51):
        fetch(hub)
        assert len(hub.log) == number
        assert hub.log[-1].sent == 100_000


def test_a_busy_hub_is_asked_again(hub, monkeypatch):
    """429 with Retry-After and 503: the client's back-off gets through."""
    for status, headers in ((429, {"Retry-After": "0"}), (503, {})):
        hub.clear_log()
        hub.faults = once(Fault(status=status, headers=headers), "/api/models")
        assert [model.id for model in HfApi(endpoint=hub.endpoint, token="hf_alice").list_models()] == ["alice/m"]
        assert [entry.status for entry in hub.log] == [status, 200]


def test_calls_without_back_off_see_the_failure(hub):
    hub.faults = once(Fault(status=500, body=b"broken"), "/api/models/alice/m")
    with pytest.raises(HfHubHTTPError) as failure:
        HfApi(endpoint=hub.endpoint, token="hf_alice").model_info("alice/m")
    assert failure.value.response.status_code == 500


def test_a_truncated_answer(hub, tmp_path):
    hub.faults = once(Fault(truncate_after=60_000), "/resolve/")
    with pytest.raises(Exception, match=r"(?i)incomplete|peer closed"):
        fetch(hub)
    assert (hub.log[0].status, hub.log[0].sent) == (200, 60_000)


def test_a_download_takes_up_where_the_answer_broke_off(hub, tmp_path):
    content = bytes(12_000_000)  # the client keeps what it has in steps of 10 MB
    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    api.upload_file(repo_id="alice/m", path_or_fileobj=content, path_in_repo="big.bin")
    waiting = [Fault(truncate_after=11_000_000)]
    hub.faults = lambda request: waiting.pop() if request.method == "GET" and waiting else None
    hub.clear_log()
    path = api.hf_hub_download("alice/m", "big.bin", local_dir=tmp_path / "copy")
    assert Path(path).read_bytes() == content
    gets = [(entry.status, entry.range) for entry in hub.log if entry.method == "GET"]
    assert [status for status, _ in gets] == [200, 206]
    assert gets[1][1].startswith("bytes=")


def test_a_reset_connection(hub):
    hub.faults = once(Fault(reset=True), "/resolve/")
    with pytest.raises(Exception, match=r"(?i)reset|disconnected|broken") as failure:
        fetch(hub)
    assert not isinstance(failure.value, HfHubHTTPError)
    assert fetch(hub).status_code == 200


def test_an_ignored_range(hub):
    hub.faults = once(Fault(ignore_range=True), "/resolve/")
    assert (fetch(hub, Range="bytes=0-9").status_code, len(fetch(hub, Range="bytes=0-9").content)) == (200, 10)


def test_a_slow_answer(hub, monkeypatch):
    delays, go_on = hold_delays(monkeypatch)
    hub.faults = once(Fault(delay=4.5), "/resolve/")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(fetch, hub)
        until(lambda: delays == [4.5], "nobody waits")
        assert call(hub, "GET", "/api/models")[0] == 200  # others are served meanwhile
        assert not slow.done()
        go_on.set()
        assert slow.result().status_code == 200
    assert [entry.path for entry in hub.log] == ["/api/models", "/alice/m/resolve/main/w.bin"]


def test_faults_are_checked():
    for wrong in ({"status": 99}, {"delay": -1.0}, {"truncate_after": -1}):
        with pytest.raises(ValueError, match="fault"):
            Fault(**wrong)
