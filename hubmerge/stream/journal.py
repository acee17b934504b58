"""What of a merge is already finished in its output folder, so that a broken run goes on instead of starting over.

While a merge runs, OUT/.hubmerge/journal.json lists its finished shards and files with their sha256, and what is half
written lies beside it. A finished merge has OUT/hubmerge.json instead, which also tells a reader what the model was
made from. What these two list and what still has those bytes is hubmerge's own; everything else is somebody's.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from ..documents import parse_object
from ..errors import PlanError, ResourceError, SourceError
from ..files import TEMPORARY, atomic, write_file
from .carried import is_carried
from .findings import some
from .manifest import MANIFEST
from .owned import LARGEST, Kept, digest, holds, inside, is_plain, read_plain, remove
from .writer import ShardRecord, is_whole

WORK_FOLDER = ".hubmerge"
JOURNAL = f"{WORK_FOLDER}/journal.json"
LOCK = f"{WORK_FOLDER}/lock"

_MODEL_FILE = re.compile(r"([^/]+/)?config\.json|.*\.(safetensors|bin|pt|pth)(\.index\.json)?|" + re.escape(MANIFEST))


@dataclass
class Journal:
    """The finished shards of the merge `key` in `folder`, each safe on disk or already on the Hub.

    `shards`: records by file; `uploaded`: of the shards that are on the Hub and may be gone here, at which target
    (repository and branch) and with which sha256 the Hub has them; `files`: the small files written beside them, by
    name, with the sha256 of their content; `made`: files made of the finished result since, likewise. `noted`: shards
    that were noted when it was opened, whole or not. `kept`: what must not be written over. `is_finished`: the folder
    held the whole result when it was opened.
    """

    folder: Path
    key: str
    shards: dict[str, ShardRecord] = field(default_factory=dict)
    uploaded: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    noted: frozenset[str] = frozenset()
    kept: Kept = field(default_factory=lambda: Kept(()))
    overwrite: bool = False
    is_finished: bool = False

    @property
    def room(self) -> Path:
        """The folder for what is half written."""
        return self.folder / WORK_FOLDER

    @property
    def nbytes(self) -> int:
        """Bytes of the finished shards that lie in the folder."""
        return sum(record.nbytes for record in self.shards.values() if record.file not in self.uploaded)

    def begin(self, shards: Iterable[str]) -> None:
        """Says on disk that the merge has begun, before it writes anything.

        Raises `PlanError` where one of the `shards` to write lies there already and is not of this merge.
        """
        for file in shards:
            path = inside(self.folder, file)
            self.kept.require(self.folder, [file])
            if path.exists() and file not in self.noted and not self.overwrite:
                raise PlanError(f"{path} is not of this merge; move it away, or overwrite it (--overwrite).")
        self._save()

    def shard(self, file: str) -> AbstractContextManager[BinaryIO]:
        """A shard to write; it takes its place, once `add` has noted it."""
        path = inside(self.folder, file)
        path.parent.mkdir(exist_ok=True)
        return atomic(path, self.folder / WORK_FOLDER)

    def add(self, record: ShardRecord) -> None:
        """Notes a finished shard; from here on a rerun keeps it."""
        self.shards[record.file] = record
        self._save()

    def check(self, files: Mapping[str, bytes]) -> None:
        """Raises `PlanError` where writing these small files would lose something that is not of this merge."""
        for name, content in files.items():
            path = inside(self.folder, name)
            self.kept.require(self.folder, [name])
            there = read_plain(path)
            if there is None and not path.exists():
                continue
            if there == content or self.overwrite or name == MANIFEST:
                continue
            if there is None or hashlib.sha256(there).hexdigest() != self.files.get(name):
                raise PlanError(
                    f"{path} was changed or put there by somebody else; move it away, or overwrite it (--overwrite)."
                )

    def write(self, files: Mapping[str, bytes]) -> None:
        """Writes small files beside the shards, noted first, so that what a broken run leaves counts as its own."""
        self.check(files)
        self.files |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._save()
        for name, content in files.items():
            write_file(inside(self.folder, name), content, self.folder / WORK_FOLDER)

    def drop(self, file: str) -> None:
        """Deletes a shard of this merge that is safe on the Hub."""
        if is_plain(self.folder, file):
            remove(self.folder, [file], self.kept)

    def mark_uploaded(self, file: str, target: str, sha256: str) -> None:
        """Notes that a shard lies at `target` on the Hub; from here on its file may be deleted."""
        self.uploaded[file] = target, sha256
        self._save()

    def forget_uploaded(self) -> None:
        """Drops the shards that lie on the Hub, which may have cleared them away: a rerun makes them again."""
        for file in self.uploaded:
            del self.shards[file]
        self.uploaded = {}
        self._save()

    def close(self) -> None:
        """Removes the journal of a finished merge."""
        _clear(self.folder)

    def _save(self) -> None:
        document = {
            "key": self.key,
            "shards": {file: asdict(record) for file, record in self.shards.items()},
            "uploaded": self.uploaded,
            "files": self.files,
        }
        write_file(self.folder / JOURNAL, json.dumps(document).encode())


@contextmanager
def open_journal(
    folder: Path,
    key: str,
    *,
    target: str | None = None,
    overwrite: bool = False,
    again: bool = False,
    kept: Iterable[Path] = (),
) -> Iterator[Journal]:
    """The journal of the merge `key` in `folder`, which is made if need be and locked against a second merge.

    Shards finished earlier by the same merge are kept if their bytes are still the same, or if they were
    uploaded to `target` (the same repository and branch). What a broken run of another merge left is removed, with
    `again` also what a finished one did, where it still has the bytes that were written. Raises
    `PlanError` where the folder holds anything else, unless `overwrite`: then model files in it are removed. A file
    of `kept` never is, whatever it is called here.
    """
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"{folder} is a file; choose a folder for the result.")
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(folder)
    (folder / WORK_FOLDER).mkdir(exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ResourceError(f"Another merge is writing to {folder}; wait for it or choose another folder.") from None
    try:
        yield _load(folder, key, target, overwrite, again, Kept(kept))
    finally:
        # A folder that was refused, or that never got as far as a shard, is left as it was found. While it is locked:
        # the next merge may begin in it at once.
        if not os.path.lexists(folder / JOURNAL):
            _clear(folder)
            if is_new and folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
        lock.release()


def note_made(path: Path) -> None:
    """Notes in the manifest of a finished merge a file beside it that was made of it, and goes when it goes."""
    content = read_plain(path.parent / MANIFEST) or b"{}"
    document = parse_object(content, MANIFEST, SourceError)
    document["made"] = {**document.get("made", {}), path.name: digest(path)}
    write_file(path.parent / MANIFEST, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def require_room(folder: Path) -> None:
    """Raises `PlanError` where a merge into `folder` with `again` would find what is somebody's; it changes nothing."""
    if not folder.is_dir():
        return
    running, finished = _read(folder / JOURNAL), _read(folder / MANIFEST)
    left = _own(folder, running) | _own(folder, finished) | ({MANIFEST} if finished["key"] else set())
    if others := sorted(_present(folder) - left):
        raise PlanError(
            f"The folder {folder} holds other files ({some(others)}) than the model that was written there; move them "
            "away, or choose another folder."
        )


def _check_room(folder: Path) -> None:
    """Raises `PlanError` where the work folder, or what is to be written in it, is not what hubmerge makes."""
    room = folder / WORK_FOLDER
    if not os.path.lexists(room):
        return
    # The lock is emptied when it is opened: a second name of a file of others would empty that.
    others = [
        path.name
        for path in ([room] if not stat.S_ISDIR(os.lstat(room).st_mode) else sorted(room.iterdir()))
        if not (path.name == Path(JOURNAL).name and stat.S_ISREG(os.lstat(path).st_mode))
        and not (path.name == Path(LOCK).name and stat.S_ISREG(os.lstat(path).st_mode) and not os.lstat(path).st_size)
        and not _is_temporary(path)
    ]
    if others:
        raise PlanError(f"{room} holds {others[0]!r}, which hubmerge did not make; move it away.")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(TEMPORARY) and stat.S_ISREG(os.lstat(path).st_mode)


def _clear(folder: Path) -> None:
    """Takes away the work folder, or of it what hubmerge writes there."""
    room = folder / WORK_FOLDER
    with suppress(OSError):
        for path in [folder / JOURNAL, folder / LOCK, *filter(_is_temporary, room.iterdir())]:
            path.unlink(missing_ok=True)
        room.rmdir()


def _load(folder: Path, key: str, target: str | None, overwrite: bool, again: bool, kept: Kept) -> Journal:
    running, finished = _read(folder / JOURNAL), _read(folder / MANIFEST)
    for state in (running, finished):
        if state.get("key") == key:
            files = {**finished["files"], **running["files"]} if finished.get("key") == key else running["files"]
            journal = Journal(
                folder, key, files=files, noted=frozenset(state["shards"]), kept=kept, overwrite=overwrite
            )
            journal.is_finished = state is finished
            journal.made = finished["made"] if finished["key"] == key else {}
            for record in state["shards"].values():
                uploaded = state["uploaded"].get(record.file)
                _keep(journal, record, uploaded, target)
            return journal
    left = _own(folder, running)
    if again or overwrite:
        left |= _own(folder, finished) | ({MANIFEST} if finished["key"] else set())
    others = sorted(_present(folder) - left)
    if others and not overwrite:
        what = "the finished model of another merge" if MANIFEST in others else f"other files ({some(others)})"
        raise PlanError(
            f"The folder {folder} already holds {what}; choose an empty folder, or overwrite it (--overwrite)."
        )
    stale = {name for name in others if _MODEL_FILE.fullmatch(name) or is_carried(name)}
    if finished["key"]:
        stale |= {"README.md"} & set(others)
    remove(folder, left | stale, kept)
    (folder / JOURNAL).unlink(missing_ok=True)
    return Journal(folder, key, kept=kept, overwrite=overwrite)


def _present(folder: Path) -> set[str]:
    """What lies in the folder, but for the work folder; of a folder inside it, the files there."""
    names = {path.name for path in folder.iterdir()} - {WORK_FOLDER}
    for name in sorted(names):
        if stat.S_ISDIR(os.lstat(folder / name).st_mode):
            names.remove(name)
            names |= {f"{name}/{path.name}" for path in (folder / name).iterdir()}
    return names


def _own(folder: Path, state: Mapping[str, Any]) -> set[str]:
    """The files of the folder that `state` tells of and that still are as it tells."""
    shards = {
        record.file
        for record in state["shards"].values()
        if is_plain(folder, record.file) and is_whole(folder / record.file, record)
    }
    files = {**state["files"], **state["made"]}
    return shards | {name for name, sha256 in files.items() if holds(folder, name, sha256)}


def _keep(journal: Journal, record: ShardRecord, uploaded: tuple[str, str] | None, target: str | None) -> None:
    if uploaded is not None and uploaded[0] == target:
        journal.shards[record.file] = record
        journal.uploaded[record.file] = uploaded
    elif is_plain(journal.folder, record.file) and is_whole(journal.folder / record.file, record):
        journal.shards[record.file] = record


def _read(path: Path) -> dict[str, Any]:
    """key, shards, uploaded, files and made of a journal or manifest; all empty where it is none."""
    nothing: dict[str, Any] = {"key": "", "shards": {}, "uploaded": {}, "files": {}, "made": {}}
    try:
        document = parse_object(read_plain(path, LARGEST) or b"{}", str(path), SourceError)
        shards = {file: ShardRecord(**record) for file, record in document.get("shards", {}).items()}
        files, made = document.get("files", {}), document.get("made", {})
        uploaded = {file: (str(at), str(sha256)) for file, (at, sha256) in document.get("uploaded", {}).items()}
        fits = isinstance(document.get("key"), str) and isinstance(files, dict) and isinstance(made, dict)
        fits = fits and all(record.fits(file) for file, record in shards.items())
    except (SourceError, ValueError, TypeError, AttributeError):
        return nothing
    found = {"shards": shards, "uploaded": uploaded, "files": files, "made": made}
    return {"key": document["key"], **found} if fits else nothing
