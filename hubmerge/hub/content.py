"""Whether a file on this machine is the one that the Hub lists, byte for byte; what was found is remembered."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import constants

from ..errors import SourceError
from ..files import note_down
from .answers import FileInfo
from .patience import check_stopped

REMEMBERED = 8 * 2**20
"""Bytes from which on a file is hashed once; smaller ones take less time than remembering them."""

_PIECE = 2**22


def differs(path: Path, file: FileInfo) -> str | None:
    """How the content of `path` is not what the Hub lists as `file`: a phrase; None where it is, or nobody knows.

    A large file is hashed when it is first used. That it was right is kept in HF_HOME with its place, size, time and
    inode, so that the next time costs nothing while it stays untouched.
    """
    state = path.stat()
    if state.st_size != file.size:
        return f"it has {state.st_size:,} bytes, the Hub lists {file.size:,}"
    expected = file.sha256 or file.oid
    if expected is None:
        return None
    seen = f"{os.path.realpath(path)}\n{state.st_size} {state.st_mtime_ns} {state.st_ino}\n"
    note = Path(constants.HF_HOME) / "hubmerge" / "checked" / expected
    if state.st_size >= REMEMBERED and _read(note) == seen:
        return None
    found = digest(path, file)
    if found != expected:
        return f"its {'sha256' if file.sha256 else 'git hash'} is {found}, the Hub lists {expected}"
    if state.st_size >= REMEMBERED:
        note_down(note, seen)
    return None


class HashedFile:
    """A file of the model `where` whose middle arrives part by part, in order; all of it must become its sha256."""

    def __init__(
        self, file: FileInfo, where: str, middle: tuple[int, int], read: Callable[[int, int], memoryview]
    ) -> None:
        """`middle`: where the parts begin and end; `read` gives what lies before and after, when it is needed."""
        self.position, self.stop = middle
        self.failed = False
        self._file, self._where, self._read = file, where, read
        self._begun = False
        self._hash = hashlib.sha256()

    def update(self, content: memoryview) -> None:
        """Adds the next part. Raises `SourceError` after the last one where the whole is not what the Hub lists."""
        if not self._begun:
            self._add(0, self.position)
            self._begun = True
        self._hash.update(content)
        self.position += len(content)
        if self.position < self.stop:
            return
        self._add(self.stop, self._file.size)
        if (found := self._hash.hexdigest()) != self._file.sha256:
            raise SourceError(
                f"{self._file.path} of {self._where} arrived otherwise than the Hub lists it: its sha256 is {found}, "
                f"the Hub lists {self._file.sha256}; try again later, and if it stays so, do not use this revision."
            )

    def _add(self, start: int, stop: int) -> None:
        if start < stop:
            self._hash.update(self._read(start, stop))


def digest(path: Path, file: FileInfo) -> str:
    """The hash of `path`, of the kind that is known of `file`."""
    # git names a file by its kind and length, and then its content.
    hashed = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with open(path, "rb", buffering=0) as opened:
        buffer = bytearray(min(_PIECE, max(1, file.size)))
        while count := opened.readinto(buffer):
            check_stopped()
            hashed.update(memoryview(buffer)[:count])
    return hashed.hexdigest()


def _read(note: Path) -> str | None:
    try:
        return note.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
