"""Experts of a mixture, one tensor each or all in one, as transformers has them in files and in memory.

Where the first of the merged models has them the one way and another the other, the other's are seen the first's way:
both lie in the same order, all of one tensor being the others one after another.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from ..late import Tensor, torch
from .dtypes import DTYPES
from .findings import Finding, warning
from .weights import Described, Extent, Over, Reads, Weights

# Which of its tensors each fused one is made of: gate and up one after another, and down alone. Mixtral numbers them.
_FUSED = {"gate_up_proj": (("gate_proj", "w1"), ("up_proj", "w3")), "down_proj": (("down_proj", "w2"),)}
_SINGLE = re.compile(r"(.+\.experts)\.(\d{1,5})\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
_TOGETHER = re.compile(r"(.+\.experts)\.(gate_up_proj|down_proj)")


class Piece(NamedTuple):
    """Elements `start` to `stop` of a tensor."""

    name: str
    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Pieced:
    """A tensor whose elements are those of `pieces`, one after another."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.parameters * DTYPES[self.dtype].nbytes

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(piece.length for piece in self.pieces))

    def parts(self, start: int, stop: int) -> Iterator[Piece]:
        """What these elements are made of."""
        for piece, end in zip(self.pieces, self._ends, strict=True):
            begin = end - piece.length
            low, high = max(start, begin), min(stop, end)
            if low < high:
                yield Piece(piece.name, piece.start + low - begin, piece.start + high - begin)


@dataclass(frozen=True, eq=False)
class Experts(Over):
    """What `inner` has, but for its experts, which are `made` of pieces."""

    made: Mapping[str, Pieced]

    @cached_property
    def tensors(self) -> Mapping[str, Described]:
        """Those of `inner` that no piece is of, and what is made."""
        used = {piece.name for tensor in self.made.values() for piece in tensor.pieces}
        return {**{name: one for name, one in self.inner.tensors.items() if name not in used}, **self.made}

    def _parts(self, name: str, start: int, stop: int) -> Iterator[Piece]:
        if (tensor := self.made.get(name)) is None:
            yield Piece(name, start, stop)
        else:
            yield from tensor.parts(start, stop)

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What its pieces need."""
        for part in self._parts(name, start, stop):
            yield from self.inner.needs(*part)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """Its pieces, one after another."""
        parts = list(self._parts(name, start, stop))
        if len(parts) == 1:
            return self.inner.read(*parts[0], reads)
        return torch.cat([self.inner.read(*part, reads).clone() for part in parts])

    def _names(self, name: str) -> list[str]:
        tensor = self.made.get(name)
        return [name] if tensor is None else list(dict.fromkeys(piece.name for piece in tensor.pieces))

    def is_stored(self, name: str) -> bool:
        """Whether all its pieces are."""
        return all(map(self.inner.is_stored, self._names(name)))

    def rounds(self, name: str) -> bool:
        """Whether one of its pieces is."""
        return any(map(self.inner.rounds, self._names(name)))

    def reads_again(self, name: str) -> bool:
        """Whether one of its pieces is."""
        return any(map(self.inner.reads_again, self._names(name)))

    def spills(self, name: str, twice: bool) -> int:
        """As many as its pieces take."""
        return sum(self.inner.spills(one, twice) for one in self._names(name))


def with_experts_of_first(weights: Mapping[int, Weights]) -> tuple[dict[int, Weights], list[Finding]]:
    """The weights, each with its experts as the first has them, and what was found."""
    found: dict[int, Weights] = {}
    findings: list[Finding] = []
    fused: bool | None = None
    for number, (index, one) in enumerate(weights.items()):
        own = _is_fused(one.tensors)
        if number == 0:
            fused = own
        made = {} if fused is None or own is None or own == fused else (_together if fused else _apart)(one.tensors)
        found[index] = Experts(one, made) if made else one
        if made:
            how = "in one tensor" if fused else "in a tensor each"
            findings.append(
                warning(f"{one.name} stores its experts otherwise than the first model; they are read {how}.")
            )
    return found, findings


def each_apart(weights: Weights) -> Weights:
    """The weights with a tensor for each expert, however they store them."""
    made = _apart(weights.tensors)
    return Experts(weights, made) if made else weights


def _is_fused(tensors: Mapping[str, Described]) -> bool | None:
    """Whether all experts of a layer are in one tensor; None where there are none."""
    if any(map(_SINGLE.fullmatch, tensors)):
        return False
    return True if any(map(_TOGETHER.fullmatch, tensors)) else None


def _together(tensors: Mapping[str, Described]) -> dict[str, Pieced]:
    """Tensors of experts in one, where all of a layer's are of one shape and dtype."""
    layers: dict[str, dict[int, dict[str, Described]]] = {}
    for name, tensor in tensors.items():
        if single := _SINGLE.fullmatch(name):
            layers.setdefault(single[1], {}).setdefault(int(single[2]), {})[single[3]] = tensor
    made = {}
    for layer, experts in layers.items():
        for fused, kinds in _FUSED.items():
            parts = [_one_of(experts.get(number, {}), names) for number in range(len(experts)) for names in kinds]
            stored = [part for part in parts if part is not None and len(part.shape) == 2]
            if len(stored) < len(parts) or len({(part.shape, part.dtype) for part in stored}) > 1:
                return {}
            (rows, columns), name = stored[0].shape, f"{layer}.{fused}"
            shape = len(experts), rows * len(kinds), columns
            pieces = tuple(Piece(part.name, 0, part.parameters) for part in stored)
            made[name] = Pieced(name, stored[0].dtype, shape, pieces)
    return made


def _one_of(tensors: Mapping[str, Described], names: Sequence[str]) -> Described | None:
    return next((tensors[name] for name in names if name in tensors), None)


def _apart(tensors: Mapping[str, Described]) -> dict[str, Pieced]:
    """A tensor for each expert, gate and up apart."""
    made = {}
    for name, tensor in tensors.items():
        fused = _TOGETHER.fullmatch(name)
        if fused is None or len(tensor.shape) != 3:
            continue
        experts, rows, columns = tensor.shape
        kinds = _FUSED[fused[2]]
        size = rows // len(kinds) * columns
        for number in range(experts * len(kinds)):
            expert, kind = divmod(number, len(kinds))
            single = f"{fused[1]}.{expert}.{kinds[kind][0]}.weight"
            piece = Piece(name, number * size, (number + 1) * size)
            made[single] = Pieced(single, tensor.dtype, (rows // len(kinds), columns), (piece,))
    return made
