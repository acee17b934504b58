"""What the Hub answers about a repository, each field of the right type - or one sentence that says which is not."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from huggingface_hub.utils import validate_repo_id

from ..errors import NetworkError
from ..reference import ModelRef
from .checkpoint import check_name
from .errors import hub_errors
from .session import ask

LARGEST_FILE = 2**53
"""Bytes; beyond it a JSON number is not exact, and no disk holds it."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileInfo:
    """One file of a repository or folder: `size` in bytes, and what the Hub knows of its content.

    `sha256` of the content where it is large; `oid`, git's own name for it, where it is small.
    """

    path: str
    size: int
    sha256: str | None = None
    oid: str | None = None


@dataclass(frozen=True)
class Facts:
    """A repository at one commit: its files by name, and the front matter of its card as the Hub reads it.

    `public`: the Hub said that everybody may read it. `partial`: there may be more files than these.
    """

    commit: str
    files: Mapping[str, FileInfo] = field(repr=False)
    card: Mapping[str, Any] = field(repr=False)
    public: bool = False
    partial: bool = False


def ask_about(ref: ModelRef, token: str | None, kind: str = "model") -> tuple[Facts, Mapping[str, Any]]:
    """The facts about a "model", "dataset" or "space" at the revision of `ref`, and the answer that they stand in.

    Raises `HubError` for what the Hub refuses, `NetworkError` where it cannot be asked or answers nonsense.
    """
    what = f"reading {ref}" if kind == "model" else f"reading the {kind} {ref}"
    with hub_errors(what):
        validate_repo_id(ref.repo_id)
        path = f"api/{kind}s/{ref.repo_id}"
        if ref.revision is not None:
            path += f"/revision/{quote(ref.revision, safe='')}"
        answer = ask(path, {"blobs": True}, token)
    return read_facts(answer, ref.repo_id, f"Reading {ref} failed"), answer


def read_facts(answer: Any, where: str, failed: str) -> Facts:
    """The facts that `answer` states about the repository `where`; messages begin with `failed`.

    Raises `NetworkError` for an answer of another form, `SourceError` for a file's name that could leave its folder.
    """

    def value(holder: Any, key: str, kind: type, what: str) -> Any:
        found = holder.get(key)
        if not isinstance(found, kind) or isinstance(found, bool):
            shown = json.dumps(found, default=str)[:60]
            raise NetworkError(
                f"{failed}: the Hub's answer should say {what} ({key}), and says {shown}; check HF_ENDPOINT and any "
                "proxy in between."
            )
        return found

    if not isinstance(answer, Mapping):
        raise NetworkError(
            f"{failed}: the Hub answered, but not with what it knows of a repository ({json.dumps(answer)[:60]}); "
            "check HF_ENDPOINT and any proxy in between."
        )
    commit = value(answer, "sha", str, "which commit this is")
    if not _COMMIT.fullmatch(commit):
        raise NetworkError(
            f"{failed}: the Hub did not say which commit this is ({commit[:60]!r}); check HF_ENDPOINT and any proxy."
        )
    files = {}
    for item in value(answer, "siblings", list, "which files there are"):
        if not isinstance(item, Mapping):
            item = {}
        name = check_name(value(item, "rfilename", str, "how a file is called"), where)
        size = value(item, "size", int, f"how large {name} is")
        if not 0 <= size <= LARGEST_FILE:
            raise NetworkError(f"{failed}: the Hub says that {name} has {str(size)[:30]} bytes; check HF_ENDPOINT.")
        lfs = item.get("lfs")
        # A local Hub makes up files as they are read, and has nothing that they could be compared with.
        sha256 = lfs.get("sha256") if isinstance(lfs, Mapping) and lfs.get("generated") is not True else None
        # Of a large file git knows a pointer, whose name says nothing of the content.
        oid = None if lfs else item.get("blobId")
        files[name] = FileInfo(name, size, _digest(_SHA256, sha256), _digest(_COMMIT, oid))
    card = answer.get("cardData")
    public = answer.get("private") is False and answer.get("gated", False) is False
    return Facts(commit, files, card if isinstance(card, Mapping) else {}, public)


def _digest(form: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None
