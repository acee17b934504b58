"""Requests to the Hub that end: time limits, repeats where repeating is safe, ranges that are really ranges."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx2
from huggingface_hub import constants, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from ..errors import AccessError, HubError
from .errors import retry_after

TIMEOUT = 30.0
"""Seconds that a small request may wait for the Hub."""

ATTEMPTS = 4
LONGEST_WAIT = 60.0
"""Seconds; where the Hub asks for more, waiting is left to the user."""

# huggingface_hub passes no time limit on most calls, and none on the shared client. A commit of many files may take
# the Hub minutes, so silence is only taken for a dead connection after five.
_PATIENCE = httpx2.Timeout(connect=TIMEOUT, read=300.0, write=300.0, pool=None)
_BROKEN = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_BUSY = (408, 429, 500, 502, 503, 504)

T = TypeVar("T")


def find_token(token: str | None) -> str | None:
    """`token` if there is one, else the one of the environment or of `hf auth login`, else None.

    HF_HUB_DISABLE_IMPLICIT_TOKEN leaves only the first. Raises `AccessError` for text that cannot be a token (spaces,
    line breaks, other than ASCII).
    """
    found = token or (None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token())
    if found is not None and not (found.isascii() and found.isprintable() and " " not in found):
        raise AccessError("The token holds characters that no token has; copy it again, or run `hf auth login`.")
    return found


def bounded_session() -> httpx2.Client:
    """huggingface_hub's shared client, with time limits unless somebody gave it their own."""
    client = get_session()
    if client.timeout == httpx2.Timeout(None):
        client.timeout = _PATIENCE
    return client


def patiently(call: Callable[[], T]) -> T:
    """Runs `call`, which only reads, and repeats it when the network breaks or the Hub is busy.

    Never repeats a refusal (401, 403, 404). Not for calls that change something: a commit sent twice is two commits.
    """
    bounded_session()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except (*_BROKEN, HfHubHTTPError) as exc:
            wait = _pause(exc, attempt)
            if wait is None or attempt == ATTEMPTS:
                raise
            time.sleep(wait)
    raise AssertionError("unreachable")


def _pause(exc: Exception, attempt: int) -> float | None:
    """Seconds before the next attempt; None: do not try again."""
    backoff = 0.5 * 2 ** (attempt - 1)
    if isinstance(exc, _BROKEN):
        return backoff
    if isinstance(exc, HfHubHTTPError) and exc.response.status_code in _BUSY:
        wait = retry_after(exc)
        return backoff if wait is None else wait if wait <= LONGEST_WAIT else None
    return None


def read_range(repo_id: str, commit: str, file: str, start: int, stop: int, token: str | None) -> bytearray:
    """Bytes `start` up to but not including `stop` of a file at a commit, without the rest of the file.

    Raises `HubError` where the answer is not exactly these bytes; the exceptions of huggingface_hub pass through.
    """
    url = hf_hub_url(repo_id, file, revision=commit)
    headers = build_hf_headers(token=token, library_name="hubmerge")
    # A compressed answer has other offsets than the file.
    headers |= {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    with bounded_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
        hf_raise_for_status(answer)
        # A server that ignores the range answers 200 with the whole file: leave before reading gigabytes.
        if answer.status_code != httpx2.codes.PARTIAL_CONTENT:
            raise HubError(
                f"Reading {file} of {repo_id} failed: the server sends whole files instead of the requested part "
                f"(HTTP {answer.status_code}); check HF_ENDPOINT and any proxy in between."
            )
        data = bytearray()
        for chunk in answer.iter_raw():
            data += chunk
            if len(data) > stop - start:
                break
    if len(data) != stop - start:
        raise HubError(
            f"Reading {file} of {repo_id} failed: asked for {stop - start} bytes, got {len(data)}; run it again."
        )
    return data
