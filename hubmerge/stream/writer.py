"""Files that appear whole or not at all, and shards written one tensor at a time."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .shards import ShardPlan

TEMPORARY = ".partial"
"""Ending of a file that is being written."""


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its size and sha256, and the sha256 of the bytes of each tensor."""

    file: str
    nbytes: int
    sha256: str
    tensors: dict[str, str]


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place only when all went well and is then safe on disk."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_shard(folder: Path, shard: ShardPlan, header: bytes, tensors: Iterable[tuple[str, Tensor]]) -> ShardRecord:
    """Writes `shard` into `folder`: its `header`, then each of `tensors` (name and values, in the shard's order).

    One tensor at a time is in memory.
    """
    whole = hashlib.sha256(header)
    digests: dict[str, str] = {}
    with atomic(folder / shard.file) as file:
        file.write(header)
        for name, tensor in tensors:
            data = _bytes(tensor)
            file.write(data)
            whole.update(data)
            digests[name] = hashlib.sha256(data).hexdigest()
        assert tuple(digests) == shard.names
        nbytes = file.tell()
    assert nbytes == len(header) + shard.nbytes
    return ShardRecord(shard.file, nbytes, whole.hexdigest(), digests)


def _bytes(tensor: Tensor) -> memoryview:
    """The values as they lie in memory, row by row; not copied where they already lie so."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def write_file(path: Path, content: bytes) -> None:
    """Writes a small file; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(content)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    # Windows cannot open folders; there the rename alone has to do.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
