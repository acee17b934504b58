"""Weights whose vocabulary tensors are by the tokens of the result: its rows are rows of models, chosen one by one.

Models of two vocabularies have the same token in different rows, or not at all. `Rows` are the weights of one of them
with a row for each token of the result. A row that the model lacks is that of another, the mean of several, or zero.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..late import Tensor, torch
from ..methods.blocks import BLOCK
from .dtypes import DTYPES
from .tensors import FLOAT32_BYTES
from .weights import Described, Extent, Over, Reads, Weights

ZERO, MEAN = -1, -2
"""In place of an origin: the row is zero, or the mean of several."""

SHORTEST = 2**20
"""Bytes. Where rows lie together in runs that are shorter on average, they are scattered: all of a tensor comes from
the Hub sooner than by a request a run."""

FEW = 16
"""Runs that are no burden, however short."""

Pick = tuple[int, int]
"""A row: the place of its tensor among the origins, and its number there."""


@dataclass(frozen=True, eq=False)
class RowTensor:
    """A tensor put together of rows.

    `origins`: what rows are taken of, by weights and name there. `origin` and `row` have an entry a row: which of them,
    and which row there; or `ZERO`, or the `MEAN` of what `means` has for it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    origins: tuple[tuple[Weights, str], ...]
    origin: Tensor
    row: Tensor
    means: Mapping[int, tuple[Pick, ...]]

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.parameters * DTYPES[self.dtype].nbytes

    @property
    def width(self) -> int:
        """Elements of a row; 1 for a bias."""
        return math.prod(self.shape[1:])

    def pieces(self, origin: int) -> Iterator[tuple[int, int]]:
        """The elements of a scattered origin, in the blocks that it is read in."""
        elements = self.describe(origin).parameters
        for first in range(0, elements, BLOCK):
            yield first, min(first + BLOCK, elements)

    def describe(self, origin: int) -> Described:
        """What is known of an origin."""
        weights, name = self.origins[origin]
        return weights.tensors[name]

    @cached_property
    def scattered(self) -> frozenset[int]:
        """The origins whose rows are in so many places that all of the tensor is read."""
        runs = Counter(self.origin[self._starts()].tolist())
        runs.update(origin for picks in self.means.values() for origin, _ in picks)
        found = (one for one in runs if one >= 0)
        return frozenset(one for one in found if runs[one] > FEW + self.describe(one).nbytes // SHORTEST)

    @cached_property
    def repeats(self) -> bool:
        """Whether some row of an origin stands in two places."""
        single = torch.stack([self.origin, self.row], 1)[self.origin >= 0]
        several = [pick for picks in self.means.values() for pick in picks]
        rows = torch.cat([single, torch.tensor(several, dtype=single.dtype).view(-1, 2)])
        return len(rows.unique(dim=0)) < len(rows)

    @cached_property
    def held(self) -> int:
        """Bytes of the origins that are scattered, read at most as float32."""
        return sum(self.describe(one).parameters * FLOAT32_BYTES for one in self.scattered)

    @cached_property
    def read_dtype(self) -> "torch.dtype":
        """What it is read in: its own dtype where all rows are stored in that, else float32."""
        same = all(one[0].is_stored(one[1]) and self.describe(n).dtype == self.dtype for n, one in self._used())
        return DTYPES[self.dtype].torch if same and not self.means else torch.float32

    def _used(self) -> Iterator[tuple[int, tuple[Weights, str]]]:
        for number in self.origin.unique().tolist():
            if number >= 0:
                yield number, self.origins[number]

    @cached_property
    def _runs(self) -> "_Runs":
        starts = self._starts()
        ends = torch.cat([starts[1:], torch.tensor([len(self.origin)])])
        columns = torch.stack([starts, ends, self.origin[starts], self.row[starts]])
        for origin in self.scattered:
            columns = columns[:, columns[2] != origin]
        return _Runs(*columns.tolist())

    def _starts(self) -> Tensor:
        """The rows that do not go on where the row before ended; each mean is one."""
        begins = torch.ones(len(self.origin), dtype=torch.bool)
        changes = self.origin[1:] != self.origin[:-1]
        begins[1:] = changes | ((self.row[1:] != self.row[:-1] + 1) & (self.origin[1:] != ZERO))
        return begins.nonzero().flatten()

    def parts(self, start: int, stop: int) -> Iterator["_Part"]:
        """What the elements `start` up to but not including `stop` are made of, in order.

        Without zeros, and without scattered rows that are no part of a mean.
        """
        runs, first, last = self._runs, start // self.width, -(-stop // self.width)
        for place in range(bisect_right(runs.ends, first), len(runs.starts)):
            begin, end = max(first, runs.starts[place]), min(last, runs.ends[place])
            if begin >= end:
                return
            origin = runs.origins[place]
            if origin >= 0:
                pick = origin, runs.rows[place] + begin - runs.starts[place]
                yield self._part(start, stop, begin, end, pick, 1)
            elif origin == MEAN:
                for pick in self.means[begin]:
                    yield self._part(start, stop, begin, end, pick, len(self.means[begin]))

    def _part(self, start: int, stop: int, begin: int, end: int, pick: Pick, share: int) -> "_Part":
        low, high = max(start, begin * self.width), min(stop, end * self.width)
        first = pick[1] * self.width + low - begin * self.width
        return _Part(pick[0], first, first + high - low, low - start, share)


class _Runs(NamedTuple):
    """Rows that lie together: `starts` to `ends` of the result are as many of `origins`, from `rows` on."""

    starts: list[int]
    ends: list[int]
    origins: list[int]
    rows: list[int]


class _Part(NamedTuple):
    """Elements `first` to `last` of an origin, which go to `at` of what is read: as they are, or one of `share` that
    make a mean."""

    origin: int
    first: int
    last: int
    at: int
    share: int


@dataclass(frozen=True, eq=False)
class Rows(Over):
    """What `inner` has, but for the tensors of its vocabulary, which are `made` of rows."""

    made: Mapping[str, RowTensor]

    @cached_property
    def tensors(self) -> Mapping[str, Described]:
        """Those of `inner`, and what is made of rows."""
        return {**self.inner.tensors, **self.made}

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Its rows in runs; all of each tensor whose rows are scattered."""
        if (tensor := self.made.get(name)) is None:
            yield from self.inner.needs(name, start, stop)
            return
        for origin in sorted(tensor.scattered):
            weights, inner = tensor.origins[origin]
            for first, last in tensor.pieces(origin):
                yield from weights.needs(inner, first, last)
        for part in tensor.parts(start, stop):
            if part.origin not in tensor.scattered:
                weights, inner = tensor.origins[part.origin]
                yield from weights.needs(inner, part.first, part.last)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements, run by run; of scattered rows from a tensor that is read once, and kept."""
        if (tensor := self.made.get(name)) is None:
            return self.inner.read(name, start, stop, reads)
        width, first, last = tensor.width, start // tensor.width, -(-stop // tensor.width)
        rows = torch.zeros(last - first, width, dtype=tensor.read_dtype)
        for origin in tensor.scattered:
            at = (tensor.origin[first:last] == origin).nonzero().flatten()
            if len(at):
                rows[at] = _whole(tensor, origin, reads).view(-1, width)[tensor.row[first:last][at]].to(rows.dtype)
        found = rows.view(-1)[start - first * width : stop - first * width]
        for part in tensor.parts(start, stop):
            if part.origin in tensor.scattered:
                values = _whole(tensor, part.origin, reads)[part.first : part.last]
            else:
                weights, inner = tensor.origins[part.origin]
                values = weights.read(inner, part.first, part.last, reads)
            target = found[part.at : part.at + part.last - part.first]
            if part.share == 1:
                target.copy_(values)
            else:
                target.add_(values.to(torch.float32), alpha=1 / part.share)
        return found

    def is_stored(self, name: str) -> bool:
        """Whether it is stored, and not made of rows."""
        return name not in self.made and self.inner.is_stored(name)

    def spills(self, name: str, twice: bool) -> int:
        """As many as all that its rows are of takes."""
        if (tensor := self.made.get(name)) is None:
            return self.inner.spills(name, twice)
        return sum(weights.spills(inner, twice) for weights, inner in tensor.origins if inner)

    @property
    def memory(self) -> int:
        """A block of rows, and what is read once and kept."""
        held = max((tensor.held for tensor in self.made.values()), default=0)
        return self.inner.memory + BLOCK * FLOAT32_BYTES + held

    def reads_again(self, name: str) -> bool:
        """Whether its rows are scattered, one stands in two places, or one of their tensors is read more than once."""
        if (tensor := self.made.get(name)) is None:
            return self.inner.reads_again(name)
        return (
            bool(tensor.scattered)
            or tensor.repeats
            or any(weights.reads_again(inner) for weights, inner in tensor.origins if inner)
        )


def _whole(tensor: RowTensor, origin: int, reads: Reads) -> Tensor:
    """All of an origin, flat; kept while one output tensor is made."""
    weights, name = tensor.origins[origin]
    key = "whole", weights, name
    if key not in reads.kept:
        whole = torch.empty(0)
        for first, last in tensor.pieces(origin):
            values = weights.read(name, first, last, reads)
            if first == 0:
                whole = torch.empty(tensor.describe(origin).parameters, dtype=values.dtype)
            whole[first:last] = values
        reads.kept[key] = whole
    kept: Tensor = reads.kept[key]
    return kept
