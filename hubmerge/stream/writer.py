"""Shards, written by several threads at once, and read back to see whether they are whole."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import SourceError
from ..hub.headers import read_headers
from .names import name_in
from .tensors import TensorPlan

_PIECE = 1 << 20


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its size in bytes, and the sha256 of its header and of the bytes of each tensor."""

    file: str
    nbytes: int
    header: str
    tensors: dict[str, str]

    def fits(self, file: object) -> bool:
        """Whether what was read back has the types of a record, and is the one of `file`."""
        return (
            self.file == file
            and type(self.nbytes) is int
            and isinstance(self.header, str)
            and isinstance(self.tensors, dict)
        )


class ShardFile:
    """A shard that is being written: several threads may write different tensors, each at its place.

    What is written goes to the disk while more is computed, so that closing it need not wait long.
    """

    def __init__(self, file: BinaryIO, header: bytes, tensors: Sequence[TensorPlan]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._digests: dict[str, str] = {}
        self._header = header
        starts = accumulate((tensor.nbytes for tensor in tensors), initial=len(header))
        self._starts = {tensor.name: start for tensor, start in zip(tensors, starts, strict=False)}
        self._flushing = ThreadPoolExecutor(1, "hubmerge-flush")
        self._flush = self._flushing.submit(lambda: None)
        self._write(0, header)

    def write(self, name: str, blocks: Iterable[Tensor]) -> None:
        """Writes a tensor: `blocks` are its elements in order, in its dtype. Remembers the sha256 of its bytes."""
        digest = hashlib.sha256()
        position = self._starts[name]
        for block in blocks:
            data = _bytes(block)
            digest.update(data)
            self._write(position, data)
            position += len(data)
        with self._lock:
            self._digests[name] = digest.hexdigest()
            if self._flush.done():
                self._flush.result()  # what could not be written is told only once
                self._flush = self._flushing.submit(os.fsync, self._file.fileno())

    def finish(self, name: str) -> ShardRecord:
        """The record of the file, when every tensor has been written."""
        assert self._digests.keys() == self._starts.keys()
        self._flush.result()
        self._file.seek(0, os.SEEK_END)
        header = hashlib.sha256(self._header).hexdigest()
        return ShardRecord(
            name, self._file.tell(), header, {name_in(name, tensor): self._digests[tensor] for tensor in self._starts}
        )

    def close(self) -> None:
        """Ends the writing in the background; the file stays open."""
        self._flushing.shutdown()

    def _write(self, position: int, data: bytes | memoryview) -> None:
        with self._lock:
            self._file.seek(position)
            self._file.write(data)


def is_whole(path: Path, record: ShardRecord) -> bool:
    """Whether the file still holds exactly the bytes that `record` tells of."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != record.nbytes:
                return False

            def read(start: int, stop: int) -> bytes:
                file.seek(start)
                return file.read(stop - start)

            tensors = read_headers(read, path.name, record.nbytes, str(path.parent))
            if hashlib.sha256(read(0, tensors[0].start if tensors else record.nbytes)).hexdigest() != record.header:
                return False
            return record.tensors == {tensor.name: _sha256(read, tensor.start, tensor.stop) for tensor in tensors}
    except (OSError, SourceError):
        return False


def _sha256(read: Callable[[int, int], bytes], start: int, stop: int) -> str:
    digest = hashlib.sha256()
    for position in range(start, stop, _PIECE):
        digest.update(read(position, min(position + _PIECE, stop)))
    return digest.hexdigest()


def _bytes(block: Tensor) -> memoryview:
    return block.view(torch.uint8).numpy().data
