"""Models whose weights are made up as they are read: repositories of any size that take no disk.

A file is real but for its tensors. Each of them is a stretch of an endless pattern that depends on the model's seed,
the tensor's name and its dtype alone: not on the shards, nor on who reads what and when.
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
from .patterns import ITEM_BYTES, POSITIVE, Pattern, pattern, phase
from .torchfile import Placed, lay_out

INDEX = "model.safetensors.index.json"
PICKLED_INDEX = "pytorch_model.bin.index.json"
SHARD_SIZE = 5 * 10**9  # bytes, as on the Hub


class Span(NamedTuple):
    """Bytes that lie together in an open file."""

    file: IO[bytes] | Pattern
    offset: int
    size: int  # bytes


class _Part(NamedTuple):
    """Bytes of a file: a tensor's, whose numbers are of this `kind` (see `pattern`), or real ones (None)."""

    start: int
    stop: int
    offset: int  # bytes into the pattern, or into what is real
    kind: str | None


@dataclass(frozen=True)
class GeneratedFile:
    """A file of made-up weights: what is real of it, where each tensor lies between that, the seeds, and no weight.

    `placed`: name, dtype, first byte and the one after the last of each tensor, in the file's order; None for
    safetensors, whose head is all that is real, and says it.

    `oid` stands where a real file has the SHA-256 of its content. It is a name, not a hash of the content, which nobody
    can afford to compute: equal for equal files, different for different ones.
    """

    real: bytes = field(repr=False)
    seed: int
    base_seed: int | None = None
    placed: tuple[Placed, ...] | None = field(default=None, repr=False)

    @functools.cached_property
    def _parts(self) -> list[_Part]:
        """All of the file, in order."""
        parts, position, used = [], 0, 0
        for tensor in sorted(self._placed_by_head() if self.placed is None else self.placed, key=_place):
            if tensor.start > position:
                parts.append(_Part(position, tensor.start, used, None))
                used += tensor.start - position
            begin = phase(tensor.name) * ITEM_BYTES[tensor.dtype]
            kind = tensor.dtype + (POSITIVE if tensor.name.endswith("_scale_inv") else "")
            parts.append(_Part(tensor.start, tensor.stop, begin, kind))
            position = tensor.stop
        rest = len(self.real) - used
        return [*parts, _Part(position, position + rest, used, None)] if rest else parts

    def _placed_by_head(self) -> Iterator[Placed]:
        for name, value in json.loads(self.real[8:]).items():
            if name != "__metadata__":
                start, stop = (len(self.real) + offset for offset in value["data_offsets"])
                yield Placed(name, value["dtype"], start, stop)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._parts[-1].stop

    @property
    def oid(self) -> str:
        """Its name of 64 hexadecimal digits."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """What is stored of it: a line with the seeds and places, then what is real."""
        return self._told() + self.real

    def _told(self) -> bytes:
        told: dict[str, Any] = {"seed": self.seed, "base_seed": self.base_seed}
        if self.placed is not None:
            told["placed"] = self.placed
        return json.dumps(told).encode() + b"\n"

    @functools.cached_property
    def _begin(self) -> int:
        return len(self._told())

    def spans(self, stored: IO[bytes], start: int, stop: int) -> Iterator[Span]:
        """Where the bytes [start, stop) lie; `stored` is the open file that holds `encode()`."""
        position = bisect.bisect_right(self._parts, start, key=lambda part: part.start) - 1
        for part in self._parts[position:]:
            if start >= stop:
                return
            end = min(stop, part.stop)
            if part.kind is None:
                if start < end:
                    yield Span(stored, self._begin + part.offset + start - part.start, end - start)
                    start = end
                continue
            weights = pattern(part.kind, self.seed, self.base_seed)
            while start < end:
                offset = (part.offset + start - part.start) % weights.nbytes
                count = min(end, start + weights.nbytes - offset) - start
                yield Span(weights, offset, count)
                start += count


def _place(tensor: Placed) -> tuple[int, int]:
    return tensor.start, tensor.stop


@functools.lru_cache(maxsize=512)
def load_generated(path: Path) -> GeneratedFile:
    """Read back what `encode` stored; cached, since it never changes."""
    line, _, real = path.read_bytes().partition(b"\n")
    told = json.loads(line)
    if "placed" in told:
        told["placed"] = tuple(Placed(*one) for one in told["placed"])
    return GeneratedFile(real, **told)


@dataclass(frozen=True)
class GeneratedModel:
    """A model for `LocalHub.generate`: its config.json, its tensors' shapes, and a seed for their values.

    The weights are finite, roughly normal with standard deviation 0.02, and repeat after two million elements.

    Args:
        config: what config.json holds.
        tensors: name -> (dtype, shape) in the order of the files; dtype is one of `ITEM_BYTES`.
        seed: another seed, other weights.
        base_seed: the seed of the model that this one seems to be fine-tuned from; None for a model of its own.
        shard_size: bytes of weights that a file holds at most; a larger tensor gets a file of its own.
        files: further small files by path, for example a tokenizer or a README.md.
        pickled: whether its files are of the kind that torch.save writes, as older models have them.
        stem: what its files of safetensors are called.

    Raises:
        HubError: a dtype, shape, path or shard size that cannot be.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    seed: int
    base_seed: int | None = None
    shard_size: int = SHARD_SIZE
    files: Mapping[str, bytes] = field(default_factory=dict)
    pickled: bool = False
    stem: str = "model"

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
        """The files of weights by path."""
        return {path: self._file(names) for path, names in self._shards().items()}

    def _file(self, names: list[str]) -> GeneratedFile:
        if not self.pickled:
            return GeneratedFile(self._head(names), self.seed, self.base_seed)
        real, placed = lay_out({name: self.tensors[name] for name in names})
        return GeneratedFile(real, self.seed, self.base_seed, tuple(placed))

    def small_files(self) -> dict[str, bytes]:
        """Every other file by path."""
        files = {"config.json": json.dumps(self.config, indent=2).encode() + b"\n", **self.files}
        shards = self._shards()
        if len(shards) > 1:
            total = sum(self._nbytes(name) for name in self.tensors)
            weight_map = {name: path for path, names in shards.items() for name in names}
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            files[PICKLED_INDEX if self.pickled else self.stem + INDEX.removeprefix("model")] = (
                json.dumps(index, indent=2).encode() + b"\n"
            )
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
        stem, ending = ("pytorch_model", "bin") if self.pickled else (self.stem, "safetensors")
        if len(groups) == 1:
            return {f"{stem}.{ending}": groups[0]}
        return {f"{stem}-{number:05d}-of-{len(groups):05d}.{ending}": names for number, names in enumerate(groups, 1)}

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
