"""Requests to the Hub that end: time limits, and repeats where repeating is safe."""

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, hf_raise_for_status

from ..documents import parse_json
from ..errors import AccessError, NetworkError
from .agent import hub_headers
from .errors import retry_after
from .patience import LARGEST_ANSWER, LONGEST, bounded, nap, watch

TIMEOUT = 30.0
"""Seconds that a small request may wait for the Hub."""

ATTEMPTS = 4
BACKOFF = 0.5
"""Seconds before the first repeat; each later one waits twice as long as the one before."""

JITTER = 0.5
"""How much longer, at random, a wait may be: as a share of a backoff, in seconds after the time the Hub asked for."""

LONGEST_WAIT = 60.0
"""Seconds; where the Hub asks for more, waiting is left to the user."""

# huggingface_hub passes no time limit on most calls, and none on the shared client. A commit of many files may take
# the Hub minutes, so silence is only taken for a dead connection after five.
_PATIENCE = httpx2.Timeout(connect=TIMEOUT, read=300.0, write=300.0, pool=None)

BROKEN = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
"""What the network does, and may not do the next time."""

_BUSY = (408, 425, 429)

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
    """huggingface_hub's shared client, watched, and with time limits unless somebody gave it their own."""
    client = get_session()
    watch(client)
    if client.timeout == httpx2.Timeout(None):
        client.timeout = _PATIENCE
    return client


def patiently(call: Callable[[], T]) -> T:
    """Runs `call`, which only reads, and repeats it when the network breaks or the Hub is busy.

    Never repeats a refusal (401, 403, 404). Not for calls that change something: a commit sent twice is two commits.
    """
    for attempt in range(1, ATTEMPTS + 1):
        # Anew for each: where a connection fails, huggingface_hub makes another client.
        bounded_session()
        try:
            with bounded(LARGEST_ANSWER, LONGEST):
                return call()
        except (*BROKEN, HfHubHTTPError) as exc:
            wait = pause(exc, attempt)
            if wait is None or attempt == ATTEMPTS:
                raise
            nap(wait)
    raise AssertionError("unreachable")


def ask(path: str, query: Mapping[str, Any], token: str | None) -> Any:
    """What the Hub answers to a question about what it holds: JSON of any shape.

    `path` begins after the Hub's address, its parts quoted.
    """

    def call() -> Any:
        answer = bounded_session().get(
            f"{constants.ENDPOINT}/{path}",
            params={key: value for key, value in query.items() if value is not None},
            headers={**hub_headers(token or False), "Accept-Encoding": "identity"},
            timeout=TIMEOUT,
        )
        hf_raise_for_status(answer)
        return parse_json(
            answer.content,
            f"What {constants.ENDPOINT} answered, which is not like a Hub's,",
            NetworkError,
            finite=False,
            mend=True,
            hint="check HF_ENDPOINT and any proxy in between",
        )

    return patiently(call)


def pause(exc: Exception, attempt: int) -> float | None:
    """Seconds to wait after attempt number `attempt` ended with `exc`; None: another would not help.

    At random a little longer, so that many who were sent away together do not come back together.
    """
    asked = None
    if isinstance(exc, HfHubHTTPError):
        status = exc.response.status_code
        asked = retry_after(exc)
        if not (status in _BUSY or status >= 500) or (asked or 0) > LONGEST_WAIT:
            return None
    elif not isinstance(exc, BROKEN):
        return None
    later = random.uniform(0, JITTER)
    return asked + later if asked is not None else BACKOFF * 2 ** (attempt - 1) * (1 + later)
