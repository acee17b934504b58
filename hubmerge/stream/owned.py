"""What hubmerge may take away or write over: plain files inside its folder, and only those that it wrote itself.

A record that lies in a folder may be anybody's: an unpacked archive, a clone, a joke. So a name in it is never enough.
It must be plain and lead through no link, and the bytes there must be those that the record tells of. And whatever a
record says, a file that the work still reads is left alone, under which name ever it is found.
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import PlanError, SourceError
from ..hub.checkpoint import check_name

LARGEST = 64 * 2**20
"""Bytes; no small file that hubmerge writes beside the weights is larger."""

_PIECE = 1 << 20


def is_plain(folder: Path, name: str) -> bool:
    """Whether `name` is a relative path to an ordinary file inside `folder` that leads through no link."""
    try:
        check_name(name, "The folder")
        path = folder
        for part in name.split("/")[:-1]:
            path = path / part
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return False
        return stat.S_ISREG(os.lstat(folder / name).st_mode)
    except (OSError, SourceError, ValueError, AttributeError, TypeError):
        return False


def inside(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`, for writing; raises `PlanError` where something that is no file is in its way."""
    check_name(name, "The result")
    path = folder
    parts = name.split("/")
    for at, part in enumerate(parts, start=1):
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            break
        if not (stat.S_ISREG(mode) if at == len(parts) else stat.S_ISDIR(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "not a plain file" if at == len(parts) else "not a folder"
            raise PlanError(
                f"{path} is {what}, and nothing is written through it; move it away, or choose another folder."
            )
    return folder / name


def read_plain(path: Path, limit: int = LARGEST) -> bytes | None:
    """The content of an ordinary file; None for a link, a device, a pipe, nothing, or more than `limit` bytes."""
    if (file := _open_plain(path)) is None:
        return None
    with file:
        return file.read() if os.fstat(file.fileno()).st_size <= limit else None


def digest(path: Path) -> str | None:
    """The sha256 (hex) of an ordinary file, read a piece at a time; None where there is none."""
    if (file := _open_plain(path)) is None:
        return None
    found = hashlib.sha256()
    with file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def _open_plain(path: Path) -> BinaryIO | None:
    try:
        # A pipe would be waited for, and a link may be changed between looking and opening.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    return open(handle, "rb")


def holds(folder: Path, name: str, sha256: object) -> bool:
    """Whether `name` is a plain file in `folder` with exactly the content of this sha256 (hex)."""
    return is_plain(folder, name) and digest(folder / name) == sha256


class Kept:
    """The files that a work still reads, by real path and by what they are on disk: none of them may go.

    >>> Kept([Path("model.safetensors")]).require(Path("out"), ["config.json"])
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: dict[str, Path] = {}
        self._things: dict[tuple[int, int], Path] = {}
        for file in files:
            self._places[os.path.realpath(file)] = file
            with suppress(OSError):
                status = os.stat(file)
                self._things[status.st_dev, status.st_ino] = file

    def find(self, path: Path) -> Path | None:
        """The file to keep that `path` is, itself, by a link, or under a second name; None where it is none."""
        with suppress(OSError):
            status = os.stat(path)
            if (found := self._things.get((status.st_dev, status.st_ino))) is not None:
                return found
        return self._places.get(os.path.realpath(path))

    def require(self, folder: Path, names: Iterable[str]) -> None:
        """Raises `PlanError` where one of `names` in `folder` is a file to keep."""
        for name in sorted(names):
            if (kept := self.find(folder / name)) is not None:
                same = "" if os.path.abspath(kept) == os.path.abspath(folder / name) else f" (it is {kept})"
                raise PlanError(
                    f"{folder / name} is read by this very work{same}; choose another folder for the result."
                )


def remove(folder: Path, names: Iterable[str], kept: Kept) -> None:
    """Deletes these plain files of `folder`; other things of that name, and what is kept, raise `PlanError` first."""
    found = [name for name in names if os.path.lexists(folder / name)]
    for name in found:
        inside(folder, name)
    kept.require(folder, found)
    for name in found:
        (folder / name).unlink()
