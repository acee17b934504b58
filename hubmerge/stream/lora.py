"""Weights with a LoRA on top: what it adds is computed block by block, as blocks are read; no copy is made."""

import mmap
import threading
from dataclasses import dataclass, field

from ..errors import SourceError
from ..hub.headers import TensorHeader
from ..hub.lora import Adapter, Factors
from ..late import Tensor, torch
from ..methods.blocks import BLOCK
from .compute import is_finite
from .dtypes import DTYPES
from .laid import in_order
from .weights import Over, Reads


class _File:
    """The factors of a LoRA on this machine, opened when the first is read. Safe for several threads."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None

    def read(self, header: TensorHeader) -> Tensor:
        """A factor in float64. Raises `SourceError` where it cannot be read or has NaN or infinite values."""
        name = self._adapter.name
        with self._lock:
            if self._map is None:
                try:
                    with open(self._adapter.local_path(), "rb") as opened:
                        self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                except OSError as exc:
                    raise SourceError(f"{name} cannot be read ({exc.strerror or exc}); fetch it again.") from exc
        data = bytearray(self._map[header.start : header.stop])
        values = torch.frombuffer(data, dtype=DTYPES[header.dtype].torch)
        if not is_finite(values):
            raise SourceError(f"{header.name} of {name} has NaN or infinite values; this LoRA cannot be merged.")
        return in_order(values, header).to(torch.float64)


@dataclass(frozen=True, eq=False)
class Adapted(Over):
    """What `inner` has, with what `adapter` adds to it: read, a changed tensor is float32.

    The factors are small, and read from a file of their own: nobody else needs to know of them.
    """

    adapter: Adapter
    _file: _File = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_file", _File(self.adapter))

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements with what is added to them, in float32; as they are where nothing is."""
        values = self.inner.read(name, start, stop, reads)
        if name not in self.adapter.changes:
            return values
        if (self, name) not in reads.kept:
            reads.kept[self, name] = self._factors(self.adapter.changes[name])
        left, right = reads.kept[self, name]
        columns = right.shape[1]
        first, last = start // columns, -(-stop // columns)
        added = (left[first:last] @ right).view(-1)[start - first * columns : stop - first * columns]
        return added.add_(values).to(torch.float32)

    def is_stored(self, name: str) -> bool:
        """Whether nothing is added to it."""
        return name not in self.adapter.changes and self.inner.is_stored(name)

    def rounds(self, name: str) -> bool:
        """Whether something is added to it."""
        return name in self.adapter.changes or self.inner.rounds(name)

    @property
    def memory(self) -> int:
        """The factors of one tensor, and a block in float64 and float32."""
        held = max(one.a.parameters + one.b.parameters for one in self.adapter.changes.values())
        widest = max(one.shape[1] for one in self.adapter.changes.values())
        return self.inner.memory + 2 * 8 * held + 12 * (BLOCK + 2 * widest)

    def _factors(self, factors: Factors) -> tuple[Tensor, Tensor]:
        """Matrices (rows, r) and (r, columns) whose product is added, in float64: rounded to float32 at the end, the
        sum does not depend on the order in which a machine adds."""
        a, b = self._file.read(factors.a), self._file.read(factors.b)
        if factors.rows:
            b = torch.cat([b[start:stop] for start, stop in factors.rows])
        left, right = (a.T.contiguous(), b.T.contiguous()) if factors.turned else (b.flatten(1), a.flatten(1))
        scale = factors.scale if factors.alpha is None else factors.scale * float(self._file.read(factors.alpha))
        if scale == 0 and factors.alpha is not None:
            raise SourceError(f"{factors.alpha.name} of {self.adapter.name} is 0, so it adds nothing; leave it out.")
        return left * scale, right
