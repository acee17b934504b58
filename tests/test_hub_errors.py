"""One clear sentence for whatever goes wrong between here and the Hub, and never a token in it."""

import errno

import httpx2
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import hf_raise_for_status, set_client_factory

from hubmerge.errors import AccessError, HubError, NetworkError, NotFoundError, ResourceError, SourceError
from hubmerge.hub import explain, find_token, hub_errors
from hubmerge.hub import session as hub_session
from hubmerge.hub.errors import retry_after
from hubmerge.hub.user import user_of

TOKEN = "hf_" + "Abc123" * 6


def refusal(
    status: int, token: str | None = TOKEN, url: str = "/api/models/org/name", **headers: str
) -> HfHubHTTPError:
    """What huggingface_hub makes of such an answer of the Hub."""
    request = httpx2.Request("GET", constants.ENDPOINT + url)
    if token:
        request.headers["authorization"] = f"Bearer {token}"
    raw = {name.replace("_", "-"): value.encode("latin-1") for name, value in headers.items()}
    with pytest.raises(HfHubHTTPError) as caught:
        hf_raise_for_status(httpx2.Response(status, headers=raw, request=request))
    return caught.value


@pytest.mark.parametrize(
    ("exc", "kind", "says"),
    [
        (refusal(403, x_error_code="GatedRepo"), AccessError, "gated; ask for access at .*/org/name, then use a token"),
        (refusal(401, None, x_error_code="GatedRepo"), AccessError, "then log in with `hf auth login`"),
        (refusal(404, x_error_code="RepoNotFound"), NotFoundError, "no such repository, or it is private"),
        (refusal(404, x_error_code="RevisionNotFound"), NotFoundError, "no such branch, tag or commit"),
        (refusal(404, x_error_code="EntryNotFound"), NotFoundError, "no such file"),
        (refusal(404), NotFoundError, "does not have it"),
        (refusal(401), AccessError, "does not know this token"),
        (refusal(401, None), AccessError, "log in with"),
        (refusal(403, x_error_message=f"Token {TOKEN} lacks rights"), AccessError, r"\(Token hf_\*\*\* lacks rights\)"),
        (refusal(403, x_error_message="Access to this resource is disabled."), AccessError, "has disabled"),
        (refusal(402, x_error_message="Quota."), HubError, "HTTP 402: Quota"),
        (refusal(412), HubError, "somebody else committed"),
        (refusal(429, ratelimit='"api";r=0;t=55'), NetworkError, "again in 55 seconds"),
        (refusal(429), NetworkError, "again later"),
        (refusal(502), NetworkError, "problem of its own"),
        (httpx2.ReadTimeout("late"), NetworkError, "did not answer in time"),
        (httpx2.ConnectError("[Errno 111] Connection refused"), NetworkError, "cannot be reached .*refused"),
        (httpx2.ProxyError("407"), NetworkError, "HTTPS_PROXY"),
        (httpx2.UnsupportedProtocol("ftp"), NetworkError, "must start with http"),
        (httpx2.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}'"), NetworkError, "broke"),
        (FileMetadataError("no etag"), NetworkError, "not like a Hub"),
        (LocalEntryNotFoundError("not cached"), NotFoundError, "not there"),
    ],
)
def test_one_sentence(exc: Exception, kind: type[HubError], says: str) -> None:
    error = explain(exc, "reading org/name")
    assert type(error) is kind
    text = str(error)
    assert text.startswith("Reading org/name failed: ")
    assert text.endswith(".")
    assert "\n" not in text
    assert TOKEN not in text
    with pytest.raises(kind, match=says):
        raise error


def test_the_reason_behind_a_failed_download_and_upload() -> None:
    hidden = LocalEntryNotFoundError("An error happened while trying to locate the file")
    hidden.__cause__ = httpx2.ConnectTimeout("late")
    with pytest.raises(NetworkError, match="in time"), hub_errors("downloading x"):
        raise hidden
    with pytest.raises(NetworkError, match="Uploading x failed"), hub_errors("uploading x"):
        raise RuntimeError("Error while uploading 'x' to the Hub.") from refusal(500)


def test_what_is_not_the_hubs_fault_passes() -> None:
    for exc in (SourceError("mine"), KeyError("bug"), RuntimeError("bug"), PermissionError(errno.EACCES, "denied")):
        with pytest.raises(type(exc)) as caught, hub_errors("reading x"):
            raise exc
        assert caught.value is exc
    with pytest.raises(ResourceError, match="disk is full"), hub_errors("downloading x"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_how_long_to_wait() -> None:
    assert retry_after(refusal(429, retry_after="12")) == 12
    assert retry_after(refusal(429, ratelimit='"api";r=0;t=55')) == 55
    assert retry_after(refusal(429, ratelimit='"api";r=3;t=55')) is None
    assert retry_after(refusal(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")) is None
    for wrong in ("²", "9" * 4000, "-1", "1e9"):
        assert retry_after(refusal(429, retry_after=wrong)) is None
        assert retry_after(refusal(429, ratelimit=f'"api";r=0;t={wrong}')) is None


@pytest.mark.parametrize("answer", [{"name": "alice"}, {}, {"name": 5}, {"name": ""}, [], None])
def test_whose_a_token_is(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HfApi, "whoami", lambda self: answer)
    if answer == {"name": "alice"}:
        assert user_of("hf_x") == "alice"
    else:
        with pytest.raises(HubError, match="names nobody"):
            user_of("hf_x")


def test_a_token_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_token("hf_mine") == "hf_mine"
    assert find_token(None) == find_token("") == "hf_alice"
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert find_token(None) is None
    assert find_token("hf_mine") == "hf_mine"


def test_no_request_waits_for_ever() -> None:
    from huggingface_hub.utils._http import default_client_factory

    try:
        set_client_factory(default_client_factory)
        assert hub_session.bounded_session().timeout.read == 300
        set_client_factory(lambda: httpx2.Client(timeout=7))
        assert hub_session.bounded_session().timeout.read == 7
    finally:
        set_client_factory(default_client_factory)
