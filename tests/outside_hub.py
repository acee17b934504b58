"""What a Hub may answer, right and wrong: served without a network to the functions that ask."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
from huggingface_hub.utils import close_session, set_client_factory
from huggingface_hub.utils._http import default_client_factory
from hypothesis import strategies as st
from outside import json_bytes
from outside_kinds import CARD, Bench, Kind

from hubmerge import ModelRef, load_task, open_source
from hubmerge.hub import search_models
from hubmerge.hub.push import Upload

COMMIT = "1234567890" * 4
_SHA256 = "0" * 64

Answer = Callable[[httpx2.Request], httpx2.Response | None]


@contextmanager
def answering(answer: Answer) -> Iterator[None]:
    """Every request of huggingface_hub's shared client gets this answer, 404 where it is None."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        missing = httpx2.Response(404, headers={"X-Error-Code": "EntryNotFound"}, content=b"{}")
        return answer(request) or missing

    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(reply), follow_redirects=True))
    try:
        yield
    finally:
        close_session()
        set_client_factory(default_client_factory)


def _of(answers: Mapping[str, bytes], files: Mapping[str, bytes]) -> Answer:
    """JSON by the end of a path, and the files of every repository."""

    def answer(request: httpx2.Request) -> httpx2.Response | None:
        path = request.url.path
        for end, content in answers.items():
            if path.endswith(end):
                return httpx2.Response(200, headers={"Content-Type": "application/json"}, content=content)
        content = files.get(path.partition(f"/resolve/{COMMIT}/")[2])
        if content is None:
            return None
        told = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked := request.headers.get("Range"):
            start, stop = (int(n or len(content) - 1) for n in asked.removeprefix("bytes=").split("-"))
            part = content[start : stop + 1]
            told["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
            return httpx2.Response(206, headers=told, stream=httpx2.ByteStream(part))
        told["Content-Length"] = str(len(content))
        return httpx2.Response(
            200, headers=told, stream=httpx2.ByteStream(b"" if request.method == "HEAD" else content)
        )

    return answer


def _oid(content: bytes) -> str:
    """Git's name for a file."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def _facts(files: Mapping[str, bytes], **more: Any) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = [
        {"rfilename": name, "size": len(content), "blobId": _oid(content)} for name, content in files.items()
    ]
    siblings.append({"rfilename": "other.bin", "size": 5, "blobId": "b" * 40, "lfs": {"sha256": _SHA256, "size": 5}})
    return {
        "id": "outside/model",
        "sha": COMMIT,
        "private": False,
        "gated": False,
        "siblings": siblings,
        "cardData": CARD,
        **more,
    }


def a_repository(bench: Bench) -> Kind:
    """What the Hub knows of a model or a dataset that is to be read."""
    files = {path.name: path.read_bytes() for path in bench.models["base"].iterdir()}
    rows = b'{"question": "1", "answer": "2"}\n'
    task = {"examples": {"repo_id": "outside/data", "test": "rows.jsonl"}}

    def read(changed: tuple[str, bytes]) -> None:
        kind, content = changed
        if kind == "model":
            with answering(_of({"api/models/outside/model": content, "auth-check": b"{}"}, files)):
                open_source(ModelRef("outside/model"))
        else:
            with answering(_of({"api/datasets/outside/data": content, "auth-check": b"{}"}, {"rows.jsonl": rows})):
                load_task(task)

    models = st.tuples(st.just("model"), json_bytes(_facts(files), _facts(files, gated="auto")))
    datasets = st.tuples(st.just("dataset"), json_bytes(_facts({"rows.jsonl": rows}, id="outside/data")))
    return Kind(models | datasets, read)


def a_list(bench: Bench) -> Kind:
    """What the Hub answers to a few letters of a name."""
    told = {
        "id": "outside/model",
        "downloads": 5,
        "likes": 2,
        "safetensors": {"total": 1_000, "parameters": {"F32": 1_000}},
        "config": {"architectures": ["LlamaForCausalLM"]},
        "cardData": CARD,
        "private": False,
        "gated": "manual",
    }

    def read(content: bytes) -> None:
        with answering(_of({"api/models": content}, {})):
            search_models("mod")

    return Kind(json_bytes([told, {**told, "id": "org/other"}]), read)


def a_push(bench: Bench) -> Kind:
    """What the Hub answers while a folder is pushed to it."""
    commit = {
        "id": COMMIT,
        "title": "t",
        "message": "Pushed with hubmerge.",
        "authors": [],
        "date": "2026-01-01T00:00:00Z",
    }
    told: dict[str, Any] = {
        "/api/whoami-v2": {"name": "alice", "orgs": [], "auth": {"accessToken": {"role": "write"}}},
        "/api/repos/create": {"url": "https://huggingface.co/alice/model", "id": "alice/model", "name": "alice/model"},
        "/auth-check/write": {},
        "/refs": {
            "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}],
            "tags": [],
            "converts": [],
        },
        "/commits/main": [commit],
        "/preupload/main": {"files": [{"path": "config.json", "uploadMode": "regular", "shouldIgnore": False}]},
        "/commit/main": {"commitOid": COMMIT, "commitUrl": f"https://huggingface.co/alice/model/commit/{COMMIT}"},
        f"/paths-info/{COMMIT}": [
            {"type": "file", "path": "config.json", "size": 2, "oid": "9e26dfeeb6e641a33dae4961196235bdb965b21b"}
        ],
        "/api/models/alice/model": _facts({"README.md": b""}, private=True, id="alice/model"),
        "/revision/main": _facts({"README.md": b""}, private=True, id="alice/model"),
    }
    plain = {end: json.dumps(document).encode() for end, document in told.items()}

    def read(changed: tuple[str, bytes]) -> None:
        with answering(_of({**plain, changed[0]: changed[1]}, {})):
            upload = Upload("alice/model", token="hf_alice")
            upload.start()
            upload.add_all({"config.json": b"{}"})
            upload.commit("Files")

    return Kind(st.one_of([st.tuples(st.just(end), json_bytes(document)) for end, document in told.items()]), read)


HUB_KINDS: Mapping[str, Callable[[Bench], Kind]] = {"repository": a_repository, "list": a_list, "push": a_push}
