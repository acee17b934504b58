"""Examples and where they come from: files of a Hub dataset repository or of a folder, or rows written in place."""

import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..documents import DocumentKind, parse_json
from ..errors import NotFoundError, TaskError
from ..links import leaving
from ..reference import ModelRef
from ..text import brief

TASK = DocumentKind("task", TaskError)

Row = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""The files that rows are read from."""

_LARGEST = 2**30
"""Bytes of a .json file."""

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Example:
    """One question and its right answer.

    `choices`: the answers to choose from, the right one among them, for multiple choice. `id` names the row where it
    comes from, for tasks that look it up there again; `where` names it to people ("row 3 of test.jsonl").
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    id: str = ""
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Rows:
    """Where a task's rows come from. `locate` maps a file name to a local path; `source` names it for people."""

    locate: Callable[[str], Path]
    source: str | None
    columns: tuple[str, ...] | None

    def read(self, file: str | Sequence[Row], split: str) -> list[Row]:
        """The rows of one file, or of a list written in place. Raises `TaskError` where it is not such a table."""
        if isinstance(file, str):
            return read_rows(self.locate(file), columns=self.columns)
        if not isinstance(file, Sequence) or not all(isinstance(row, Mapping) for row in file):
            raise TaskError(
                f"`{split}` of the task's examples must be a file name or a list of rows, got {type(file).__name__}."
            )
        return [row for row in file if isinstance(row, Mapping)]


def open_rows(where: Mapping[str, Any], *, token: str | None) -> Rows:
    """Opens `{repo_id, revision}`, pinned to its commit now, or `{folder}`."""
    names = tuple(TASK.listed(where.get("columns") or [], "columns")) or None
    if wrong := [name for name in names or () if not isinstance(name, str)]:
        raise TaskError(f"`columns` names the columns of a file without a header, each by text, got {brief(wrong[0])}.")
    repo_id, folder, revision = (text_or_none(where, key) for key in ("repo_id", "folder", "revision"))
    if repo_id is not None and folder is not None:
        raise TaskError("The task's examples name both `repo_id` and `folder`; keep one.")
    if repo_id is not None:
        return _open_repository(repo_id, revision, names, token)
    return Rows(lambda file: _local(Path(folder or ""), file), folder, names)


def text_or_none(where: Mapping[str, Any], key: str) -> str | None:
    """A name under the task's `examples:`, None where there is none; whatever else stands there is refused.

    A value that is merely empty must not be taken for one that is left out: without `repo_id` files are local.
    """
    value = where.get(key)
    if value is None and key not in where:
        return None
    if not isinstance(value, str) or not value.strip():
        raise TaskError(f"`{key}` of the task's examples must be text that names something, or be left out.")
    return value


def _open_repository(repo_id: str, revision: str | None, columns: tuple[str, ...] | None, token: str | None) -> Rows:
    from ..hub.answers import FileInfo
    from ..hub.listing import open_repository
    from ..hub.session import find_token

    ref = ModelRef.parse(f"{repo_id}@{revision}" if revision is not None else repo_id)
    if ref.reads_folder or ref.lora is not None:
        raise TaskError(f"{repo_id!r} is no dataset of the Hub; give its ID as org/name, or a `folder`.")
    store, facts = open_repository(ref, find_token(token), "dataset")

    def locate(file: str) -> Path:
        known = facts.files.get(_plain_path(file))
        if known is None and not facts.partial:
            raise NotFoundError(f"The dataset {ref} has no file {file}; check the file names of the task.")
        return store.path(known or FileInfo(file, 0))

    return Rows(locate, str(ref.pinned(store.commit)), columns)


def _local(base: Path, file: str) -> Path:
    path = base / _plain_path(file)
    is_file = os.path.isfile(path)  # also false for what no file can be called
    if is_file and leaving(base, [path]):
        raise TaskError(f"The example file {file!r} is a link that leads out of its folder; put the file itself there.")
    if not is_file:
        raise TaskError(f"There is no example file {path}; check `folder` and the file names of the task.")
    return path


def _plain_path(file: str) -> str:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        raise TaskError(f"The example file {file!r} points outside its folder; give a path inside it.")
    return file


def read_rows(path: Path, *, columns: Sequence[str] | None = None) -> list[Row]:
    """Rows of one file, by its suffix. `columns` names the columns of a .csv or .tsv without a header line."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".jsonl":
            rows = _json_lines(path)
        elif suffix == ".json":
            rows = parse_json(path.read_bytes(), f"The example file {path.name}", TaskError, largest=_LARGEST)
        elif suffix in (".csv", ".tsv"):
            rows = _table(path, "\t" if suffix == ".tsv" else ",", columns)
        elif suffix == ".parquet":
            rows = _parquet(path)
        else:
            raise TaskError(f"{path.name} is not an example file; expected one of {', '.join(SUFFIXES)}.")
    except OSError as exc:
        raise TaskError(f"The example file {path.name} cannot be read: {exc.strerror or type(exc).__name__}.") from None
    except UnicodeDecodeError:
        raise TaskError(f"The example file {path.name} is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error as exc:
        raise TaskError(f"The example file {path.name} cannot be read: {exc}.") from None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise TaskError(f"The example file {path.name} must hold a list of objects with named fields.")
    return rows


def _json_lines(path: Path) -> list[Any]:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:  # U+2028 may stand inside a JSON string: no str.splitlines here
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(parse_json(line, f"Line {number} of the example file {path.name}", TaskError))
    return rows


def _table(path: Path, delimiter: str, columns: Sequence[str] | None) -> list[Row]:
    # In TSV a quote is an ordinary character (MGSM has some).
    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows: list[Row] = []
        for row in csv.DictReader(lines, fieldnames=columns, delimiter=delimiter, quoting=quoting):
            if None in row or None in row.values():
                raise TaskError(f"{path.name}, row {len(rows) + 1}: expected as many columns as there are names.")
            rows.append(row)
        return rows


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise TaskError(
            f"{path.name} needs pyarrow, which is not installed; run pip install 'hubmerge[parquet]'."
        ) from None
    try:
        return parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as exc:
        raise TaskError(
            f"The example file {path.name} is no Parquet that can be read ({type(exc).__name__})."
        ) from None


def fill(template: str, row: Row, where: str) -> str:
    """`template` with each {field} replaced by the row's value. Raises `TaskError` for a field the row lacks."""

    def value(match: re.Match[str]) -> str:
        field = match[1]
        if field not in row:
            raise TaskError(
                f"{where}: there is no field {field!r} in this row; name one of its fields in the template."
            )
        return str(row[field])

    if not isinstance(template, str):
        raise TaskError(f"{where}: `prompt` and `answer` must be text with {{fields}}, got {brief(template)}.")
    return _FIELD.sub(value, template)
