"""Pictures of examples: where they lie, and how one is opened. They come from strangers.

Only formats of a short list are decoded, and nothing of more than `MOST_PIXELS` or `MOST_BYTES`, which is known before.
"""

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import TaskError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What is decoded, as Pillow names it; of several frames the first."""

MOST_PIXELS = 50_000_000
MOST_BYTES = 50_000_000

_GROUPS = 2
"""Groups of a Parquet file's rows that are kept: pictures are mostly asked for in order."""


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
            cell = _cells(self.file, group, self.column)[row]
        except (OSError, IndexError) as exc:
            raise TaskError(f"The picture {self} cannot be read ({type(exc).__name__}); fetch it again.") from None
        return bytes(cell["bytes"])

    def __str__(self) -> str:
        return f"in row {self.row + 1} of {self.file.name}" if self.column else self.file.name


@dataclass(frozen=True)
class Picture:
    """A picture, by the sha256 of its bytes: two that are equal are one, wherever they lie."""

    digest: str
    where: Place = field(compare=False, repr=False)

    @classmethod
    def of(cls, content: bytes, where: Place) -> "Picture":
        """The picture of these bytes, of which only the beginning is looked at. Raises `TaskError` for what is none."""
        _open(content, where)
        return cls(hashlib.sha256(content).hexdigest(), where)

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
                return ImageOps.exif_transpose(_open(content, self.where)).convert("RGB")
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


@lru_cache(maxsize=_GROUPS)
def _cells(file: Path, group: int, column: str) -> list[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        found: list[Any] = opened.read_row_group(group, columns=[column]).column(column).to_pylist()
        return found
