"""Examples and where they come from: files of a Hub dataset repository or of a folder, or rows written in place."""

import csv
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from numbers import Number
from pathlib import Path, PurePosixPath
from typing import Any

from ..documents import DocumentKind, parse_json
from ..errors import NotFoundError, TaskError
from ..guesses import guess
from ..links import leaving
from ..reference import ModelRef
from ..text import brief
from .pictures import BUFFER, Picture, Place, cell_picture, is_picture_type

TASK = DocumentKind("task", TaskError)

Row = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""The files that rows are read from."""

_LARGEST = 2**30
"""Bytes of a .json file."""

_AT_ONCE = 4
"""Rows of a Parquet file with pictures that are in memory at the same time."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Example:
    """One question and its right answer.

    `choices`: the answers to choose from, the right one among them, for multiple choice. `id` names the row where it
    comes from, for tasks that look it up there again; `where` names it to people ("row 3 of test.jsonl"). `image`: a
    picture that is shown with the question.
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    id: str = ""
    where: str = field(default="", compare=False)
    image: Picture | None = None


@dataclass(frozen=True)
class Rows:
    """Where a task's rows come from.

    `locate` maps a file name to a local path, `names` lists those that there are; `source` names it for people.
    `image`: the field that holds a picture, or the path of one from where the rows stand. `each`: the field with a list
    of rows, which have the other fields in common.
    """

    locate: Callable[[str], Path]
    source: str | None
    columns: tuple[str, ...] | None
    names: Callable[[], Iterable[str]] = tuple
    image: str | None = None
    each: str | None = None

    def read(self, file: str | Sequence[Row], split: str) -> list[Row]:
        """The rows of one file, of all that a pattern (data/test-*.parquet) names, or of a list written in place.

        Raises `TaskError` where it is not such a table.
        """
        rows: list[Row] = []
        for name in self._files(file) if isinstance(file, str) else [None]:
            read = self._listed(file, split) if name is None else read_rows(self.locate(name), columns=self.columns)
            beside = PurePosixPath(name or "").parent
            for number, row in enumerate(read, start=1):
                where = f"row {number} of {name or f'the {split} rows'}"
                rows += self._each(self._with_picture(row, beside, where), where)
        return rows

    def _files(self, file: str) -> list[str]:
        if not is_pattern(file):
            return [file]
        if not (found := sorted(name for name in self.names() if fnmatchcase(name, _plain_path(file)))):
            raise TaskError(f"No file {'of ' + self.source if self.source else 'here'} is called like {file}.")
        return found

    def _with_picture(self, row: Row, beside: PurePosixPath, where: str) -> Row:
        """The row with its picture in place of the path to it."""
        if self.image is None:
            return row
        value = row.get(self.image)
        if isinstance(value, str) and _ADDRESS.match(value):
            raise TaskError(
                f"{where}: the field {self.image!r} holds an address, {value[:40]!r}, and pictures are not fetched; "
                "put the files beside the rows, and give the paths to them."
            )
        if isinstance(value, str) and value:
            try:
                place = Place(self.locate((beside / value).as_posix()))
                value = Picture.of(place.read(), place)
            except TaskError as exc:
                raise TaskError(f"{where}: {exc}") from None
        if not isinstance(value, Picture):
            told = "no picture and no path to one is the" if self.image in row else "there is no"
            raise TaskError(f"{where}: {told} field {self.image!r}, which `image` of the task names.")
        return {**row, self.image: value}

    def _each(self, row: Row, where: str) -> list[Row]:
        """The rows that one row holds; itself where it holds none."""
        if self.each is None:
            return [row]
        listed = row.get(self.each)
        if not isinstance(listed, Sequence) or not all(isinstance(one, Mapping) for one in listed):
            raise TaskError(f"{where}: the field {self.each!r}, which `each` names, holds no list of rows.")
        return [{**row, **one} for one in listed]

    def _listed(self, file: Any, split: str) -> list[Row]:
        if not isinstance(file, Sequence) or not all(isinstance(row, Mapping) for row in file):
            raise TaskError(
                f"`{split}` of the task's examples must be a file name or a list of rows, got {type(file).__name__}."
            )
        return [row for row in file if isinstance(row, Mapping)]


def open_rows(where: Mapping[str, Any], *, token: str | None, image: str | None = None) -> Rows:
    """Opens `{repo_id, revision}`, pinned to its commit now, or `{folder}`; `image`: the field with pictures."""
    names = tuple(TASK.listed(where.get("columns") or [], "columns")) or None
    if wrong := [name for name in names or () if not isinstance(name, str)]:
        raise TaskError(f"`columns` names the columns of a file without a header, each by text, got {brief(wrong[0])}.")
    repo_id, folder, revision, each = (text_or_none(where, key) for key in ("repo_id", "folder", "revision", "each"))
    if repo_id is not None and folder is not None:
        raise TaskError("The task's examples name both `repo_id` and `folder`; keep one.")
    if repo_id is not None:
        return replace(_open_repository(repo_id, revision, names, token), image=image, each=each)
    base = Path(folder or "")
    return Rows(lambda file: _local(base, file), folder, names, lambda: files_in(base), image, each)


def files_in(folder: Path) -> Iterable[str]:
    """The names of all files in a folder and those in it."""
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def is_pattern(file: str) -> bool:
    """Whether a name stands for all files that are called alike."""
    return any(sign in file for sign in "*?[")


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
            raise NotFoundError(f"The dataset {ref} has no file {file}; see what it has on its page.")
        return store.path(known or FileInfo(file, 0))

    return Rows(locate, str(ref.pinned(store.commit)), columns, lambda: facts.files)


def _local(base: Path, file: str) -> Path:
    path = base / _plain_path(file)
    is_file = os.path.isfile(path)  # also false for what no file can be called
    if is_file and leaving(base, [path]):
        raise TaskError(f"The example file {file!r} is a link that leads out of its folder; put the file itself there.")
    if not is_file and os.path.lexists(path):
        raise TaskError(f"The example file {path} is no file that can be read; put a plain file there.")
    if not is_file:
        raise TaskError(f"There is no example file {path}; check its name, and the folder that it is in.")
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
        with parquet.ParquetFile(path, buffer_size=BUFFER) as file:
            pictures = [one.name for one in file.schema_arrow if is_picture_type(one.type)]
            rows: list[Row] = []
            for batch in file.iter_batches(batch_size=_AT_ONCE if pictures else 65536):
                for row in batch.to_pylist():
                    own = {name: cell_picture(row[name], Place(path, name, len(rows))) for name in pictures}
                    rows.append({**row, **own})
            return rows
    except (ArrowException, OSError) as exc:
        raise TaskError(
            f"The example file {path.name} is no Parquet that can be read ({type(exc).__name__})."
        ) from None


def fill(template: str, row: Row, where: str) -> str:
    """`template` with each {field} replaced by the row's value.

    Raises `TaskError` for a field that the row lacks, and for one that holds neither text nor a number.
    """

    def value(match: re.Match[str]) -> str:
        field = match[1]
        if field not in row:
            raise TaskError(
                f"{where}: there is no field {field!r} in this row{guess(field, row)}; name one of its fields in the "
                "template."
            )
        return as_text(row[field], f"{where}: the field {field!r}")

    if not isinstance(template, str):
        raise TaskError(f"{where}: `prompt` and `answer` must be text with {{fields}}, got {brief(template)}.")
    return FIELD.sub(value, template)


def as_text(value: Any, what: str) -> str:
    """A text or number of a row as it is written there. Raises `TaskError` for all else, which is written differently
    everywhere: true, null, lists."""
    if isinstance(value, str) or (isinstance(value, Number) and not isinstance(value, bool)):
        return str(value)
    raise TaskError(f"{what} must hold text or a number, got {brief(value)}; write it as text, or leave out the row.")
