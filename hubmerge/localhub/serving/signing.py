"""Signed URLs: the terms of a permission travel in the query, so that whoever holds the URL needs no token."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

EXPIRES = "expires"
_SIGNATURE = "signature"


class BadSignature(ValueError):
    """The URL was not signed here for this purpose, or its time is over."""


def signed_query(secret: bytes, subject: Iterable[str], terms: Mapping[str, str], seconds: float) -> str:
    """The query of a URL that permits what `subject` names, under `terms`, for so many seconds."""
    full = {**terms, EXPIRES: f"{time.time() + seconds:.3f}"}
    return urlencode({**full, _SIGNATURE: _signature(secret, subject, full)})


def signed_terms(secret: bytes, subject: Iterable[str], query: Mapping[str, str]) -> dict[str, str]:
    """The terms that a query was signed with.

    Raises:
        BadSignature: they were changed, are for another subject, or are out of date.
    """
    terms = {key: value for key, value in query.items() if key != _SIGNATURE}
    expected = _signature(secret, subject, terms)
    genuine = hmac.compare_digest(expected.encode(), query.get(_SIGNATURE, "").encode())
    if not genuine or float(terms[EXPIRES]) < time.time():
        raise BadSignature
    return terms


def _signature(secret: bytes, subject: Iterable[str], terms: Mapping[str, str]) -> str:
    text = json.dumps([*subject, sorted(terms.items())])  # no two permissions have the same text
    return base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).decode().rstrip("=")
