"""Raw requests to an embedded Hub, for what no well-behaved client would send."""

import json
import urllib.error
import urllib.request

USERS = {"alice": "hf_alice", "bob": "hf_bob"}


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


def commit_lines(*operations: tuple[str, dict], **header: str) -> bytes:
    """The body of a commit call: a header with these fields, then (key, value) operations."""
    lines = [("header", {"summary": "s", **header}), *operations]
    return b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in lines)
