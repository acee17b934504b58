"""Weights with a LoRA on top: what it adds is computed block by block, as blocks are read; no copy is made."""

import mmap
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import SourceError
from ..hub.adapter import Factors
from ..hub.headers import TensorHeader
from ..hub.source import Source
from ..methods.blocks import BLOCK
from .compute import is_finite
from .dtypes import DTYPES


class Adapted:
    """Adds what the adapters of `sources` add. Safe for several threads, each of which keeps the factors that it used
    last."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._files: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()
        self._kept = threading.local()

    def add(self, index: int, name: str, start: int, values: Tensor) -> Tensor:
        """The stored elements `values` of a tensor, from `start` on, flat, with what the source's adapter adds to them.

        That is float32 where it adds something, else `values` themselves. Raises `SourceError` for factors that cannot
        be read or have NaN or infinite values.
        """
        adapter = self._sources[index].adapter
        if adapter is None or name not in adapter.changes:
            return values
        left, right = self._factors(index, name, adapter.changes[name])
        columns, stop = right.shape[1], start + values.numel()
        first, last = start // columns, -(-stop // columns)
        added = (left[first:last] @ right).view(-1)[start - first * columns : stop - first * columns]
        return added.add_(values).to(torch.float32)

    def _factors(self, index: int, name: str, factors: Factors) -> tuple[Tensor, Tensor]:
        """Matrices (rows, r) and (r, columns) whose product is added, in float64: rounded to float32 at the end, the
        sum does not depend on the order in which a machine adds."""
        kept: dict[int, tuple[str, Tensor, Tensor]] = self._kept.__dict__.setdefault("factors", {})
        if index not in kept or kept[index][0] != name:
            a, b = (self._read(index, header) for header in (factors.a, factors.b))
            left, right = (a.T.contiguous(), b.T.contiguous()) if factors.turned else (b, a)
            kept[index] = name, left * factors.scale, right
        return kept[index][1:]

    def _read(self, index: int, header: TensorHeader) -> Tensor:
        adapter = self._sources[index].adapter
        assert adapter is not None
        with self._lock:
            if index not in self._files:
                try:
                    with open(adapter.local_path(), "rb") as opened:
                        self._files[index] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                except OSError as exc:
                    raise SourceError(
                        f"{adapter.name} cannot be read ({exc.strerror or exc}); fetch it again."
                    ) from exc
        data = bytearray(self._files[index][header.start : header.stop])
        values = torch.frombuffer(data, dtype=DTYPES[header.dtype].torch)
        if not is_finite(values):
            raise SourceError(
                f"{header.name} of {adapter.name} has NaN or infinite values; this LoRA cannot be merged."
            )
        return values.view(header.shape).to(torch.float64)


def adapting_memory(sources: Sequence[Source]) -> int:
    """Bytes that a thread takes at most to add what adapters add: their factors, and a block in float64 and float32."""
    changes = [list(source.adapter.changes.values()) for source in sources if source.adapter is not None]
    held = sum(max(one.rank * sum(one.shape) for one in factors) for factors in changes)
    widest = max((one.shape[1] for factors in changes for one in factors), default=0)
    return 2 * 8 * held + 12 * (BLOCK + 2 * widest) if changes else 0
