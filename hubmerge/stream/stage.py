"""One merge of a plan, and its result as weights for the next one: made block by block as it is read, never written.

A stage's tensors are those that the same recipe alone would write, to the bit.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ..hub.component import Component, Folder, components
from ..hub.source import Source
from ..late import Tensor, torch
from ..methods import Method
from ..methods.blocks import BLOCK, Workspace
from ..methods.method import step_of
from .carried import Carried
from .component import ComponentPlan
from .compute import Merging, Read
from .dtypes import DTYPES
from .spill import Spill
from .tensors import TensorPlan
from .weights import Extent, Reads, Weights


class Needed(NamedTuple):
    """What a stage reads of the models' files: their sources and names there, by file, and the bytes of each, once for
    each time that a tensor is needed. `shares`: the sizes of what output tensors need: bytes, in how many pieces, and
    whether those are read again."""

    files: Mapping[object, tuple[Source, str]]
    sizes: Mapping[object, int]
    shares: frozenset[tuple[int, int, bool]]


@dataclass(frozen=True, eq=False)
class Stage:
    """What one merge reads and makes.

    `name`: of a stage of the recipe, "" for the last merge. `weights`: what is merged; a tensor's inputs name them by
    their place here. `components`: the checkpoints that it makes, the whole result's own first. `tokenizer`: the
    result's small files. `modules`: where parts are merged, the
    merge of each by the part's name; this one puts them together. `is_restacked`: its layers are stacked anew.
    """

    name: str
    method: Method
    weights: tuple[Weights, ...]
    components: tuple[ComponentPlan, ...]
    tokenizer: Carried
    modules: tuple[tuple[str, "Stage"], ...] = ()
    is_restacked: bool = False

    @cached_property
    def tensors(self) -> tuple[TensorPlan, ...]:
        """All that it makes."""
        return tuple(tensor for component in self.components for tensor in component.tensors)

    @property
    def merging(self) -> tuple[TensorPlan, ...]:
        """What its method makes, by the names that filters and layers go by: those of the part, where one is merged."""
        return self.modules[0][1].tensors if len(self.modules) == 1 else self.tensors

    @property
    def untouched(self) -> tuple[TensorPlan, ...]:
        """What is in no merge, and taken as it is."""
        merged = len(self.modules)
        return tuple(one for one in self.tensors if one.carried and one.inputs[0][0] >= merged)

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the whole result."""
        return self.components[0].config

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods that merge it, once each: those of its modules, where it has any."""
        found = [name for _, stage in self.modules for name in stage.methods] or [self.method.name]
        return tuple(dict.fromkeys(found))

    @property
    def carried(self) -> int:
        """How many of its tensors are in no merge, and taken as they are."""
        return len(self.untouched)

    def read(self, reads: Reads) -> Read:
        """How its tensors' inputs are read."""
        here = reads.by(self.measures)
        return lambda index, name, start, stop: self.weights[index].read(name, start, stop, here)

    @property
    def measures(self) -> bool:
        """Whether its method reads each tensor twice."""
        return self.method.reads_twice

    def spills(self, tensor: TensorPlan) -> int:
        """Bytes on disk that making one of its tensors takes: results of stages that are read twice."""
        return sum(self.weights[index].spills(name, self.measures) for index, name in tensor.reads)

    def needs(self, tensor: TensorPlan, start: int, stop: int) -> Iterator[Extent]:
        """What has to be there for these elements of one of its tensors, in the order that it is read in."""
        for index, name in tensor.reads:
            yield from self.weights[index].needs(name, start, stop)

    def needs_all(self, tensor: TensorPlan) -> Iterator[Extent]:
        """What has to be there for one of its tensors, once each."""
        weights, count = self.weights, tensor.parameters
        extents = (one for index, name in tensor.reads for one in weights[index].needs_all(name, count))
        yield from {(one.stored, one.start, one.stop): one for one in extents}.values()

    @cached_property
    def stored(self) -> "Needed":
        """What all its tensors need, found once: a plan asks for it in several ways."""
        files: dict[object, tuple[Source, str]] = {}
        sizes: Counter[object] = Counter()
        shares = set()
        for tensor in self.tensors:
            total = count = 0
            for extent in self.needs_all(tensor):
                start, stop = extent.bytes
                files[extent.file] = extent.source, extent.tensor.file
                sizes[extent.file] += stop - start
                total, count = total + stop - start, count + 1
            shares.add((total, count, self.reads_again(tensor)))
        return Needed(files, sizes, frozenset(shares))

    def reads_again(self, tensor: TensorPlan) -> bool:
        """Whether what one of its tensors needs is read more than once, or in another order than `needs` gives."""
        again = any(self.weights[index].reads_again(name) for index, name in tensor.reads)
        return again or self.measures

    @cached_property
    def block_memory(self) -> int:
        """Bytes that a thread takes at most where it computes."""
        return max((self.method.block_bytes(*_size(tensor)) for tensor in self.tensors), default=0)

    @cached_property
    def memory(self) -> int:
        """Bytes that a thread takes at most."""
        used = {frozenset(index for index, _ in tensor.reads) for tensor in self.tensors}
        reading = max((sum(self.weights[index].memory for index in few) for few in used), default=0)
        return max((self.method.memory(*_size(tensor)) for tensor in self.tensors), default=0) + reading


def _size(tensor: TensorPlan) -> tuple[tuple[int, ...], int]:
    """What the memory of a merge follows from; what is copied is read a block at a time, whatever its shape."""
    return (0,) if tensor.copied else tensor.shape, len(tensor.reads)


@dataclass(frozen=True, eq=False)
class Merged(Weights):
    """The result of a stage."""

    stage: Stage

    @property
    def name(self) -> str:
        """As the recipe has it."""
        return f"stage:{self.stage.name}"

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration that it would be written with."""
        return self.stage.config

    @cached_property
    def tensors(self) -> Mapping[str, TensorPlan]:
        """All that it would write."""
        return {tensor.name: tensor for tensor in self.stage.tensors}

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """Its parts: those in folders of their own, or the language model and what is beside it."""
        folders = {one.folder: Folder(one.config, one.stem) for one in self.stage.components if one.folder}
        return components(self.config, self.tensors, folders)

    @property
    def tokenizer(self) -> Carried:
        """The small files that it would be written with."""
        return self.stage.tokenizer

    @property
    def speaks(self) -> bool:
        """As the convention has it that it would be written by."""
        return self.tokenizer.source.convention.speaks

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What the stage needs for all blocks that these elements lie in."""
        tensor = self.tensors[name]
        first, last = start // BLOCK * BLOCK, min(-(-stop // BLOCK) * BLOCK, tensor.parameters)
        if self.stage.method.unit == "block" or tensor.copied:
            yield from self.stage.needs(tensor, first, last)
            return
        step = step_of(self.stage.method.unit, tensor.shape)
        first, last = first // step * step, min(-(-last // step) * step, tensor.parameters)
        while first < last:
            end = min(last, (first // BLOCK + 1) * BLOCK)
            yield from self.stage.needs(tensor, first, end)
            first = end

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements as they would have been written, computed on the CPU, in whole blocks wherever they begin."""
        tensor = self.tensors[name]
        if (self, name) not in reads.kept:
            reads.kept[self, name] = _Making(self.stage, tensor, reads)
        making: _Making = reads.kept[self, name]
        first = start // BLOCK * BLOCK
        if stop <= first + BLOCK:
            return making.block(first)[start - first : stop - first]
        found = torch.empty(stop - start, dtype=DTYPES[tensor.dtype].torch)
        for at in range(first, stop, BLOCK):
            block = making.block(at)
            begin, end = max(start, at), min(stop, at + BLOCK)
            found[begin - start : end - start] = block[begin - at : end - at]
        return found

    @property
    def memory(self) -> int:
        """What making one of its tensors takes."""
        return self.stage.memory

    def reads_again(self, name: str) -> bool:
        """As the stage says; what a method wants whole rows or all of is asked for by each of its blocks."""
        tensor = self.tensors[name]
        more = self.stage.method.unit != "block" and not tensor.copied
        return more or self.stage.reads_again(tensor)

    def spills(self, name: str, twice: bool) -> int:
        """Its own bytes, where it is kept, and what it takes itself."""
        tensor = self.tensors[name]
        return (tensor.nbytes if twice and _is_work(tensor) else 0) + self.stage.spills(tensor)


def _is_work(tensor: TensorPlan) -> bool:
    """Whether merging a tensor takes longer than writing it down and reading it back."""
    return not tensor.copied and len(tensor.reads) > 1


class _Making:
    """One tensor of a stage, for one reader: made as it is read, and kept where that reader reads twice."""

    def __init__(self, stage: Stage, tensor: TensorPlan, reads: Reads) -> None:
        workspace = Workspace(elements=tensor.parameters)
        self._merging = Merging(stage.method, tensor, stage.read(reads), workspace)
        is_kept = reads.twice and reads.room is not None and _is_work(tensor)
        self._spill = Spill(reads.room, DTYPES[tensor.dtype].torch) if is_kept and reads.room is not None else None

    def block(self, start: int) -> Tensor:
        """As `Merging.block`."""
        if self._spill is None:
            return self._merging.block(start)
        if (kept := self._spill.get(start)) is None:
            kept = self._merging.block(start)
            self._spill.put(start, kept)
        return kept

    def close(self) -> None:
        """Gives the disk back."""
        if self._spill is not None:
            self._spill.close()
