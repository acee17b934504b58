"""The header of a safetensors file: which tensors lie where, known without reading a weight.

The format: 8 bytes with the header's length n (little endian), n bytes of JSON, then the tensors without gaps.
Source: https://github.com/huggingface/safetensors#format
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

from ..documents import parse_object
from ..errors import SourceError

DTYPE_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits of one element, by the name that safetensors gives the dtype."""

FIRST_READ = 32 * 1024
"""Bytes of the first request: a header of 200 tensors fits, so most shards need only one."""

LONGEST_HEADER = 100_000_000
"""Bytes; the same limit as the safetensors library's."""

MOST_TENSORS = 65_536
"""Tensors of one file; the largest mixtures of experts have 92,000, in 163 files."""

MOST_DIMENSIONS = 64
"""As many as torch takes."""

LONGEST_NAME = 500
"""Characters of a tensor's name."""

_LARGEST_SIZE = 2**63

ReadRange = Callable[[int, int], bytes | memoryview]
"""Reads the bytes from start up to but not including stop."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Where one tensor lies: `dtype` as safetensors names it ("BF16"), bytes `start` to `stop` of the whole `file`.

    `strides`: elements from one index to the next in each dimension, where they do not lie one after another; then
    others may lie between them.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    stop: int
    strides: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """The bytes from its first element to its last."""
        return self.stop - self.start

    @property
    def parameters(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def read_headers(read: ReadRange, file: str, size: int, where: str) -> tuple[TensorHeader, ...]:
    """The tensors of one safetensors file, in the order of their bytes, read with one or two small reads.

    `size` is the file's size in bytes; `where` names the model in messages. Raises `SourceError` for everything that
    the format forbids: a file cut short, a header that lies about it, overlapping tensors, a name given twice.
    """
    return parse_header(_header(read, file, size, where), file, size, where)


def read_metadata(read: ReadRange, file: str, size: int, where: str) -> dict[str, str]:
    """What a safetensors file says beside its tensors, texts by name, where `read_headers` reads it."""
    header = _header(read, file, size, where)
    told = parse_object(header, f"The header of {file} of {where}", SourceError, largest=LONGEST_HEADER)
    given = told.get("__metadata__")
    return {key: value for key, value in given.items() if isinstance(value, str)} if isinstance(given, dict) else {}


def _header(read: ReadRange, file: str, size: int, where: str) -> bytes:
    if size < 8:
        raise SourceError(f"{file} of {where} has only {size} bytes; it was cut short, so fetch it again.")
    first = bytes(read(0, min(size, FIRST_READ)))
    if first.startswith(b"version https://git-lfs"):
        raise SourceError(f"{file} of {where} is a Git LFS pointer, not the weights; run `git lfs pull` in the folder.")
    length = int.from_bytes(first[:8], "little")
    if length > LONGEST_HEADER:
        raise SourceError(f"{file} of {where} is not a safetensors file: its header would be {length:,} bytes long.")
    if 8 + length > size:
        raise SourceError(
            f"{file} of {where} ends inside its header ({size:,} bytes, the header alone needs {8 + length:,}); "
            "it was cut short, so fetch it again."
        )
    header = first[8 : 8 + length]
    if len(header) < length:
        header += bytes(read(len(first), 8 + length))
    return header


def parse_header(header: bytes, file: str, size: int, where: str) -> tuple[TensorHeader, ...]:
    """The tensors that the JSON `header` of a safetensors file of `size` bytes declares; see `read_headers`."""
    # Counted before anything is built of them; a tensor without offsets is refused below.
    if (count := header.count(b'"data_offsets"')) > MOST_TENSORS:
        raise SourceError(
            f"{file} of {where} names {count:,} tensors, and at most {MOST_TENSORS:,} a file are read; "
            "save the model in more files."
        )
    document = parse_object(
        header,
        f"The header of {file} of {where}",
        SourceError,
        unique=True,
        largest=LONGEST_HEADER,
        hint="it is damaged, or not a safetensors file",
    )
    document.pop("__metadata__", None)
    data = 8 + len(header)
    tensors = sorted((_tensor(name, entry, file, data, where) for name, entry in document.items()), key=_position)
    end = data
    for tensor in tensors:
        if tensor.start != end:
            raise SourceError(f"{file} of {where} has a gap or an overlap before {tensor.name}; fetch it again.")
        end = tensor.stop
    if end != size:
        problem = "it was cut short" if end > size else "it has bytes that belong to no tensor"
        raise SourceError(
            f"{file} of {where} has {size:,} bytes, but its header describes {end:,}; {problem}, so fetch it again."
        )
    return tuple(tensors)


def _tensor(name: str, entry: Any, file: str, data: int, where: str) -> TensorHeader:
    if not 0 < len(name) <= LONGEST_NAME or "\0" in name:
        raise SourceError(
            f"{file} of {where} names a tensor {name[:60]!r} ({len(name):,} characters); a name has 1 to "
            f"{LONGEST_NAME} and no NUL. Save the model again."
        )
    if not isinstance(entry, dict):
        raise _wrong(name, entry, file, where)
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
        raise _wrong(name, entry, file, where)
    if dtype not in DTYPE_BITS:
        raise SourceError(f"{file} of {where} stores {name} as {dtype[:60]!r}, a dtype that hubmerge does not know.")
    # 64 factors below 2**63 at most: the product stays small enough to be had at once.
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * DTYPE_BITS[dtype]:
        raise _wrong(name, entry, file, where)
    return TensorHeader(name, dtype, tuple(shape), file, data + offsets[0], data + offsets[1])


def _wrong(name: str, entry: Any, file: str, where: str) -> SourceError:
    return SourceError(f"{file} of {where} describes the tensor {name!r} wrongly ({str(entry)[:120]}); save it again.")


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MOST_DIMENSIONS
        and all(type(n) is int and 0 <= n < _LARGEST_SIZE for n in value)
    )


def _position(tensor: TensorHeader) -> tuple[int, int, str]:
    return tensor.start, tensor.stop, tensor.name
