"""The content-addressed store: every file of every repository, once, under its SHA-256 (a generated one: its oid)."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from ..generated.model import GeneratedFile, Span, load_generated
from .disk import write_atomically
from .folder import clear

PIECE = 1 << 20  # bytes read or written at a time: what a transfer holds in memory
_STALE_SECONDS = 24 * 3600


class IntegrityError(ValueError):
    """Content that is not what its sender announced."""


class Objects:
    """A folder of immutable objects plus one of uploads in progress.

    Layout: `sha256/ab/abcdef...` holds finished objects, `generated/ab/abcdef...` says what generated ones consist of,
    `incoming/` holds what is still arriving. An object appears under its final name only after its last byte was
    written, hashed and flushed.
    """

    def __init__(self, root: Path) -> None:
        self._finished = root / "sha256"
        self._generated = root / "generated"
        self._incoming = root / "incoming"

    def open_for_uploads(self) -> None:
        """Clear what was left behind more than a day ago; younger uploads may still be continued after a restart."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        clear(self._incoming, time.time() - _STALE_SECONDS)

    def path(self, sha256: str) -> Path:
        """Where the object lies (or would lie)."""
        return self._finished / sha256[:2] / sha256

    def _generated_path(self, oid: str) -> Path:
        return self._generated / oid[:2] / oid

    def size(self, oid: str) -> int:
        """Bytes of an object; FileNotFoundError where there is none."""
        try:
            return os.stat(self.path(oid)).st_size
        except FileNotFoundError:
            return load_generated(self._generated_path(oid)).size

    def has(self, oid: str, size: int | None = None) -> bool:
        """Whether the object is there, and has `size` bytes if given."""
        try:
            actual = self.size(oid)
        except FileNotFoundError:
            return False
        return size is None or actual == size

    @contextmanager
    def open(self, oid: str, start: int, stop: int) -> Iterator[Iterable[Span]]:
        """Where the bytes [start, stop) of an object lie, in files that are open inside the block."""
        path = self.path(oid)
        if path.exists():
            with path.open("rb") as file:
                yield [Span(file, start, stop - start)]
        else:
            path = self._generated_path(oid)
            with path.open("rb") as file:
                yield load_generated(path).spans(file, start, stop)

    def read(self, oid: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes [start, stop) of an object, all of it by default."""
        with self.open(oid, start, self.size(oid) if stop is None else min(stop, self.size(oid))) as spans:
            return b"".join(os.pread(span.file.fileno(), span.size, span.offset) for span in spans)

    def is_generated(self, oid: str) -> bool:
        """Whether this names a generated file."""
        return not self.path(oid).exists() and self._generated_path(oid).exists()

    def generate(self, file: GeneratedFile) -> None:
        """Have a generated file as an object, under its oid."""
        write_atomically(self._generated_path(file.oid), file.encode())

    def put(self, content: bytes) -> str:
        """Store bytes and return their SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has(sha256, len(content)):
            with self.receive() as upload:
                upload.write(content)
                upload.finish(sha256, len(content))
        return sha256

    def receive(self) -> "Upload":
        """Start an object whose bytes arrive in pieces; use it as a context manager."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        return Upload(self, self._incoming / secrets.token_hex(16))

    def put_part(self, upload: str, number: int, source: "Upload") -> None:
        """Keep a received piece as part `number` of the multipart upload `upload`, replacing an earlier try."""
        folder = self._incoming / f"parts-{upload}"
        folder.mkdir(exist_ok=True)
        source.move_to(folder / str(number))

    def join_parts(self, upload: str, count: int, sha256: str, size: int) -> None:
        """Make one object of parts 1 to `count`; each part is deleted once it is copied.

        Raises:
            IntegrityError: a part is missing, or the whole does not have this hash and size.
        """
        folder = self._incoming / f"parts-{upload}"
        parts = [folder / str(number) for number in range(1, count + 1)]
        missing = [part.name for part in parts if not part.exists()]
        if missing:
            raise IntegrityError(f"parts {', '.join(missing)} of {count} were not uploaded")
        try:
            with self.receive() as whole:
                for part in parts:
                    with open(part, "rb") as file:
                        while piece := file.read(PIECE):
                            whole.write(piece)
                    part.unlink()
                whole.finish(sha256, size)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Upload:
    """Bytes on their way into the store: hashed while they are written, never held in memory."""

    def __init__(self, objects: Objects, path: Path) -> None:
        self._objects = objects
        self._path = path
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.size = 0

    def __enter__(self) -> "Upload":
        self._file = self._path.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        """Append a piece."""
        assert self._file is not None, "write() before entering the upload"
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def finish(self, sha256: str, size: int) -> None:
        """Move the object to its place.

        Raises:
            IntegrityError: what arrived does not have this hash and size; nothing is kept.
        """
        if self.size != size:
            raise IntegrityError(f"{self.size} bytes arrived where {size} were announced")
        if self._hash.hexdigest() != sha256:
            raise IntegrityError(f"the bytes have sha256 {self._hash.hexdigest()}, not {sha256}")
        self.move_to(self._objects.path(sha256))

    def move_to(self, path: Path) -> None:
        """Flush to disk, then move into place in one step."""
        assert self._file is not None, "move_to() before entering the upload"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._path, path)

    @property
    def etag(self) -> str:
        """The hash of what arrived so far, as the answer to a part."""
        return self._hash.hexdigest()
