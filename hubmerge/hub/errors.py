"""What the Hub and the network answer, turned into one clear sentence.

Every exception of huggingface_hub and its HTTP library becomes a `HubError`; the message never carries a token.
"""

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)

from ..errors import (
    AccessError,
    HubError,
    HubmergeError,
    ImpossibleNameError,
    NetworkError,
    NotFoundError,
    ResourceError,
)
from .patience import Unbearable

_FOREIGN = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    EntryNotFoundError,
    FileMetadataError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    XetDownloadError,
    json.JSONDecodeError,
)
# What huggingface_hub trips over where an answer has another form than it expects, and where it reads answers.
_MISREAD = (LookupError, TypeError, AttributeError, ValueError, RecursionError)
_READERS = {f"huggingface_hub.{name}" for name in ("hf_api", "_commit_api", "lfs", "utils._http", "file_download")}


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Raises what goes wrong inside as hubmerge errors; `what` is what was being done ("reading org/name").

    Raises `HubError` (or a subclass) for everything the Hub and the network do, `ResourceError` for a full disk.
    """
    try:
        yield
    except HubmergeError:
        raise
    except _FOREIGN as exc:
        raise explain(exc, what) from exc
    except _MISREAD as exc:
        if not any(frame.f_globals.get("__name__") in _READERS for frame, _ in walk_tb(exc.__traceback__)):
            raise
        raise NetworkError(f"{_start(what)}: {_unlike_a_hub()}") from exc
    except RuntimeError as exc:
        # A failed LFS upload hides the reason behind "Error while uploading ... to the Hub".
        if isinstance(exc.__cause__, HubmergeError):
            raise exc.__cause__ from exc
        if not isinstance(exc.__cause__, _FOREIGN):
            raise
        raise explain(exc.__cause__, what) from exc
    except OSError as exc:
        if exc.errno is None:  # huggingface_hub counted other bytes than the answer announced
            raise explain(exc, what) from exc
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ResourceError(f"{_start(what)}: the disk is full; free some space and run the same again.") from exc


def explain(exc: BaseException, what: str) -> HubError:
    """The hubmerge error for an exception of huggingface_hub or its HTTP library; see `hub_errors`."""
    if isinstance(exc, LocalEntryNotFoundError) and exc.__cause__ is not None:
        # A download whose first request failed hides the reason behind "not in the cache".
        return explain(exc.__cause__, what)
    kind, reason = _reason(exc)
    return kind(f"{_start(what)}: {reason}")


def _start(what: str) -> str:
    return f"{what[:1].upper()}{what[1:]} failed"


def _reason(exc: BaseException) -> tuple[type[HubError], str]:
    hub, elsewhere = constants.ENDPOINT, _elsewhere(exc)
    if isinstance(exc, Unbearable):
        return NetworkError, str(exc)
    if elsewhere is not None and isinstance(exc, httpx2.HTTPError) and not isinstance(exc, HfHubHTTPError):
        why = " ".join(str(exc).split())[:200] if isinstance(exc, httpx2.ConnectError) else ""
        return NetworkError, (
            f"the Hub sends its readers on to {elsewhere}, which does not answer as it should "
            f"({why or type(exc).__name__}); check any proxy in between and run the same again later."
        )
    if isinstance(exc, httpx2.RemoteProtocolError) and "location header" in str(exc):
        return NetworkError, f"{hub} sends its readers on to what is no address; check any proxy in between."
    if isinstance(exc, httpx2.TooManyRedirects):
        return NetworkError, "the Hub redirects in a circle; check HF_ENDPOINT and any proxy in between."
    if isinstance(exc, OfflineModeIsEnabled):
        return NetworkError, "offline mode is on; unset HF_HUB_OFFLINE to use the Hub."
    if isinstance(exc, HfHubHTTPError):
        return _http_reason(exc)
    if isinstance(exc, HFValidationError):
        return ImpossibleNameError, "this is not a name that a repository can have; expected org/name."
    if isinstance(exc, LocalTokenNotFoundError):
        return AccessError, "no token was found; log in with `hf auth login` or set HF_TOKEN."
    if isinstance(exc, EntryNotFoundError):
        return NotFoundError, "the file is not there."
    if isinstance(exc, httpx2.TimeoutException):
        return NetworkError, f"{hub} did not answer in time; check the connection and run the same again."
    if isinstance(exc, httpx2.ConnectError):
        return NetworkError, f"{hub} cannot be reached ({exc}); check the connection and HF_ENDPOINT."
    if isinstance(exc, httpx2.ProxyError):
        return NetworkError, "the proxy refused the connection; check HTTPS_PROXY."
    if isinstance(exc, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
        return NetworkError, f"{hub!r} is not an address of a Hub; HF_ENDPOINT must start with http:// or https://."
    if isinstance(exc, (json.JSONDecodeError, FileMetadataError)):
        return NetworkError, _unlike_a_hub()
    # The text of other network errors is left out: some quote the request, headers included.
    return NetworkError, f"the connection to {hub} broke ({type(exc).__name__}); run the same again."


def _unlike_a_hub() -> str:
    return f"{constants.ENDPOINT} answered, but not like a Hub; check HF_ENDPOINT and any proxy in between."


def _elsewhere(exc: BaseException) -> str | None:
    """The scheme and host that were asked, where that is another place than the Hub; None else."""
    request = getattr(exc, "_request", None)
    if isinstance(exc, HfHubHTTPError):
        request = exc.response.request
    if not isinstance(request, httpx2.Request):
        return None
    url, hub = request.url, httpx2.URL(constants.ENDPOINT)
    if (url.scheme, url.host, url.port) == (hub.scheme, hub.host, hub.port):
        return None
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"[:200]


def _http_reason(exc: HfHubHTTPError) -> tuple[type[HubError], str]:
    status, said = exc.response.status_code, _said(exc)
    logged_in = "authorization" in exc.response.request.headers
    elsewhere = _elsewhere(exc)
    if elsewhere is not None and type(exc) is HfHubHTTPError:
        return NetworkError if status >= 500 or status in (408, 429) else HubError, (
            f"the Hub sends its readers on to {elsewhere}, which refuses (HTTP {status}); check any proxy in between "
            "and run the same again later."
        )
    log_in = "use a token with access" if logged_in else "log in with `hf auth login` or set HF_TOKEN"
    # GatedRepoError derives from RepositoryNotFoundError, so it comes first.
    if isinstance(exc, GatedRepoError):
        page = f"{constants.ENDPOINT}/{exc.repo_id}" if exc.repo_id else "its page on the Hub"
        return AccessError, f"this model is gated; ask for access at {page}, then {log_in}."
    if status == 401 and logged_in and not isinstance(exc, RepositoryNotFoundError):
        return AccessError, "the Hub does not know this token (mistyped, expired or revoked); run `hf auth login`."
    if isinstance(exc, RepositoryNotFoundError):
        return NotFoundError, f"there is no such repository, or it is private; check the name, or {log_in}."
    if isinstance(exc, RevisionNotFoundError):
        return NotFoundError, "the repository has no such branch, tag or commit; check what stands after the @."
    if isinstance(exc, EntryNotFoundError):
        return NotFoundError, "the repository has no such file."
    if isinstance(exc, DisabledRepoError):
        return AccessError, "the Hub has disabled this repository; use another one."
    if status in (401, 403):
        return AccessError, f"the Hub refused ({said or status}); {log_in}."
    if status == 404:
        return NotFoundError, f"the Hub does not have it ({said or status})."
    if status == 412:
        return HubError, "somebody else committed to the repository meanwhile; run the same again."
    if status == 429:
        wait = retry_after(exc)
        when = f"in {wait:.0f} seconds" if wait else "later"
        return NetworkError, f"the Hub limits how many requests it answers; run the same again {when}."
    if status >= 500 or status == 408:
        return NetworkError, f"the Hub has a problem of its own (HTTP {status}); run the same again later."
    return HubError, f"the Hub refused (HTTP {status}{': ' + said if said else ''})."


def _said(exc: HfHubHTTPError) -> str:
    said = " ".join((exc.server_message or "").split())
    return said[:300].rstrip(".")


def retry_after(exc: HfHubHTTPError) -> float | None:
    """The seconds that the Hub asks to wait before the next try, or None where it does not say."""
    value = exc.response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    # Draft "RateLimit header fields for HTTP", as the Hub sends it: "api";r=0;t=55
    limits = re.search(r"\br=0\s*;\s*t=([0-9]{1,9})\b", exc.response.headers.get("ratelimit", ""))
    return float(limits.group(1)) if limits else None
