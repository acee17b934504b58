"""What of a merge is already finished in its output folder, so that a broken run goes on instead of starting over.

While a merge runs, OUT/.hubmerge/journal.json lists its finished shards. A finished merge has OUT/hubmerge.json
instead, which also tells a reader what the model was made from.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import PlanError, ResourceError
from .problems import some
from .tokenizer import is_carried
from .writer import TEMPORARY, ShardRecord, is_whole, write_file

WORK_FOLDER = ".hubmerge"
JOURNAL = f"{WORK_FOLDER}/journal.json"
LOCK = f"{WORK_FOLDER}/lock"
MANIFEST = "hubmerge.json"

_MODEL_FILE = re.compile(r"config\.json|.*\.(safetensors|bin|pt|pth)(\.index\.json)?|" + re.escape(MANIFEST))


@dataclass
class Journal:
    """The finished shards of the merge `key` in `folder`, each safe on disk or already on the Hub.

    `shards`: records by file; `uploaded`: of the shards that are on the Hub and may be gone here, at which target
    (repository and branch) and with which sha256 the Hub has them; `files`: all that the merge writes. `is_finished`:
    the folder held the whole result when it was opened.
    """

    folder: Path
    key: str
    shards: dict[str, ShardRecord] = field(default_factory=dict)
    uploaded: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    is_finished: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the finished shards that lie in the folder."""
        return sum(record.nbytes for record in self.shards.values() if record.file not in self.uploaded)

    def add(self, record: ShardRecord) -> None:
        """Notes a finished shard; from here on a rerun keeps it."""
        self.shards[record.file] = record
        self._save()

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

    def announce(self, files: Iterable[str]) -> None:
        """Notes files about to be written, so that what a broken run leaves counts as this merge's own."""
        self.files = (*self.files, *files)
        self._save()

    def close(self) -> None:
        """Removes the journal of a finished merge."""
        shutil.rmtree(self.folder / WORK_FOLDER)

    def _save(self) -> None:
        document = {
            "key": self.key,
            "shards": {file: asdict(record) for file, record in self.shards.items()},
            "uploaded": self.uploaded,
            "files": self.files,
        }
        write_file(self.folder / JOURNAL, json.dumps(document).encode())


@contextmanager
def open_journal(folder: Path, key: str, *, target: str | None = None, overwrite: bool = False) -> Iterator[Journal]:
    """The journal of the merge `key` in `folder`, which is made if need be and locked against a second merge.

    Shards finished earlier by the same merge are kept if their bytes are still the same, or if they were
    uploaded to `target` (the same repository and branch). What a broken run of another merge left is removed. Raises
    `PlanError` where the folder holds anything else, unless `overwrite`: then model files in it are removed.
    """
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"{folder} is a file; choose a folder for the result.")
    is_new = not folder.exists()
    (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ResourceError(f"Another merge is writing to {folder}; wait for it or choose another folder.") from None
    try:
        yield _load(folder, key, target, overwrite)
    finally:
        lock.release()
        # A folder that was refused, or that never got as far as a shard, is left as it was found.
        if not (folder / JOURNAL).exists():
            shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
            if is_new and folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _load(folder: Path, key: str, target: str | None, overwrite: bool) -> Journal:
    running, finished = _read(folder / JOURNAL), _read(folder / MANIFEST)
    present = {path.name for path in folder.iterdir()} - {WORK_FOLDER}
    for state in (running, finished):
        if state.get("key") == key:
            _remove(folder, [name for name in present if name.endswith(TEMPORARY)])
            journal = Journal(folder, key, is_finished=state is finished)
            for file, record in state["shards"].items():
                uploaded = state.get("uploaded", {}).get(file)
                _keep(journal, ShardRecord(**record), uploaded and tuple(uploaded), target)
            return journal
    left = {*running.get("shards", ()), *running.get("files", ())}
    left |= {name for name in present if name.endswith(TEMPORARY)}
    others = sorted(present - left)
    if others and not overwrite:
        holds = "the finished model of another merge" if MANIFEST in others else f"other files ({some(others)})"
        raise PlanError(f"The folder {folder} already holds {holds}; choose an empty folder or ask to overwrite it.")
    stale = {name for name in others if _MODEL_FILE.fullmatch(name) or is_carried(name)}
    if MANIFEST in others:
        stale.add("README.md")
    _remove(folder, left | stale)
    (folder / JOURNAL).unlink(missing_ok=True)
    return Journal(folder, key)


def _keep(journal: Journal, record: ShardRecord, uploaded: tuple[str, str] | None, target: str | None) -> None:
    if uploaded is not None and uploaded[0] == target:
        journal.shards[record.file] = record
        journal.uploaded[record.file] = uploaded
    elif is_whole(journal.folder / record.file, record):
        journal.shards[record.file] = record


def _read(path: Path) -> dict[str, Any]:
    # Written by `atomic`, so it is whole; anything else in its place is somebody else's and says nothing.
    try:
        document = json.loads(path.read_bytes())
        return document if isinstance(document.get("shards"), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _remove(folder: Path, names: "set[str] | list[str]") -> None:
    for name in names:
        path = folder / name
        if path.is_file() or path.is_symlink():
            path.unlink()
