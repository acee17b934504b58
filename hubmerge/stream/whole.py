"""Files that appear whole or not at all."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import ResourceError, remedy

TEMPORARY = ".partial"
"""Ending of a file that is being written, whose name begins with a dot: no listing shows it, no push takes it."""


@contextmanager
def atomic(path: Path, room: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that takes its place only when all went well and is then safe on disk.

    Until then it lies in `room`, by default beside its place. Raises `ResourceError` for what the disk refuses.
    """
    temporary = (room or path.parent) / f".{path.name}{TEMPORARY}"
    with disk_errors(path), _new_file(temporary) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    with disk_errors(path):
        _sync_folder(path.parent)


def _new_file(path: Path) -> BinaryIO:
    """A file that nobody else has open or linked: what a killed run left is taken away, a link is not followed."""
    for again in (True, False):
        try:
            return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "w+b")
        except FileExistsError:
            if not (again and stat.S_ISREG(os.lstat(path).st_mode)):
                raise
            path.unlink()
    raise AssertionError


def write_file(path: Path, content: bytes, room: Path | None = None) -> None:
    """Writes a small file; folders on the way are made. Half written it lies in `room`, as `atomic` has it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path, room) as file:
        file.write(content)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """What the machine refuses while a work writes into `place`, a folder or file, as one sentence."""
    try:
        yield
    except OSError as exc:
        raise ResourceError(
            f"Writing to {exc.filename or place} failed: {exc.strerror or exc}; {remedy(exc)}, then run the same again."
        ) from exc


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders; there the rename alone has to do.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
