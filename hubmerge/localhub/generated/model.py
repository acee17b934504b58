"""Models whose weights are made up as they are read: repositories of any size that take no disk.

A file is real up to the end of its safetensors header. Behind it every tensor is a stretch of an endless pattern that
depends on the model's seed, the tensor's name and its dtype alone: not on the shards, nor on who reads what and when.
"""

import bisect
import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import HubError
from ..names import check_path
from .patterns import ITEM_BYTES, Pattern, pattern, phase

INDEX = "model.safetensors.index.json"
SHARD_SIZE = 5 * 10**9  # bytes, as on the Hub


class Span(NamedTuple):
    """Bytes that lie together in an open file."""

    file: IO[bytes] | Pattern
    offset: int
    size: int  # bytes


class _Tensor(NamedTuple):
    """Where a tensor lies in its file, and what it holds there."""

    start: int
    stop: int
    dtype: str
    phase: int  # bytes into the pattern


@dataclass(frozen=True)
class GeneratedFile:
    """A safetensors file of made-up weights: its head (length and JSON), the seeds, and no weight.

    `oid` stands where a real file has the SHA-256 of its content. It is a name, not a hash of the content, which nobody
    can afford to compute: equal for equal files, different for different ones.
    """

    head: bytes = field(repr=False)
    seed: int
    base_seed: int | None = None

    @functools.cached_property
    def _tensors(self) -> list[_Tensor]:
        """In the order of the file."""
        header = {name: value for name, value in json.loads(self.head[8:]).items() if name != "__metadata__"}
        tensors = []
        for name, value in header.items():
            start, stop = (len(self.head) + offset for offset in value["data_offsets"])
            tensors.append(_Tensor(start, stop, value["dtype"], phase(name) * ITEM_BYTES[value["dtype"]]))
        return sorted(tensors)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._tensors[-1].stop if self._tensors else len(self.head)

    @property
    def oid(self) -> str:
        """Its name of 64 hexadecimal digits."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """What is stored of it: a line with the seeds, then the head."""
        return self._seeds() + self.head

    def _seeds(self) -> bytes:
        return json.dumps({"seed": self.seed, "base_seed": self.base_seed}).encode() + b"\n"

    def spans(self, stored: IO[bytes], start: int, stop: int) -> Iterator[Span]:
        """Where the bytes [start, stop) lie; `stored` is the open file that holds `encode()`."""
        if start < len(self.head):
            end = min(stop, len(self.head))
            yield Span(stored, len(self._seeds()) + start, end - start)
            start = end
        position = bisect.bisect_right(self._tensors, start, key=lambda tensor: tensor.start) - 1
        for tensor in self._tensors[position:]:
            weights = pattern(tensor.dtype, self.seed, self.base_seed)
            while start < min(stop, tensor.stop):
                offset = (tensor.phase + start - tensor.start) % weights.nbytes
                count = min(stop, tensor.stop, start + weights.nbytes - offset) - start
                yield Span(weights, offset, count)
                start += count
            if start >= stop:
                return


@functools.lru_cache(maxsize=512)
def load_generated(path: Path) -> GeneratedFile:
    """Read back what `encode` stored; cached, since it never changes."""
    seeds, _, head = path.read_bytes().partition(b"\n")
    return GeneratedFile(head, **json.loads(seeds))


@dataclass(frozen=True)
class GeneratedModel:
    """A model for `LocalHub.generate`: its config.json, its tensors' shapes, and a seed for their values.

    The weights are finite, roughly normal with standard deviation 0.02, and repeat after two million elements.

    Args:
        config: what config.json holds.
        tensors: name -> (dtype, shape) in the order of the files; dtype is "BF16", "F16" or "F32".
        seed: another seed, other weights.
        base_seed: the seed of the model that this one seems to be fine-tuned from; None for a model of its own.
        shard_size: bytes of weights that a file holds at most; a larger tensor gets a file of its own.
        files: further small files by path, for example a tokenizer or a README.md.

    Raises:
        HubError: a dtype, shape, path or shard size that cannot be.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    seed: int
    base_seed: int | None = None
    shard_size: int = SHARD_SIZE
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tensors or self.shard_size <= 0:
            raise HubError("A generated model needs at least one tensor and a shard size of at least one byte.")
        for name, (dtype, shape) in self.tensors.items():
            if dtype not in ITEM_BYTES or any(length < 0 for length in shape):
                raise HubError(
                    f"Tensor {name} of a generated model cannot be {dtype} {list(shape)}: "
                    f"its dtype must be one of {', '.join(ITEM_BYTES)}, and no dimension negative."
                )
        for path in self.files:
            try:
                check_path(path)
            except ValueError as error:
                raise HubError(f"A generated model cannot have this file: {error}") from None

    def weights(self) -> dict[str, GeneratedFile]:
        """The safetensors files by path."""
        return {
            path: GeneratedFile(self._head(names), self.seed, self.base_seed) for path, names in self._shards().items()
        }

    def small_files(self) -> dict[str, bytes]:
        """Every other file by path."""
        files = {"config.json": json.dumps(self.config, indent=2).encode() + b"\n", **self.files}
        shards = self._shards()
        if len(shards) > 1:
            total = sum(self._nbytes(name) for name in self.tensors)
            weight_map = {name: path for path, names in shards.items() for name in names}
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            files[INDEX] = json.dumps(index, indent=2).encode() + b"\n"
        return files

    def _nbytes(self, name: str) -> int:
        dtype, shape = self.tensors[name]
        return math.prod(shape) * ITEM_BYTES[dtype]

    def _shards(self) -> dict[str, list[str]]:
        """Path of each weights file -> its tensors, filled in order."""
        groups: list[list[str]] = [[]]
        held = 0
        for name in self.tensors:
            size = self._nbytes(name)
            if groups[-1] and held + size > self.shard_size:
                groups.append([])
                held = 0
            groups[-1].append(name)
            held += size
        if len(groups) == 1:
            return {"model.safetensors": groups[0]}
        return {f"model-{number:05d}-of-{len(groups):05d}.safetensors": names for number, names in enumerate(groups, 1)}

    def _head(self, names: list[str]) -> bytes:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name in names:
            dtype, shape = self.tensors[name]
            stop = offset + self._nbytes(name)
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, stop]}
            offset = stop
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # as safetensors aligns it
        return len(text).to_bytes(8, "little") + text
