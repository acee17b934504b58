"""The journal of a search: one JSON line an evaluation, on disk before the next one starts.

The first line names the search by its key. A run killed at any moment leaves at most one torn last line, which is
cut off when the journal is opened again; everything before it counts.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

from ...documents import parse_object
from ...errors import SearchError
from ...files import disk_errors, lock
from ...stream.owned import inside
from .evaluation import Evaluation

VERSION = 4
"""Of the journal and of what lies beside it; one of another version is read, but not gone on with."""

_BEGINNING = b'{"hubmerge_journal": '
_CHANGED = "something else changed the file; put it back as it was"


class Journal:
    """An append-only journal in a file, held by one process at a time. Use as a context manager.

    A journal without a single score begins anew when it is resumed: what went wrong may have been mended. So does one
    of another search where `replace` says so. Raises `SearchError` where the file belongs to another search, exists
    although `resume` is False, or is in use.
    """

    def __init__(self, path: Path, key: str, facts: Mapping[str, Any], *, resume: bool, replace: bool = False) -> None:
        self.path = path
        self.evaluations: list[Evaluation] = []
        inside(path.parent, path.name)
        with disk_errors(path):
            # Not buffered: what the disk refused once must not be tried again when the file is closed.
            self._file: FileIO = path.open("a+b", buffering=0)
        try:
            _lock(self._file, path)
            self._load(key, facts, resume, replace)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def append(self, evaluation: Evaluation) -> None:
        """Adds one evaluation; it is on disk when this returns."""
        self._write(evaluation.to_dict())
        self.evaluations.append(evaluation)

    def _load(self, key: str, facts: Mapping[str, Any], resume: bool, replace: bool) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not resume:
            _require_unused(whole, self.path)
        if not _begins(content):
            raise SearchError(f"{self.path} is no journal of hubmerge; move it away, or give another output folder.")
        header, *lines = _lines(whole, self.path)[:-1] or [""]
        _require_version(header, self.path)
        found = [
            _evaluation(_parse(line, self.path, number), self.path, number) for number, line in enumerate(lines, 2)
        ]
        same = bool(header) and _parse(header, self.path, 1).get("key") == key
        if all(evaluation.error is not None for evaluation in found) or (replace and not same):
            # New, or left by a run that never measured anything.
            self._file.truncate(0)
            self._write({"hubmerge_journal": VERSION, "key": key, **facts})
            return
        if len(whole) < len(content):
            self._file.truncate(len(whole))
        if not same:
            raise SearchError(
                f"{self.path} is the journal of another search (its models, task or settings differ); give another "
                "output folder, or put the search back as it was."
            )
        self.evaluations = found

    def _write(self, document: Mapping[str, Any]) -> None:
        line = json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"
        left = memoryview(line.encode("utf-8"))
        with disk_errors(self.path):
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())


def require_unused(path: Path) -> None:
    """Raises `SearchError` where a journal holds a search: before the long work that would find it there."""
    if os.path.isfile(path):  # for any name, even one that no file can have
        with suppress(OSError), path.open("rb") as file:  # what cannot be read is refused when it is opened to write
            _require_unused(b"".join(islice(file, 2)), path)


def require_version(path: Path) -> None:
    """Raises `SearchError` where another version of hubmerge wrote the journal, whose search cannot go on here."""
    if path.is_file():
        with suppress(OSError), path.open("rb") as file:
            _require_version(file.readline(), path)


def _require_version(header: bytes | str, path: Path) -> None:
    try:
        found = parse_object(header, "it", SearchError).get("hubmerge_journal", VERSION)
    except SearchError:  # torn, or no journal: said when it is opened
        return
    if found != VERSION:
        raise SearchError(
            f"{path}: another version of hubmerge wrote this journal ({found}, here {VERSION}); go on with that one, "
            "or give another output folder."
        )


def _require_unused(content: bytes, path: Path) -> None:
    if content.count(b"\n") > 1:
        raise SearchError(f"{path} already holds a search; continue it with --resume, or give another output folder.")


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations of a journal that may be in use or torn. Raises `SearchError` for what is none, or is damaged."""
    content = path.read_bytes()
    if not _begins(content):
        raise SearchError(f"{path} is no journal of hubmerge: {_CHANGED}.")
    lines = _lines(content, path)[1:-1]
    return [_evaluation(_parse(line, path, number), path, number) for number, line in enumerate(lines, start=2)]


def _begins(content: bytes) -> bool:
    """Whether a file begins as a journal does, or as one that was torn in its first line."""
    return content.startswith(_BEGINNING) or _BEGINNING.startswith(content)


def _lines(content: bytes, path: Path) -> list[str]:
    try:
        return content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise SearchError(f"{path} is not UTF-8 text: {_CHANGED}.") from None


def _parse(line: str, path: Path, number: int) -> dict[str, Any]:
    return parse_object(line, f"Line {number} of {path}", SearchError, hint=_CHANGED)


def _evaluation(document: dict[str, Any], path: Path, number: int) -> Evaluation:
    try:
        return Evaluation.from_dict(document)
    except (KeyError, TypeError, ValueError):
        raise SearchError(
            f"{path}, line {number}: not an evaluation; another version of hubmerge wrote this journal."
        ) from None


def _lock(file: FileIO, path: Path) -> None:
    if not lock(file):
        raise SearchError(f"{path} is in use: another search is running in this folder.")
