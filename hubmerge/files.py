"""Paths that people name, and files that appear whole or not at all."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows has no locks of this kind
    fcntl = None  # type: ignore[assignment]

from .errors import HubmergeError, ResourceError, remedy
from .text import shorten

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


def lock(file: IO[Any]) -> bool:
    """Locks an open file until it is closed, or its process ends; False where another process has it locked.

    True on Windows as well, where nothing is locked.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def write_file(path: Path, content: bytes, room: Path | None = None) -> None:
    """Writes a small file; folders on the way are made. Half written it lies in `room`, as `atomic` has it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path, room) as file:
        file.write(content)


def replace_file(path: Path, text: str) -> None:
    """Writes a small file that several processes may write; after a power cut the old one may be there again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def note_down(path: Path, text: str) -> None:
    """The same for what is only a help for later: a home that cannot be written is no reason to stop."""
    with suppress(OSError, ValueError):
        replace_file(path, text)


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


def expand(path: str | Path, error: type[HubmergeError]) -> Path:
    """`path` with the home folder in place of ~; raises `error` for one that this system cannot have or not look at."""
    with _path_errors(path, "is no path here", error):
        found = Path(path).expanduser()
    require_path(found, error)
    return found


def require_path(path: Path, error: type[HubmergeError]) -> None:
    """Raises `error` where this system cannot have a path, or not look at it; nothing need be there."""
    with _path_errors(path, "is no path here", error), suppress(FileNotFoundError, NotADirectoryError):
        os.lstat(path)


def require_ending(path: Path, what: str, *endings: str) -> None:
    """Raises `HubmergeError` where the name of a file does not end as that of `what` does."""
    if path.suffix.lower() not in endings:
        raise HubmergeError(f"{path} would hold {what}, which its name does not say; let it end in {endings[0]}.")


def require_makeable(path: Path, error: type[HubmergeError]) -> None:
    """Raises `error` where `path` is no folder that can be written into, and cannot be made one; nothing stays made."""
    made: list[Path] = []
    with _path_errors(path, "cannot be made a folder", error):
        try:
            for one in (*reversed(path.parents), path):
                if not os.path.isdir(one):
                    os.mkdir(one)
                    made.append(one)
        finally:
            for one in reversed(made):
                os.rmdir(one)
    if not os.access(path if not made else made[0].parent, os.W_OK):
        raise error(f"{shorten(str(path), 100)!r} cannot be written; check the rights, or name another folder.")


def make_folder(path: Path, error: type[HubmergeError]) -> None:
    """Makes a folder, where it is not there yet; raises `error` where that cannot be."""
    with _path_errors(path, "cannot be made a folder", error):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _path_errors(path: str | Path, what: str, error: type[HubmergeError]) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as exc:
        why = str(getattr(exc, "strerror", None) or exc).rstrip(".")
        raise error(f"{shorten(str(path), 100)!r} {what}: {why}.") from None
