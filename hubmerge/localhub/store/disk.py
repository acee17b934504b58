"""Writing to disk so that a crash leaves either the old file or the new one, never a part."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside `path` and move it there when the block ends well; on an error nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with atomic_file(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON in one step."""
    write_atomically(path, json.dumps(value, separators=(",", ":")).encode())


def read_json(path: Path) -> Any:
    """The value that `write_json` stored."""
    return json.loads(path.read_bytes())


def names_in(folder: Path) -> list[str]:
    """Sorted names of the finished entries of a folder; empty where it does not exist."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []
