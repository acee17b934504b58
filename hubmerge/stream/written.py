"""Small files that a command writes into a folder of the user's, again and again, and never over another's.

OUT/.hubmerge/written.json tells which content was written under which name. A file that is there and was not written
so, or was changed since, is somebody's: it is left alone, and the command says so before its long work.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..documents import parse_object
from ..errors import PlanError
from ..files import write_file
from .owned import inside, read_plain

_REMEMBERED = 2  # contents of a name: the newest, and the one before, should it never have taken its place


class Written:
    """What was written into `folder`, by the `record` in it.

    `trusted`: the folder is known to be hubmerge's by other means, as one that an earlier version made. While it has no
    record, what lies in it counts as written.
    """

    def __init__(self, folder: Path, record: str = "written.json", *, trusted: bool = False) -> None:
        self.folder = folder
        self._path = folder / ".hubmerge" / record
        self._trusted = trusted and not os.path.lexists(self._path)

    def is_own(self, name: str) -> bool:
        """Whether nothing is there under this name, or what was written."""
        path = inside(self.folder, name)
        if not os.path.lexists(path):
            return True
        content = read_plain(path)
        return content is not None and (self._trusted or _digest(content) in _read(self._path).get(name, ()))

    def require(self, names: Iterable[str]) -> None:
        """Raises `PlanError` where writing under one of these names would lose what somebody else put there."""
        for name in names:
            if not self.is_own(name):
                raise PlanError(
                    f"{self.folder / name} was changed or put there by somebody else; move it away, or choose another "
                    "folder."
                )
            if self._trusted and (content := read_plain(self.folder / name)) is not None:
                self._note(name, content)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file. Raises `PlanError` as `require` does, but where it has this content already."""
        if read_plain(inside(self.folder, name)) != content:
            self.require([name])
        # Noted first: no moment leaves a file that the record does not know.
        self._note(name, content)
        write_file(self.folder / name, content)

    def remove(self, name: str) -> None:
        """Deletes a file, where there is one. Raises `PlanError` as `require` does."""
        self.require([name])
        (self.folder / name).unlink(missing_ok=True)

    def _note(self, name: str, content: bytes) -> None:
        inside(self.folder, f".hubmerge/{self._path.name}")
        digests, digest = _read(self._path), _digest(content)
        known = [one for one in digests.get(name, ()) if one != digest]
        write_file(self._path, json.dumps(digests | {name: [*known, digest][-_REMEMBERED:]}).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> dict[str, list[str]]:
    try:
        document = parse_object(read_plain(path) or b"{}", path.name, PlanError)
        return {str(name): [str(digest) for digest in digests] for name, digests in document.items()}
    except (PlanError, TypeError):
        return {}
