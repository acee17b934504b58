"""Commits: immutable snapshots of a repository's files, one JSON file each."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import gitids
from .disk import read_json, write_json


@dataclass(frozen=True)
class Entry:
    """One file of a commit."""

    sha256: str
    size: int  # bytes
    oid: str  # git blob of the content, or of the pointer where the file is stored as LFS
    lfs: bool
    commit: str = ""  # the commit that last changed this file

    @property
    def etag(self) -> str:
        """What identifies the content in HTTP: as on the Hub, SHA-256 for LFS and the git blob otherwise."""
        return self.sha256 if self.lfs else self.oid

    def same_content(self, other: "Entry | None") -> bool:
        """Whether another file holds the same bytes in the same way."""
        return other is not None and (self.sha256, self.lfs) == (other.sha256, other.lfs)


def regular_entry(content: bytes, sha256: str) -> Entry:
    """A small file, kept in git on the real Hub."""
    return Entry(sha256=sha256, size=len(content), oid=gitids.blob_id(content), lfs=False)


def lfs_entry(sha256: str, size: int) -> Entry:
    """A large file, of which git keeps a pointer."""
    return Entry(sha256=sha256, size=size, oid=gitids.blob_id(gitids.lfs_pointer(sha256, size)), lfs=True)


@dataclass(frozen=True)
class Commit:
    """A snapshot: who, when, why, after which, and every file."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str  # ISO 8601, UTC, milliseconds
    files: Mapping[str, Entry]


@dataclass(frozen=True)
class Change:
    """One step of a commit: `entry` written at `path`, or with entry None the removal of the file or folder there."""

    path: str
    entry: Entry | None = None
    folder: bool = False


def now() -> str:
    """The current time as the Hub writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def apply_changes(files: Mapping[str, Entry], changes: Iterable[Change]) -> dict[str, Entry]:
    """The files after the changes, in order.

    Raises:
        FileNotFoundError: a removal names nothing.
        ValueError: a path would be a file and a folder at once.
    """
    result = dict(files)
    for change in changes:
        if change.entry is not None:
            old = result.get(change.path)
            result[change.path] = old if old is not None and change.entry.same_content(old) else change.entry
        elif change.folder:
            inside = [path for path in result if path.startswith(change.path.rstrip("/") + "/")]
            if not inside:
                raise FileNotFoundError(change.path)
            for path in inside:
                del result[path]
        elif result.pop(change.path, None) is None:
            raise FileNotFoundError(change.path)
    for path in result:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in result:
                raise ValueError(f"{parent!r} cannot be a file and a folder at once")
            parent = parent.rpartition("/")[0]
    return result


def make_commit(files: Mapping[str, Entry], parent: str | None, title: str, message: str, author: str) -> Commit:
    """A commit of `files`, whose id is the one git would give it.

    Files whose `commit` is empty are those that this commit changes.
    """
    date = now()
    tree = gitids.tree_ids({path: entry.oid for path, entry in files.items()})[""]
    text = f"{title}\n\n{message}" if message else title
    seconds = int(datetime.fromisoformat(date.replace("Z", "+00:00")).timestamp())
    identifier = gitids.commit_id(tree, [parent] if parent else [], author, seconds, text)
    stamped = {path: entry if entry.commit else replace(entry, commit=identifier) for path, entry in files.items()}
    return Commit(identifier, parent, title, message, author, date, dict(sorted(stamped.items())))


def save_commit(folder: Path, commit: Commit) -> None:
    """Write a commit; writing the same one twice changes nothing."""
    write_json(folder / f"{commit.id}.json", asdict(commit))


@functools.lru_cache(maxsize=512)
def load_commit(path: Path) -> Commit:
    """Read a commit back; cached, since a commit never changes."""
    stored: dict[str, Any] = read_json(path)
    files = {name: Entry(**entry) for name, entry in stored.pop("files").items()}
    return Commit(**stored, files=files)
