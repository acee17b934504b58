"""The folder of a Hub: its own by the mark in it, and without links, so that nothing elsewhere is read or changed."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import HubError
from .disk import write_atomically

NAMES = (
    "datasets",
    "jobs",
    "models",
    "new",
    "objects",
    "requests.1.jsonl",
    "requests.jsonl",
    "secret",
    "server.lock",
    "spaces",
)
"""All that a Hub makes in its folder, beside the mark."""

MARK = "hub.json"
_MARK = b'{"made by":"hubmerge hub"}\n'
_MADE_UP = re.compile(r"(parts-)?[0-9a-f]{32}")


def take(root: Path) -> None:
    """Makes `root` the folder of a Hub, or sees that it is one.

    Raises:
        HubError: something there, which no Hub made, has a name that the Hub needs.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise HubError(f"{str(root)!r} cannot be made a folder: {why}.") from None
    if not _is_marked(root) and not _is_of_an_earlier_version(root):
        for name in (MARK, *NAMES):
            if os.path.lexists(root / name):
                raise HubError(f"{root / name} was not made by a local Hub: move it away or use another folder.")
    if not _is_marked(root):
        write_atomically(root / MARK, _MARK)


def require_plain(root: Path) -> None:
    """Raises `HubError` where a link, a pipe or a device is among what a Hub made in `root`."""
    for name in NAMES:
        if (odd := _odd(root / name)) is not None:
            raise HubError(
                f"{odd} is a link or no file, and a local Hub follows none: move it away or use another folder."
            )


def _is_marked(root: Path) -> bool:
    path = root / MARK
    with suppress(OSError):
        return path.is_file() and not path.is_symlink() and path.read_bytes() == _MARK
    return False


def _is_of_an_earlier_version(root: Path) -> bool:
    lock = root / "server.lock"
    return lock.is_file() and lock.stat().st_size == 0 and (root / "objects" / "incoming").is_dir()


def _odd(path: Path) -> Path | None:
    """The first thing at `path` or anywhere below it that is neither a folder nor a file."""
    if not path.is_dir() or path.is_symlink():
        plain = not os.path.lexists(path) or (path.is_file() and not path.is_symlink())
        return None if plain else path
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    return Path(entry.path)
    return None


def clear(folder: Path, older_than: float | None = None) -> None:
    """Deletes what a Hub left half done in `folder`, all or what was last touched before `older_than` (seconds since
    1970); what has a name that no Hub makes up is left alone."""
    with suppress(FileNotFoundError):
        for entry in [*os.scandir(folder)]:
            if _MADE_UP.fullmatch(entry.name) and (
                older_than is None or entry.stat(follow_symlinks=False).st_mtime < older_than
            ):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
