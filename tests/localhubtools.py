"""An embedded Hub for its own tests, and raw requests to it, for what no well-behaved client would send."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi

from hubmerge.localhub import LocalHub

USERS = {"alice": "hf_alice", "bob": "hf_bob"}


@contextmanager
def small_parts_hub(root: Path) -> Iterator[LocalHub]:
    """A Hub with alice's empty model `alice/m`, where 100 kB already go up in parts."""
    with LocalHub(root, USERS, multipart_over=100_000, part_size=40_000) as server:
        HfApi(endpoint=server.endpoint, token="hf_alice").create_repo("alice/m")
        yield server


def call(hub, method, path, body=None, token="hf_alice", headers=None):
    """A raw request: (status, headers, body)."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    url = path if path.startswith("http") else hub.endpoint + path
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def commit_lines(*operations: tuple[str, dict], **header: str) -> bytes:
    """The body of a commit call: a header with these fields, then (key, value) operations."""
    lines = [("header", {"summary": "s", **header}), *operations]
    return b"\n".join(json.dumps({"key": key, "value": value}).encode() for key, value in lines)


def hold_delays(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], threading.Event]:
    """Lets every answer that a fault delays wait for the event instead; the list tells how long each was to wait."""
    delays: list[float] = []
    sleep, go_on = asyncio.sleep, threading.Event()

    async def held(seconds: float) -> None:
        delays.append(seconds)
        while not go_on.is_set():
            await sleep(0.01)

    monkeypatch.setattr("hubmerge.localhub.app.asyncio", SimpleNamespace(sleep=held))
    return delays, go_on
