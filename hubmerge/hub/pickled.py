"""Weights that torch.save wrote: which tensors lie where, known without a weight read and without running any of it.

The file is a zip archive: data.pkl, a pickle of the tensors' names, shapes and places, and one member a storage.
Source: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import SourceError
from .archive import Member, locate, read_directory, start_of
from .headers import DTYPE_BITS, LONGEST_NAME, MOST_DIMENSIONS, MOST_TENSORS, ReadRange, TensorHeader
from .unpickler import LARGEST, Call, Named, Refuse, Unpickler

MOST_SHARED = 16
"""How many times the size of a file its tensors may have together; tied ones lie in one place."""

_STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
    "torch.ComplexFloatStorage": "C64",
}
_UNTYPED = "torch.storage.UntypedStorage"
# Those without a storage of their own kind.
_DTYPES = {
    "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e8m0fnu": "F8_E8M0",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
}
_KINDS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")
"""What files of torch before 1.6 begin with, after two bytes: its magic number as a pickle."""

_AGAIN = "load it where you trust it and save it with safetensors or torch.save again, or use another revision"
_SLACK = 4096
_LARGEST_SIZE = 2**63


class _Storage(NamedTuple):
    """A member of the archive. `dtype`: None where each tensor says its own."""

    key: str
    dtype: str | None
    elements: int


@dataclass(frozen=True)
class _Tensor:
    """What a pickle says of a tensor; all in elements."""

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BITS[self.dtype] // 8

    @property
    def span(self) -> int:
        """Elements from its first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def in_order(self) -> bool:
        """Whether its elements lie one after another."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return 0 in self.shape
            expected *= size
        return True

    @property
    def overlaps(self) -> bool:
        """Whether some of its elements lie in one place."""
        reach = 0
        for stride, size in sorted(zip(self.strides, self.shape, strict=True)):
            if size > 1:
                if stride <= reach:
                    return True
                reach += (size - 1) * stride
        return False


def read_pickled(read: ReadRange, file: str, size: int, where: str) -> tuple[TensorHeader, ...]:
    """The tensors of one file of torch.save's, in the order of their bytes, read with three or four small reads.

    `size` is the file's size in bytes; `where` names the model in messages. Raises `SourceError` for a file of
    another kind, one that is damaged, and one that holds anything but tensors.
    """

    def refuse(why: str) -> SourceError:
        return SourceError(f"{file} of {where} is not read: {why}; {_AGAIN}.")

    if size == 0:
        raise SourceError(f"{file} of {where} has only 0 bytes; it was cut short, so fetch it again.")
    seen = _Seen(read, size)
    members = read_directory(seen.read, size, refuse)
    if members is None:
        raise _other_kind(bytes(seen.read(0, min(size, 512))), file, where)
    prefix, pickle = _find_pickle(members, refuse)
    described = _describe(seen.member(pickle, refuse), refuse)
    if (order := members.get(f"{prefix}byteorder")) is not None and seen.member(order, refuse) != b"little":
        raise refuse("it was saved on a machine of another byte order (big endian)")
    storages = {tensor.storage: members.get(f"{prefix}data/{tensor.storage.key}") for tensor in described.values()}
    for storage, member in storages.items():
        _check_storage(storage, member, file, where, refuse)
    needed = {member.name: member for member in storages.values() if member is not None}
    starts = locate(list(needed.values()), seen.read, refuse)
    headers = []
    for name, tensor in described.items():
        start = starts[f"{prefix}data/{tensor.storage.key}"]
        headers.append(_header(name, tensor, start, file))
    if sum(tensor.nbytes for tensor in described.values()) > MOST_SHARED * size:
        raise refuse(f"its tensors share their bytes more than {MOST_SHARED} times over")
    return tuple(sorted(headers, key=lambda header: (header.start, header.stop, header.name)))


class _Seen:
    """Reads a file by range, and nothing small twice."""

    def __init__(self, read: ReadRange, size: int) -> None:
        self._read, self._size = read, size
        self._known: list[tuple[int, bytes]] = []

    def read(self, start: int, stop: int, further: int = 0) -> bytes:
        """These bytes; where they are asked for, with as many more behind them."""
        for begin, content in self._known:
            if begin <= start and stop <= begin + len(content):
                return content[start - begin : stop - begin]
        content = bytes(self._read(start, min(stop + further, self._size)))
        self._known.append((start, content))
        return content[: stop - start]

    def member(self, member: Member, refuse: Refuse) -> bytes:
        """The content of a small member."""
        if not member.plain:
            raise refuse(f"{member.name[:60]!r} in it is compressed")
        if member.size > LARGEST:
            raise refuse(f"{member.name[:60]!r} in it has {member.size:,} bytes, and at most {LARGEST:,} are read")
        # With its header in one go, and with what follows, which is small and wanted next.
        self.read(member.header, min(member.limit, member.earliest + member.size + _SLACK), _SLACK)
        start = start_of(member, self.read, refuse)
        return self.read(start, start + member.size)


def _other_kind(head: bytes, file: str, where: str) -> SourceError:
    if head.startswith(b"version https://git-lfs"):
        return SourceError(
            f"{file} of {where} is a Git LFS pointer, not the weights; run `git lfs pull` in the folder."
        )
    if head.startswith(b"PK\3\4"):
        return SourceError(f"{file} of {where} has no directory at its end; it was cut short, so fetch it again.")
    if head[2:].startswith(_LEGACY) or head[257:262] == b"ustar":
        return SourceError(
            f"{file} of {where} is in the format of PyTorch before 1.6, whose weights cannot be read without running "
            f"what it holds; {_AGAIN}."
        )
    return SourceError(
        f"{file} of {where} is not a file that torch.save writes; expected a zip archive of tensors, or safetensors."
    )


def _find_pickle(members: Mapping[str, Member], refuse: Refuse) -> tuple[str, Member]:
    found = [member for name, member in members.items() if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(found) != 1:
        raise refuse(f"it is a zip archive with {len(found)} files named data.pkl, where torch.save writes one")
    prefix = found[0].name.removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in members:
        raise refuse("it is a TorchScript program, not weights alone")
    return prefix, found[0]


def _describe(pickle: bytes, refuse: Refuse) -> dict[str, _Tensor]:
    """The tensors that a pickle names."""
    calls = _Calls(refuse)
    found = Unpickler(pickle, calls.names, calls.storage, refuse).load()
    if not isinstance(found, dict) or not found:
        raise refuse("it holds no tensors by name")
    if len(found) > MOST_TENSORS:
        raise refuse(f"it names {len(found):,} tensors, and at most {MOST_TENSORS:,} a file are read")
    for name, value in found.items():
        shown = str(name)[:60]
        if isinstance(value, dict):
            raise refuse(f"{shown!r} in it holds further values, as files of a training do, where tensors are expected")
        if not isinstance(value, _Tensor):
            raise refuse(f"{shown!r} in it is no tensor")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "\0" in name:
            raise refuse(f"{shown!r} in it is no name of a tensor (text of 1 to {LONGEST_NAME} characters)")
    return found


class _Calls:
    """What the calls in a pickle of tensors describe; `names` is all that such a pickle may name."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse
        self.names: Mapping[str, Call | None] = {
            "collections.OrderedDict": _empty,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch._utils._rebuild_parameter_with_state": self._parameter,
            "torch._tensor._rebuild_from_type_v2": self._of_type,
            **dict.fromkeys([*_STORAGES, _UNTYPED, *_DTYPES, *_KINDS]),
        }

    def storage(self, described: Any) -> _Storage:
        kind, storage, key, _, elements = described
        if kind != "storage" or not isinstance(key, str) or not isinstance(storage, Named):
            raise TypeError
        if storage.name not in _STORAGES and storage.name != _UNTYPED:
            raise TypeError
        return _Storage(key, _STORAGES.get(storage.name), _size(elements))

    def _tensor(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        needs_gradient: Any = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> _Tensor:
        if not isinstance(storage, _Storage) or storage.dtype is None:
            raise TypeError
        self._plain(needs_gradient, hooks, metadata)
        return self._checked(storage, storage.dtype, offset, shape, strides)

    def _typed_tensor(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        needs_gradient: Any,
        hooks: Any,
        dtype: Any,
        metadata: Any = None,
    ) -> _Tensor:
        if not isinstance(storage, _Storage) or not isinstance(dtype, Named) or dtype.name not in _DTYPES:
            raise TypeError
        self._plain(needs_gradient, hooks, metadata)
        return self._checked(storage, _DTYPES[dtype.name], offset, shape, strides)

    def _plain(self, needs_gradient: Any, hooks: Any, metadata: Any = None) -> None:
        """What else is said of a tensor may not change its numbers; torch writes no hooks at all."""
        if type(needs_gradient) is not bool or hooks or (metadata is not None and not isinstance(metadata, dict)):
            raise TypeError
        if metadata:
            # A view that torch negates or conjugates as it is read: its numbers are not those in the file.
            said = " and ".join(str(key)[:20] for key in list(metadata)[:2])
            raise self._refuse(f"a tensor in it is a view that is changed as it is read ({said})")

    def _checked(self, storage: _Storage, dtype: str, offset: Any, shape: Any, strides: Any) -> _Tensor:
        tensor = _Tensor(storage, dtype, _size(offset), _sizes(shape), _sizes(strides))
        room = storage.elements if storage.dtype is not None else storage.elements * 8 // DTYPE_BITS[dtype]
        if len(tensor.shape) != len(tensor.strides):
            raise ValueError
        if tensor.offset + tensor.span > room:
            raise self._refuse(f"a tensor of shape {list(tensor.shape)[:8]} in it reaches beyond its storage")
        if not tensor.in_order and tensor.overlaps:
            raise self._refuse(f"a tensor of shape {list(tensor.shape)[:8]} in it has elements that overlap")
        return tensor

    def _parameter(self, tensor: Any, needs_gradient: Any, hooks: Any, state: Any = None) -> _Tensor:
        # `state`: attributes that a program set on it, which are no weights.
        if not isinstance(tensor, _Tensor):
            raise TypeError
        self._plain(needs_gradient, hooks)
        return tensor

    def _of_type(self, call: Any, kind: Any, arguments: Any, state: Any) -> Any:
        # A tensor with attributes of its own, which are no weights.
        if not isinstance(call, Named) or not isinstance(kind, Named) or kind.name not in _KINDS:
            raise TypeError
        if call.name not in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"):
            raise TypeError
        if not isinstance(arguments, tuple):
            raise TypeError
        made = self.names[call.name]
        assert made is not None
        return made(*arguments)


def _empty() -> dict[Any, Any]:
    """An OrderedDict as it is saved: made empty and filled afterwards, so that no argument is copied or hashed."""
    return {}


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST_SIZE:
        raise ValueError
    return value


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > MOST_DIMENSIONS:
        raise ValueError
    return tuple(map(_size, values))


def _check_storage(storage: _Storage, member: Member | None, file: str, where: str, refuse: Refuse) -> None:
    if member is None:
        raise SourceError(
            f"{file} of {where} lacks the storage {storage.key[:40]!r}; it is damaged, so fetch it again."
        )
    if not member.plain:
        raise refuse("its weights are compressed, so that they cannot be read in parts")
    nbytes = storage.elements if storage.dtype is None else storage.elements * DTYPE_BITS[storage.dtype] // 8
    if member.size != nbytes:
        raise refuse(f"its storage {storage.key[:40]!r} should have {nbytes:,} bytes and has {member.size:,}")


def _header(name: str, tensor: _Tensor, start: int, file: str) -> TensorHeader:
    size = DTYPE_BITS[tensor.dtype] // 8
    begin = start + tensor.offset * size
    header = TensorHeader(name, tensor.dtype, tensor.shape, file, begin, begin + tensor.span * size)
    return header if tensor.in_order else replace(header, strides=tensor.strides)
