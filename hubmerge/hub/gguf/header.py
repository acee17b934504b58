"""The header of a GGUF file, read by range: what the file says of itself, and which tensor lies where.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import SourceError
from ..headers import LONGEST_HEADER, LONGEST_NAME, MOST_TENSORS, ReadRange
from ..quantised.ggml import TYPES, Type

_STEP = 2**20
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9
_MOST_VALUES = 65_536
_LONGEST_TEXT = 2**24
_FEW = 4096
KEPT = tuple(f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type", "merges"))
"""Lists that are read however long they are: the tokenizer's."""
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class Tensor:
    """A tensor: its name there, `shape` as torch has it, and where its bytes lie in the file."""

    name: str
    shape: tuple[int, ...]
    type: Type
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """`values`: what the file says of itself, lists of few numbers and the tokenizer's; `lengths`: of all its lists."""

    values: Mapping[str, Any] = field(repr=False)
    lengths: Mapping[str, int] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)


def read_header(read: ReadRange, file: str, size: int, where: str) -> Header:
    """The header of a file of `size` bytes. Raises `SourceError` for one that is damaged or of another kind."""
    what = f"{file} of {where}"
    content = _Content(read, size, what)
    magic, version = content.take(4), content.number("<I")
    if magic.startswith(b"vers"):
        raise SourceError(f"{what} is a Git LFS pointer, not the weights; run `git lfs pull` in the folder.")
    if magic != b"GGUF" or version not in (2, 3):
        raise SourceError(f"{what} is no GGUF file of version 2 or 3, little endian; convert it anew.")
    count, pairs = content.number("<Q"), content.number("<Q")
    if count > MOST_TENSORS or pairs > _MOST_VALUES:
        raise content.wrong()
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(pairs):
        key, kind = content.text(), content.number("<I")
        if kind == _ARRAY:
            lengths[key], listed = content.array(key in KEPT)
            if listed is not None:
                values[key] = listed
        else:
            values[key] = content.value(kind)
    described = [_described(content) for _ in range(count)]
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= 2**20:
        raise content.wrong()
    data = -(-content.place // alignment) * alignment
    tensors = tuple(_placed(content, data, size, *one) for one in described)
    _check_apart(tensors, content)
    if values.get("split.count", 1) not in (0, 1):
        raise SourceError(
            f"{what} is one of several parts of a model; join them with llama-gguf-split, and name that file."
        )
    return Header(values, lengths, tensors)


def _described(content: "_Content") -> tuple[str, tuple[int, ...], int, int]:
    name, dimensions = content.text(), content.number("<I")
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or dimensions > _MOST_DIMENSIONS:
        raise content.wrong()
    shape = tuple(reversed([content.number("<Q") for _ in range(dimensions)]))
    return name, shape, content.number("<I"), content.number("<Q")


def _placed(content: "_Content", data: int, size: int, name: str, shape: tuple[int, ...], kind: int, at: int) -> Tensor:
    if (told := TYPES.get(kind)) is None:
        raise SourceError(
            f"{content.what} stores {name} in a format that is not read (number {kind} of ggml's); use another file."
        )
    elements = math.prod(shape)
    if not elements or not shape or shape[-1] % told.elements:
        raise content.wrong()
    stop = data + at + elements // told.elements * told.nbytes
    if stop > size:
        raise SourceError(
            f"{content.what} was cut short: it should have at least {stop:,} bytes and has {size:,}; fetch it again."
        )
    return Tensor(name, shape, told, data + at, stop)


def _check_apart(tensors: tuple[Tensor, ...], content: "_Content") -> None:
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise content.wrong()
    place = 0
    for tensor in sorted(tensors, key=lambda one: (one.start, one.stop)):
        if tensor.start < place:
            raise content.wrong()
        place = tensor.stop


class _Content:
    """A file, read from its begin on in large steps."""

    def __init__(self, read: ReadRange, size: int, what: str) -> None:
        self._read, self._size, self.what = read, size, what
        self._known = bytearray()
        self.place = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self._skip(count)
        return bytes(self._known[self.place - count : self.place])

    def _skip(self, count: int) -> None:
        stop = self.place + count
        if stop > min(self._size, LONGEST_HEADER):
            raise self.wrong()
        if stop > len(self._known):
            end = min(self._size, max(stop, len(self._known) + max(_STEP, len(self._known))))
            self._known += self._read(len(self._known), end)
        self.place = stop

    def number(self, form: str) -> Any:
        """The next number."""
        [value] = struct.unpack(form, self.take(struct.calcsize(form)))
        return value

    def text(self) -> str:
        """The next text."""
        length = self.number("<Q")
        if length > _LONGEST_TEXT:
            raise self.wrong()
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self.wrong() from None

    def value(self, kind: int) -> Any:
        """The next value, if it is no list."""
        if kind == _TEXT:
            return self.text()
        if kind not in _SCALARS:
            raise self.wrong()
        return self.number(_SCALARS[kind])

    def array(self, kept: bool) -> tuple[int, list[Any] | None]:
        """The length of the next list, and what is in it, if that is few numbers or to be `kept`."""
        kind, length = self.number("<I"), self.number("<Q")
        if length > LONGEST_HEADER:
            raise self.wrong()
        if kind == _TEXT and kept:
            return length, [self.text() for _ in range(length)]
        if kind == _TEXT:
            for _ in range(length):
                self._skip(self.number("<Q"))
            return length, None
        if kind not in _SCALARS:
            raise self.wrong()
        form = _SCALARS[kind]
        size = length * struct.calcsize(form)
        if length <= _FEW or kept:
            return length, list(struct.unpack(f"<{length}{form[1]}", self.take(size)))
        self._skip(size)
        return length, None

    def wrong(self) -> SourceError:
        """What to raise where the file cannot be so."""
        return SourceError(f"{self.what} is damaged at byte {self.place:,} of its header; fetch it again.")
