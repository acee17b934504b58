"""What this machine knows of a repository when the Hub cannot be asked: as transformers does, from the Hub's cache.

A file that was downloaded lies in the cache by its commit. Which commit a name or branch was last, and what else the
repository holds, is written down each time that the Hub says so; where only other programs used the cache, its own
notes and what lies there have to do.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from ..documents import parse_json
from ..errors import HubmergeError
from ..files import note_down
from ..reference import ModelRef
from .answers import Facts, FileInfo, read_facts

_COMMIT = re.compile(r"[0-9a-f]{40}")
_for_many = False
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def remember(kind: str, ref: ModelRef, facts: Facts, answer: Mapping[str, Any]) -> None:
    """Writes down what the Hub said about the revision of `ref`."""
    known = {"sha": facts.commit} | {key: answer.get(key) for key in ("siblings", "cardData", "private", "gated")}
    folder = _notes(kind, ref.repo_id)
    _write(folder / f"{facts.commit}.json", json.dumps(known))
    _write(folder / f"@{_quoted(ref.revision)}", facts.commit)


def serve_many() -> None:
    """From now on this process works for people who may not see each other's models: only public ones are recalled."""
    global _for_many
    _for_many = True


def recall(kind: str, ref: ModelRef) -> Facts | None:
    """What was known of the revision of `ref` when the Hub was last asked; None where nothing of it is in the cache.

    Where nobody may be asked who may see what, a server for many gives only what the Hub said that all may see.
    """
    facts = _recall(kind, ref)
    return facts if facts is None or facts.public or not _for_many else None


def _recall(kind: str, ref: ModelRef) -> Facts | None:
    commit = _commit(kind, ref)
    if commit is None:
        return None
    text = _read(_notes(kind, ref.repo_id) / f"{commit}.json")
    if text is not None:
        try:
            return read_facts(parse_json(text, "It", HubmergeError), ref.repo_id, "Reading the cache failed")
        except HubmergeError:
            pass  # broken or of another version: what lies in the cache is still there
    return _snapshot(kind, ref.repo_id, commit)


def keep_revision(kind: str, repo_id: str, revision: str | None, commit: str) -> None:
    """Notes in the Hub's cache which commit a branch is, so that transformers finds the files there as well."""
    ref = revision or constants.DEFAULT_REVISION
    folder = _cached(kind, repo_id)
    if not _COMMIT.fullmatch(ref) and _plain(ref) and (folder / "snapshots" / commit).is_dir():
        _write(folder / "refs" / ref, commit)


def remember_copy(ref: ModelRef, revision: str) -> None:
    """Writes down which revision has the Hub's own copy of the weights of a model (see conversion.py)."""
    _write(_notes("model", ref.repo_id) / "copy", revision)


def recall_copy(ref: ModelRef) -> str | None:
    """That revision, where one was used before."""
    return _read(_notes("model", ref.repo_id) / "copy")


def _commit(kind: str, ref: ModelRef) -> str | None:
    """The commit that the revision of `ref` was when last heard of, if something of it is in the cache."""
    folder, revision = _cached(kind, ref.repo_id), ref.revision or constants.DEFAULT_REVISION
    if _COMMIT.fullmatch(revision):
        return revision if (folder / "snapshots" / revision).is_dir() else None
    noted = [_notes(kind, ref.repo_id) / f"@{_quoted(ref.revision)}"]
    noted += [folder / "refs" / revision] if _plain(revision) else []
    times = {note: note.stat().st_mtime_ns for note in noted if note.is_file()}
    for note in sorted(times, key=times.__getitem__, reverse=True):
        commit = (_read(note) or "").strip()
        if _COMMIT.fullmatch(commit) and (folder / "snapshots" / commit).is_dir():
            return commit
    return None


def _snapshot(kind: str, repo_id: str, commit: str) -> Facts:
    """The files of a commit that lie in the cache. A file is named there by its hash, which can be checked."""
    root = _cached(kind, repo_id) / "snapshots" / commit
    files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name, blob = path.relative_to(root).as_posix(), Path(os.path.realpath(path))
            digest = blob.name if blob.parent.name == "blobs" and _DIGEST.fullmatch(blob.name) else ""
            sha256, oid = (digest if len(digest) == length else None for length in (64, 40))
            files[name] = FileInfo(name, path.stat().st_size, sha256, oid)
    return Facts(commit, files, {}, partial=True)


def _cached(kind: str, repo_id: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / _name(kind, repo_id)


def _notes(kind: str, repo_id: str) -> Path:
    return Path(constants.HF_HOME) / "hubmerge" / "repositories" / _name(kind, repo_id)


def _name(kind: str, repo_id: str) -> str:
    from huggingface_hub.file_download import repo_folder_name  # with all that downloads

    return repo_folder_name(repo_id=repo_id, repo_type=kind)


def _quoted(revision: str | None) -> str:
    return quote(revision or constants.DEFAULT_REVISION, safe="")[:200]


def _plain(revision: str) -> bool:
    return all(part not in ("", ".", "..") for part in revision.split("/")) and "\\" not in revision


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _write(path: Path, text: str) -> None:
    if _read(path) != text:
        note_down(path, text)
        return
    with suppress(OSError, ValueError):
        path.touch()
