"""The journal of a search: one JSON line an evaluation, on disk before the next one starts.

The first line names the search by its key. A run killed at any moment leaves at most one torn last line, which is
cut off when the journal is opened again; everything before it counts.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader, FileIO
from itertools import islice
from pathlib import Path
from typing import Any

from ...documents import parse_object, uncollected
from ...errors import SearchError
from ...files import disk_errors, lock
from ...stream.owned import inside
from .evaluation import Evaluation
from .seal import Seal

VERSION = 4
"""Of the journal and of what lies beside it; one of another version is read, but not gone on with."""

_BEGINNING = b'{"hubmerge_journal": '
_CHANGED = "something else changed the file; put it back as it was"
_NUMBER = re.compile(rb'\{"number": (\d{1,18}), ')


class Journal(Mapping[int, Evaluation]):
    """An append-only journal in a file, held by one process at a time: its evaluations by number. Use as a context
    manager.

    A journal without a single score begins anew when it is resumed: what went wrong may have been mended. So does one
    of another search where `replace` says so. Lines that were read before are parsed when they are asked for (see
    `seal.py`). Raises `SearchError` where the file belongs to another search, holds what is no evaluation, exists
    although `resume` is False, or is in use.
    """

    def __init__(self, path: Path, key: str, facts: Mapping[str, Any], *, resume: bool, replace: bool = False) -> None:
        self.path = path
        self._found: dict[int, Evaluation | _Line] = {}
        self._seal = Seal(path.parent)
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
        self._seal.write()
        self._file.close()

    def __getitem__(self, number: int) -> Evaluation:
        found = self._found[number]
        if not isinstance(found, Evaluation):
            found = self._found[number] = _evaluation(found.content, self.path, found.number)
        return found

    def __contains__(self, number: object) -> bool:
        return number in self._found

    def __iter__(self) -> Iterator[int]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def append(self, evaluation: Evaluation) -> None:
        """Adds one evaluation; it is on disk when this returns."""
        self._write(evaluation.to_dict())
        self._found[evaluation.number] = evaluation

    def _load(self, key: str, facts: Mapping[str, Any], resume: bool, replace: bool) -> None:
        self._file.seek(0)
        reader = BufferedReader(self._file)
        lines = reader.readlines()
        reader.detach()
        torn = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if not resume:
            _require_unused(lines, self.path)
        if not _begins(lines[0] if lines else torn):
            raise SearchError(f"{self.path} is no journal of hubmerge; move it away, or give another output folder.")
        header = lines[0] if lines else b""
        _require_version(header, self.path)
        known = self._seal.take(lines)
        for number, line in enumerate(lines[1:], start=2):
            self._add(_Line(number, line), number <= known)
        same = bool(header) and _parse(header, self.path, 1).get("key") == key
        if all(evaluation.failed for evaluation in self.values()) or (replace and not same):
            # New, or left by a run that never measured anything.
            self._found.clear()
            self._seal.clear()
            self._file.truncate(0)
            self._write({"hubmerge_journal": VERSION, "key": key, **facts})
            return
        if torn:
            self._file.truncate(sum(map(len, lines)))
        if not same:
            raise SearchError(
                f"{self.path} is the journal of another search (its models, task or settings differ); give another "
                "output folder, or put the search back as it was."
            )
        self._seal.write()

    def _add(self, line: "_Line", is_known: bool) -> None:
        beginning = _NUMBER.match(line.content) if is_known else None
        found: Evaluation | _Line = line if beginning else _evaluation(line.content, self.path, line.number)
        number = int(beginning[1]) if beginning else found.number
        if number in self._found:
            raise SearchError(f"{self.path}, line {line.number}: evaluation {number} is there twice: {_CHANGED}.")
        self._found[number] = found

    def _write(self, document: Mapping[str, Any]) -> None:
        line = (json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
        left = memoryview(line)
        with disk_errors(self.path):
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        self._seal.add(line)


@dataclass(frozen=True)
class _Line:
    """A line of a journal that was found to be an evaluation before."""

    number: int
    content: bytes


def require_unused(path: Path) -> None:
    """Raises `SearchError` where a journal holds a search: before the long work that would find it there."""
    if os.path.isfile(path):  # for any name, even one that no file can have
        with suppress(OSError), path.open("rb") as file:  # what cannot be read is refused when it is opened to write
            _require_unused([line for line in islice(file, 2) if line.endswith(b"\n")], path)


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


def _require_unused(lines: Sequence[bytes], path: Path) -> None:
    if len(lines) > 1:
        raise SearchError(f"{path} already holds a search; continue it with --resume, or give another output folder.")


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations of a journal that may be in use or torn, in the order that they finished. Raises `SearchError`
    for what is none, or is damaged."""
    with uncollected():
        return list(evaluations(path))


def evaluations(path: Path) -> Iterator[Evaluation]:
    """The same, one after another as they are read."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                _require_journal(line, path)
            elif line.endswith(b"\n"):
                yield _evaluation(line, path, number)


def _begins(content: bytes) -> bool:
    """Whether a file begins as a journal does, or as one that was torn in its first line."""
    return content.startswith(_BEGINNING) or _BEGINNING.startswith(content)


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    return parse_object(line, f"Line {number} of {path}", SearchError, hint=_CHANGED)


def _evaluation(line: bytes, path: Path, number: int) -> Evaluation:
    document = _parse(line, path, number)
    try:
        return Evaluation.from_dict(document)
    except (KeyError, TypeError, ValueError):
        raise SearchError(
            f"{path}, line {number}: not an evaluation; another version of hubmerge wrote this journal."
        ) from None


def _require_journal(header: bytes, path: Path) -> None:
    if not _begins(header):
        raise SearchError(f"{path} is no journal of hubmerge: {_CHANGED}.")
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        raise SearchError(f"{path} is not UTF-8 text: {_CHANGED}.") from None


def _lock(file: FileIO, path: Path) -> None:
    if not lock(file):
        raise SearchError(f"{path} is in use: another search is running in this folder.")
