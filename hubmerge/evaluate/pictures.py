"""Pictures of examples: where they lie, and how one is opened. They come from strangers.

Only formats of a short list are decoded, and nothing of more than `MOST_PIXELS` or `MOST_BYTES`, or narrower than
`NARROWEST`, which is known before.
"""

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import TaskError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What is decoded, as Pillow names it; of several frames the first."""

MOST_PIXELS = 50_000_000
MOST_BYTES = 50_000_000

NARROWEST = 200
"""How many times its shorter side a picture's longer one may be, as Qwen's processors have it. Processors scale the
shorter side up to what a tower takes."""

BUFFER = 2**20
"""Bytes of a column of Parquet that are read from the disk at a time."""

_KEPT = 2**26
"""Bytes of a Parquet file's cells that are kept: pictures are mostly asked for near each other."""


@dataclass(frozen=True)
class Place:
    """Where a picture's bytes lie: a file, or a cell of the column `column` of a Parquet file."""

    file: Path
    column: str = ""
    row: int = 0

    def read(self) -> bytes:
        """The bytes. Raises `TaskError` where they are not there any more."""
        try:
            if not self.column:
                return self.file.read_bytes()
            group, row = _group_of(self.file, self.row)
            return _cells(self.file, group, self.column).read(row)
        except (OSError, IndexError) as exc:
            raise TaskError(f"The picture {self} cannot be read ({type(exc).__name__}); fetch it again.") from None

    def __str__(self) -> str:
        return f"in row {self.row + 1} of {self.file.name}" if self.column else self.file.name


@dataclass(frozen=True)
class Picture:
    """A picture, by the sha256 of its bytes: two that are equal are one, wherever they lie. `size`: width and height as
    they are stored."""

    digest: str
    where: Place = field(compare=False, repr=False)
    size: tuple[int, int] = field(default=(1, 1), compare=False, repr=False)

    @classmethod
    def of(cls, content: bytes, where: Place) -> "Picture":
        """The picture of these bytes, of which only the beginning is looked at. Raises `TaskError` for what is none."""
        size = _open(content, where).size
        return cls(hashlib.sha256(content).hexdigest(), where, size)

    @classmethod
    def in_file(cls, file: Path) -> "Picture":
        """The picture in a file of its own. Raises `TaskError` for what is none or too large, or cannot be read."""
        try:
            size = file.stat().st_size
        except OSError as exc:
            raise TaskError(f"The picture {file} cannot be read ({exc.strerror}); name another file.") from None
        if not file.is_file():  # what has no end must not be read
            raise TaskError(f"The picture {file} is no file; name one.")
        if size > MOST_BYTES:  # before they are read
            raise TaskError(f"The picture {file.name} has {size:,} bytes; at most {MOST_BYTES:,} are read.")
        return cls.of(Place(file).read(), Place(file))

    def load(self) -> Any:
        """The picture as Pillow has it: RGB, turned as its camera says. Raises `TaskError` where it is broken, or not
        the one that it was."""
        from PIL import ImageOps

        content = self.where.read()
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise TaskError(f"The picture {self.where} has changed meanwhile; start again with pictures that stay.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what a camera wrote beside it
                image = _open(content, self.where)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)  # each copy would be as large again
                return image if image.mode == "RGB" else image.convert("RGB")
        except TaskError:
            raise
        except Exception as exc:  # decoders of strangers' files trip in many ways
            raise _broken(self.where, exc) from None


def pixels_of(where: Place) -> int:
    """How many pixels the picture has that lies there, which is not decoded. Raises `TaskError` for what is none."""
    image = _open(where.read(), where)
    return int(image.width * image.height)


def _open(content: bytes, where: Place) -> Any:
    """The picture with its size, not yet decoded."""
    from PIL import Image, UnidentifiedImageError

    if len(content) > MOST_BYTES:
        raise TaskError(f"The picture {where} has {len(content):,} bytes; at most {MOST_BYTES:,} are read.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the stricter limit
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise TaskError(
            f"The picture {where} is none of {', '.join(FORMATS)}, or broken; save it as one of these."
        ) from None
    except Image.DecompressionBombError:
        raise TaskError(f"The picture {where} has too many pixels; at most {MOST_PIXELS:,} are decoded.") from None
    except Exception as exc:
        raise _broken(where, exc) from None
    if (pixels := image.width * image.height) > MOST_PIXELS:
        raise TaskError(f"The picture {where} has {pixels:,} pixels; at most {MOST_PIXELS:,} are decoded.")
    if max(image.size) > NARROWEST * min(image.size):
        raise TaskError(
            f"The picture {where} is {image.width:,} x {image.height:,} pixels; its longer side may be at most "
            f"{NARROWEST} times the shorter one: cut it into pieces."
        )
    return image


def _broken(where: Place, exc: Exception) -> TaskError:
    return TaskError(f"The picture {where} is broken: {(str(exc) or type(exc).__name__).splitlines()[0][:100]}.")


def is_picture_type(kind: Any) -> bool:
    """Whether a column of Parquet holds pictures as the Hub's Image feature writes them."""
    from pyarrow import types

    return bool(types.is_struct(kind)) and {field.name for field in kind} == {"bytes", "path"}


def cell_picture(cell: Mapping[str, Any] | None, where: Place) -> Any:
    """What stands for a cell of such a column: the picture, or the path that is named in its place."""
    if cell is None or not cell.get("bytes"):
        return cell.get("path") if cell else None
    return Picture.of(bytes(cell["bytes"]), where)


def _group_of(file: Path, row: int) -> tuple[int, int]:
    """The group of rows that a row is in, and its number there."""
    for group, rows in enumerate(_sizes(file)):
        if row < rows:
            return group, row
        row -= rows
    raise IndexError


@lru_cache(maxsize=8)
def _sizes(file: Path) -> tuple[int, ...]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        return tuple(opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups))


class _Cells:
    """The cells with pictures of a group of rows, read in order, one at a time: a group may hold any number of bytes.
    The last of them are kept, for whoever asks for one again or for those before it."""

    def __init__(self, file: Path, group: int, column: str) -> None:
        self._from = (file, group, column)
        self._kept: dict[int, bytes] = {}
        self._held = 0
        self._cells, self._next = self._read(), 0
        self._lock = threading.Lock()

    def read(self, row: int) -> bytes:
        """The bytes in a row of the group. Raises `IndexError` where there are none any more."""
        with self._lock:
            if row not in self._kept and row < self._next:
                self._cells, self._next = self._read(), 0
            while row not in self._kept:
                self._kept[self._next] = content = next(self._cells, b"")
                self._held += len(content)
                self._next += 1
                while self._held > _KEPT and len(self._kept) > 1:
                    self._held -= len(self._kept.pop(next(iter(self._kept))))
            if not (found := self._kept[row]):
                raise IndexError
            return found

    def _read(self) -> Iterator[bytes]:
        from pyarrow import parquet

        file, group, column = self._from
        with parquet.ParquetFile(file, buffer_size=BUFFER) as opened:
            for batch in opened.iter_batches(batch_size=1, row_groups=[group], columns=[f"{column}.bytes"]):
                yield batch.column(0)[0]["bytes"].as_py() or b""


_cells = lru_cache(maxsize=1)(_Cells)
