"""A model with the tokens of another: rows of tokens that both have, and sums of such rows for those that it lacks.

A new token's row in the donor is written as a sum of a few rows of shared tokens there (pursuit.py), and the same sum
of the model's own rows stands for it: Goddard and Neto 2025, https://arxiv.org/abs/2506.06607.
"""

import math
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..amounts import duration
from ..layers import is_by_token
from ..methods.blocks import BLOCK
from .compute import one_thread
from .device import cores
from .findings import Finding, error, some, warning
from .kindred import same_tokens
from .pursuit import memory, pursue
from .tensors import FLOAT32_BYTES, TensorPlan
from .views import View, embedding_of
from .vocabulary import Vocabulary
from .weights import Described, Extent, Over, Reads, Weights

_NONE = -1
BATCH = 64
"""New rows that are found at a time; a part of every result, as a matrix product rounds by its size."""

_LONG = 60.0  # seconds that are worth a word
_SMALL = 10**11  # products that are made in a few seconds anywhere


@dataclass(frozen=True, eq=False)
class Grafted:
    """A tensor by the donor's tokens.

    `own`: its name in the model, `donor` and `theirs`: the weights that new rows are read from, and the name there.
    `rows`: by row of the result, which of the model's it is, or -1 for a new one. `tokens`: which row of the donor's
    each is; -1 where there is no such token. `count`: shared rows that a new one is made of, at most.
    """

    plan: TensorPlan
    own: Described
    donor: Weights
    theirs: str
    rows: Tensor
    tokens: Tensor
    count: int

    @property
    def width(self) -> int:
        """Elements of a row."""
        return math.prod(self.own.shape[1:])

    @property
    def donor_width(self) -> int:
        """Elements of a row of the donor's."""
        return math.prod(self.donor.tensors[self.theirs].shape[1:])

    @cached_property
    def new(self) -> Tensor:
        """The rows that are made, in order."""
        return ((self.rows == _NONE) & (self.tokens != _NONE)).nonzero().flatten()

    @cached_property
    def shared(self) -> Tensor:
        """The rows that both have: new ones are made of these."""
        return ((self.rows != _NONE) & (self.tokens != _NONE)).nonzero().flatten()

    @property
    def held(self) -> int:
        """Bytes of both tensors, which are in memory while it is made."""
        return sum(FLOAT32_BYTES * one.parameters for one in (self.own, self.donor.tensors[self.theirs]))


@dataclass(frozen=True, eq=False)
class Transplanted(Over):
    """What `inner` has, with `made`, by name, by the tokens of another model."""

    made: Mapping[str, Grafted]

    @cached_property
    def tensors(self) -> Mapping[str, Described]:
        """Those of `inner`, and those made."""
        return {**self.inner.tensors, **{name: one.plan for name, one in self.made.items()}}

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """All of the model's tensor and of the donor's, for what is made."""
        if (one := self.made.get(name)) is None:
            yield from self.inner.needs(name, start, stop)
            return
        for weights, stored in self._both(one):
            for first, last in _pieces(weights.tensors[stored].parameters):
                yield from weights.needs(stored, first, last)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements: rows as they are, and new ones."""
        if (one := self.made.get(name)) is None:
            return self.inner.read(name, start, stop, reads)
        if (self, name) not in reads.kept:
            read = [_whole(weights, stored, reads) for weights, stored in self._both(one)]
            reads.kept[self, name] = _Making(one, read[0], read[-1] if len(one.new) else None)
        making: _Making = reads.kept[self, name]
        first, last = start // one.width, -(-stop // one.width)
        return making.rows(first, last).view(-1)[start - first * one.width : stop - first * one.width]

    def _both(self, one: Grafted) -> Iterator[tuple[Weights, str]]:
        yield self.inner, one.own.name
        if len(one.new):
            yield one.donor, one.theirs

    def is_stored(self, name: str) -> bool:
        """Whether it is not made."""
        return name not in self.made and self.inner.is_stored(name)

    def spills(self, name: str, twice: bool) -> int:
        """As many as both tensors take."""
        if (one := self.made.get(name)) is None:
            return self.inner.spills(name, twice)
        return sum(weights.spills(stored, twice) for weights, stored in self._both(one))

    @property
    def memory(self) -> int:
        """Both tensors, and what finding rows on all cores takes."""
        most = max(
            (one.held + cores() * memory(one.donor_width, one.count, BATCH) for one in self.made.values()), default=0
        )
        return self.inner.memory + most + BLOCK * FLOAT32_BYTES

    def reads_again(self, name: str) -> bool:
        """Whether it is made: all that it needs is there for its first block."""
        return name in self.made or self.inner.reads_again(name)


def _pieces(elements: int) -> Iterator[tuple[int, int]]:
    for first in range(0, elements, BLOCK):
        yield first, min(first + BLOCK, elements)


def _whole(weights: Weights, name: str, reads: Reads) -> Tensor:
    """All rows of a tensor, in the dtype that it is read in."""
    tensor = weights.tensors[name]
    whole = torch.empty(0)
    for first, last in _pieces(tensor.parameters):
        values = weights.read(name, first, last, reads)
        if first == 0:
            whole = torch.empty(tensor.parameters, dtype=values.dtype)
        whole[first:last] = values
    return whole.view(tensor.shape[0], -1)


class _Making:
    """The rows of one tensor; new ones are found in batches on all cores, a batch a core ahead of their use."""

    def __init__(self, one: Grafted, own: Tensor, theirs: Tensor | None) -> None:
        self._one = one
        self._own = own
        self._theirs = theirs
        self._lock = threading.Lock()
        self._atoms = theirs[one.tokens[one.shared]] if theirs is not None and len(one.new) else torch.empty(0)
        self._place = torch.full((len(one.rows),), _NONE)
        self._place[one.new] = torch.arange(len(one.new))
        self._found: dict[int, Tensor] = {}

    def rows(self, first: int, last: int) -> Tensor:
        """Rows of the result, in the model's dtype where all are its own, else in float32."""
        one = self._one
        rows, place = one.rows[first:last], self._place[first:last]
        found = self._own[rows.clamp(min=0)]
        if bool((rows == _NONE).any()):
            found = found.to(torch.float32)
            found[rows == _NONE] = 0
        for number in place[place != _NONE].div(BATCH, rounding_mode="floor").unique().tolist():
            at = (place >= number * BATCH) & (place < (number + 1) * BATCH)
            found[at] = self._batch(number)[place[at] - number * BATCH]
        return found

    def _batch(self, number: int) -> Tensor:
        with self._lock:
            if number not in self._found:
                last = -(-len(self._one.new) // BATCH)
                numbers = range(number, min(number + cores(), last))
                with ThreadPoolExecutor(len(numbers), "hubmerge-pursuit") as pool:
                    self._found = dict(zip(numbers, pool.map(self._find, numbers), strict=True))
            return self._found[number]

    def _find(self, number: int) -> Tensor:
        one, theirs = self._one, self._theirs
        assert theirs is not None
        new = one.new[number * BATCH : (number + 1) * BATCH]
        chosen, shares = pursue(self._atoms, theirs[one.tokens[new]].to(torch.float32), one.count)
        rows = torch.empty(len(new), one.width)
        for at, (places, share) in enumerate(zip(chosen, shares, strict=True)):
            rows[at] = (share @ self._own[one.rows[one.shared[places]]].double()).to(torch.float32)
        return rows


def transplant(
    vocabulary: Vocabulary, views: Mapping[int, View], ends: Collection[int], count: int
) -> tuple[dict[int, View], list[Finding]]:
    """The views of models by the tokens of `vocabulary`, whose giver is the donor, and what was found."""
    found, findings = dict(views), []
    donor = vocabulary.giver
    for index in ends:
        view = views[index]
        if view.weights is donor:
            continue
        numbering = view.weights.tokenizer.numbering
        if numbering is None:
            findings.append(error(f"The tokens of {view.name} cannot be told: it has no tokenizer.json."))
            continue
        same = same_tokens(vocabulary.numbering, donor, numbering, view.weights)
        made = {name: one for name in view.tensors if (one := _graft(vocabulary, view, name, same, count))}
        found[index] = View(
            Transplanted(view.weights, made), {**view.tensors, **{name: one.plan for name, one in made.items()}}
        )
        findings += _said(view, made, vocabulary, same)
    return found, findings


def _graft(vocabulary: Vocabulary, view: View, name: str, same: Mapping[int, int], count: int) -> Grafted | None:
    """A tensor of a view by the donor's tokens; None for one that has no rows of tokens."""
    own, donor = view.tensors[name], vocabulary.giver
    if not is_by_token(name) or not own.shape:
        return None
    embedding = embedding_of(donor.tensors.values())
    theirs = donor.tensors.get(name) or embedding
    if theirs is None or (len(own.shape) > 1) != (len(theirs.shape) > 1):
        return None
    rows = vocabulary.rows_of(theirs.shape[0])
    own_rows, tokens = torch.full((rows,), _NONE), torch.full((rows,), _NONE)
    for number in vocabulary.numbering.ids.values():
        if number < min(rows, theirs.shape[0]):
            tokens[number] = number
        if number < rows and (place := same.get(number, _NONE)) < own.shape[0]:
            own_rows[number] = place
    plan = TensorPlan(name, (rows, *own.shape[1:]), own.dtype, ())
    return Grafted(plan, own, donor, theirs.name, own_rows, tokens, count)


def _said(
    view: View, made: Mapping[str, Grafted], vocabulary: Vocabulary, same: Mapping[int, int]
) -> Iterator[Finding]:
    donor = vocabulary.giver
    first = next(iter(made.values()), None)
    if first is None:
        yield error(f"{view.name} and {donor.name} have no embedding that could be transplanted.")
        return
    if not len(first.shared):
        yield error(f"{view.name} and {donor.name} have no token in common, of which new ones could be made.")
        return
    new = [text for text, number in vocabulary.numbering.ids.items() if number not in same]
    if not new:
        return
    yield warning(
        f"{len(first.shared):,} of the {len(vocabulary.numbering.ids):,} tokens of {donor.name} are in {view.name} and "
        f"keep their rows; {len(first.new):,} new ones ({some(map(repr, new))}) are each made of up to {first.count} "
        "of them."
    )
    seconds = sum(map(_seconds, made.values()))
    if seconds > _LONG:
        yield warning(
            f"Finding these rows takes about {duration(seconds)} on {cores()} cores; made of fewer rows each, "
            "that much less."
        )


def _seconds(one: Grafted) -> float:
    """How long finding its rows takes on this machine, by two rounds of a small search; 0 where that is not long."""
    rounds = len(one.new) / BATCH * min(one.count, one.donor_width)
    if rounds * BATCH * len(one.shared) * one.donor_width < _SMALL:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    atoms, targets = (torch.randn(rows, one.donor_width, generator=generator) for rows in (2048, BATCH))
    atoms = atoms.to(torch.bfloat16)
    with one_thread():
        began = time.perf_counter()
        pursue(atoms, targets, 2)
        taken = time.perf_counter() - began
    return taken / 2 * rounds * len(one.shared) / len(atoms) / cores()
