"""Weights that are stored in few bits, unpacked as they are read: a block at a time, in float32.

What of the stored tensors a block takes says `Packed` (hub/quantised/); what comes of it, unpacking/.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ..errors import SourceError
from ..hub.headers import DTYPE_BITS, TensorHeader
from ..hub.quantised.packed import Packed, Part, Quantised
from ..late import Tensor, torch
from ..methods.blocks import BLOCK
from .compute import is_finite
from .dtypes import STORED
from .tensors import FLOAT32_BYTES
from .unpacking.kinds import unpack
from .unpacking.unfit import Unfit
from .weights import Extent, Over, Reads

_LARGE = 4096
"""Elements. What larger units are unpacked from is kept until others are read."""
_COPIES = 8
"""Of a block, in float32, while it is unpacked."""


@dataclass(frozen=True, eq=False)
class Dequantised(Over):
    """What `inner` stores in few bits, in float32, with the dtype that the model has otherwise; the rest as it is."""

    quantised: Quantised

    @cached_property
    def tensors(self) -> Mapping[str, TensorHeader]:
        """All weights, and nothing that they are only unpacked from."""
        return self.quantised.weights(self.inner.tensors)  # type: ignore[arg-type]

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What belongs to the units that these elements lie in, and all parts that are kept."""
        if (packed := self.quantised.by_name.get(name)) is None:
            yield from self.inner.needs(name, start, stop)
            return
        units = _units(packed, start, stop)
        for part in _in_order(packed):
            for first, last in _pieces(part, units):
                yield from self.inner.needs(part.tensor.name, first, last)

    def needs_all(self, name: str, count: int) -> Iterator[Extent]:
        """Each part whole: block by block, a plan of very many tensors would take as long again."""
        if (packed := self.quantised.by_name.get(name)) is None:
            yield from self.inner.needs_all(name, count)
            return
        units = _units(packed, 0, count)
        for part in _in_order(packed):
            yield from self.inner.needs(part.tensor.name, *_span(part, units))

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements, unpacked."""
        if (packed := self.quantised.by_name.get(name)) is None:
            return self.inner.read(name, start, stop, reads)
        units = _units(packed, start, stop)
        parts = {role: self._part(part, units, reads) for role, part in _kept(packed).items()}
        try:
            found = unpack(packed, parts | self._of_units(name, packed, units, reads), units[0], start, stop)
        except Unfit as exc:
            raise SourceError(f"{name} of {self.name} {exc}; fetch the model again.") from None
        if not is_finite(found):
            raise SourceError(
                f"{name} of {self.name} has NaN or infinite values; merge another copy or revision of it."
            )
        return found

    def _of_units(self, name: str, packed: Packed, units: tuple[int, int], reads: Reads) -> dict[str, Tensor]:
        key = self, name
        if packed.unit > _LARGE and key in reads.kept and reads.kept[key][0] == units:
            parts: dict[str, Tensor] = reads.kept[key][1]
            return parts
        reads.kept.pop(key, None)
        parts = {r: self._part(part, units, reads) for r, part in packed.parts.items() if part.per_unit is not None}
        if packed.unit > _LARGE:
            reads.kept[key] = units, parts
        return parts

    def _part(self, part: Part, units: tuple[int, int], reads: Reads) -> Tensor:
        """A part in the dtype of its file: what the units take of it, or all of it, which is kept."""
        name, kept = part.tensor.name, part.per_unit is None
        if kept and (self, name) in reads.kept:
            whole: Tensor = reads.kept[self, name]
            return whole
        first, last = _span(part, units)
        found = torch.empty(last - first, dtype=STORED[part.tensor.dtype].torch)
        for begin, end in _pieces(part, units):
            found[begin - first : end - first] = self.inner.read(name, begin, end, reads)
        if kept:
            reads.kept[self, name] = found
        return found

    def is_stored(self, name: str) -> bool:
        """Whether it is not in few bits."""
        return name not in self.quantised.by_name and self.inner.is_stored(name)

    def rounds(self, name: str) -> bool:
        """Whether it is in few bits."""
        return name in self.quantised.by_name or self.inner.rounds(name)

    def reads_again(self, name: str) -> bool:
        """Whether a block does not end where a unit does, or a stored tensor is read more than once."""
        if (packed := self.quantised.by_name.get(name)) is None:
            return self.inner.reads_again(name)
        return BLOCK % packed.unit > 0 or any(self.inner.reads_again(p.tensor.name) for p in packed.parts.values())

    @property
    def memory(self) -> int:
        """What is kept of a tensor, and a block in the making."""
        return self.inner.memory + max(map(_memory, self.quantised.by_name.values()))


def _memory(packed: Packed) -> int:
    units = -(-BLOCK // packed.unit) + 1 if packed.unit > _LARGE else 0
    held = 0
    for part in packed.parts.values():
        count = part.tensor.parameters if part.per_unit is None else min(units * part.per_unit, part.tensor.parameters)
        held += count * DTYPE_BITS[part.tensor.dtype] // 8
    return held + FLOAT32_BYTES * _COPIES * (max(BLOCK, packed.at_once) + 2 * packed.shape[-1])


def _kept(packed: Packed) -> dict[str, Part]:
    return {role: part for role, part in packed.parts.items() if part.per_unit is None}


def _in_order(packed: Packed) -> list[Part]:
    """The parts as they are read: first those that are kept."""
    return sorted(packed.parts.values(), key=lambda part: part.per_unit is not None)


def _units(packed: Packed, start: int, stop: int) -> tuple[int, int]:
    return start // packed.unit, -(-stop // packed.unit)


def _span(part: Part, units: tuple[int, int]) -> tuple[int, int]:
    """Which elements of a part these units take."""
    if part.per_unit is None:
        return 0, part.tensor.parameters
    return units[0] * part.per_unit, min(units[1] * part.per_unit, part.tensor.parameters)


def _pieces(part: Part, units: tuple[int, int]) -> Iterator[tuple[int, int]]:
    first, last = _span(part, units)
    for begin in range(first, last, BLOCK):
        yield begin, min(begin + BLOCK, last)
