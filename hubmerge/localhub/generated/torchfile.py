"""The layout of files that torch.save writes, without the weights: what is real in them, and where each tensor lies.

A zip archive whose members begin at multiples of 64 bytes, their sizes behind them; one pickle that names the tensors.
The checksums of the members are 0: nobody can afford to compute them, and torch does not look at them.
"""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

ALIGNMENT = 64
_FULL = 2**32 - 1
_STORAGES = {"BF16": ("BFloat16Storage", 2), "F16": ("HalfStorage", 2), "F32": ("FloatStorage", 4)}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


class Placed(NamedTuple):
    """A tensor in a file: bytes `start` to `stop`."""

    name: str
    dtype: str
    start: int
    stop: int


class _Member(NamedTuple):
    name: bytes
    size: int
    header: int

    @property
    def large(self) -> bytes:
        """What the headers say more where a number is beyond 32 bits."""
        numbers = [self.size] * 2 if self.size >= _FULL else []
        numbers += [self.header] if self.header >= _FULL else []
        return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def lay_out(tensors: Shapes) -> tuple[bytes, list[Placed]]:
    """All bytes of a file of these tensors that are no weights, in order, and where the weights lie between them."""
    real, placed, members = bytearray(), [], []
    position = 0
    for name, content, size in _contents(tensors):
        member = _Member(b"archive/" + name.encode(), size, position)
        members.append(member)
        head = _local(member)
        real += head + (content if isinstance(content, bytes) else b"") + _trailer(member)
        position += len(head)
        if not isinstance(content, bytes):
            placed.append(Placed(*content, position, position + size))
        position += size + len(_trailer(member))
    real += _directory(members, position)
    return bytes(real), placed


def _contents(tensors: Shapes) -> Iterator[tuple[str, bytes | tuple[str, str], int]]:
    """The members: name, content or (tensor, dtype), size."""
    sizes = [math.prod(shape) * _STORAGES[dtype][1] for dtype, shape in tensors.values()]
    pickle = b"".join(_pickle(tensors))
    yield "data.pkl", pickle, len(pickle)
    yield "byteorder", b"little", 6
    for number, (name, (dtype, _)) in enumerate(tensors.items()):
        yield f"data/{number}", (name, dtype), sizes[number]
    yield "version", b"3\n", 2


def _local(member: _Member) -> bytes:
    """A header as torch pads it, so that what follows is aligned."""
    length = 30 + len(member.name) + len(member.large) + 4
    padding = -(member.header + length) % ALIGNMENT
    more = member.large + b"FB" + struct.pack("<H", padding) + b"Z" * padding
    sizes = (_FULL, _FULL) if member.size >= _FULL else (0, 0)
    return (
        struct.pack("<4s5H3I2H", b"PK\3\4", 0, 0x808, 0, 0, 0, 0, *sizes, len(member.name), len(more))
        + member.name
        + more
    )


def _trailer(member: _Member) -> bytes:
    return struct.pack("<4sI2Q" if member.large else "<4s3I", b"PK\7\10", 0, member.size, member.size)


def _directory(members: Iterable[_Member], position: int) -> bytes:
    entries, count = b"", 0
    for member in members:
        size, header = min(member.size, _FULL), min(member.header, _FULL)
        fields = (0, 0, 0x808, 0, 0, 0, 0, size, size, len(member.name), len(member.large), 0, 0, 0, 0, header)
        entries += struct.pack("<4s6H3I5H2I", b"PK\1\2", *fields) + member.name + member.large
        count += 1
    end = position + len(entries)
    numbers = (44, 0x31E, 45, 0, 0, count, count, len(entries), position)
    last = (0, 0, min(count, 2**16 - 1), min(count, 2**16 - 1), len(entries), min(position, _FULL), 0)
    return (
        entries
        + struct.pack("<4sQ2H2I4Q", b"PK\6\6", *numbers)
        + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
        + struct.pack("<4s4H2IH", b"PK\5\6", *last)
    )


def _pickle(tensors: Shapes) -> Iterator[bytes]:
    """A state dict as torch pickles it (protocol 2), without its memo."""
    yield b"\x80\2ccollections\nOrderedDict\n)R("
    for number, (name, (dtype, shape)) in enumerate(tensors.items()):
        strides = [math.prod(shape[at + 1 :]) for at in range(len(shape))]
        storage = _text("storage") + f"ctorch\n{_STORAGES[dtype][0]}\n".encode() + _text(str(number)) + _text("cpu")
        yield _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + _number(math.prod(shape)) + b"tQK\0"
        yield _numbers(shape) + _numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    yield b"u."


def _numbers(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little")


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
