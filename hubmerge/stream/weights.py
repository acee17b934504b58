"""What a merge reads: tensors by name, each made of stored ones as it is read.

    Stored(source)            a model as it lies in its files
    Laid(stored)              a model whose file has some tensors in another order of elements (laid.py)
    Dequantised(weights)      a model in few bits, unpacked (dequantised.py)
    Adapted(weights, lora)    what a LoRA adds on top (lora.py)
    Part(weights, component)  a part of a model under the names of a plain one
    Alone(weights, has_words) a part, taken for a model of its own
    Rows(weights, made)       the vocabulary by the tokens of the result (rows.py)
    Transplanted(weights, made)  the vocabulary of another model (transplanted.py)
    Experts(weights, made)    experts of a mixture in one tensor, or in one each (experts.py)
    Statistics(source, ...)   what was measured of a model on texts, beside the models (statistics.py)
    Merged(stage)             the result of an earlier merge, made block by block (stage.py)

Whoever moves bytes - reader, prefetch, budget - asks `needs` and knows no kind of them. A new kind is a class here or
in a file beside (one made of others is `Over` them), and a line in plan.weights_of.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..hub.component import Component, components
from ..hub.headers import TensorHeader
from ..hub.source import Source
from ..late import Tensor
from .carried import Carried
from .dtypes import STORED
from .tensors import TensorPlan


class Described(Protocol):
    """A tensor that can be read: what is known of it before."""

    @property
    def name(self) -> str:
        """Its name among the weights that it belongs to."""

    @property
    def dtype(self) -> str:
        """As safetensors names it ("BF16")."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def parameters(self) -> int:
        """Number of elements."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""


class Extent(NamedTuple):
    """Elements `start` up to but not including `stop` of a tensor that lies in a file of `source`."""

    source: Source
    tensor: TensorHeader
    start: int
    stop: int

    @property
    def stored(self) -> tuple[tuple[str, str], str]:
        """Which stored tensor it is of: equal for a model that is there with and without a LoRA, which is read once."""
        return self.source.place, self.tensor.name

    @property
    def file(self) -> tuple[tuple[str, str], str]:
        """Which file it lies in."""
        return self.source.place, self.tensor.file

    @property
    def bytes(self) -> tuple[int, int]:
        """Where in that file: first byte, and the one after the last."""
        size = STORED[self.tensor.dtype].nbytes
        return self.tensor.start + self.start * size, self.tensor.start + self.stop * size


class Reads:
    """What weights are read through while one output tensor is made, by one thread.

    `stored` gives elements of a stored tensor, flat, in the dtype of its file; not to be changed, and good until the
    next call. `room`: a folder for what is made once and read twice; None: it is made twice. `twice`: whoever reads
    does so twice. `kept`: what weights keep until that output tensor is done.
    """

    def __init__(self, stored: Callable[[Extent], Tensor], room: Path | None = None) -> None:
        self.stored = stored
        self.room = room
        self.twice = False
        self.kept: dict[Any, Any] = {}

    def by(self, twice: bool) -> "Reads":
        """The same for a reader that reads `twice`, or once."""
        same = copy.copy(self)
        same.twice = twice
        return same

    def close(self) -> None:
        """Gives back what is kept, when the output tensor is done: at once, though it may read through this itself."""
        kept = [*self.kept.values()]
        self.kept.clear()
        for one in kept:
            if hasattr(one, "close"):
                one.close()


class Weights(ABC):
    """Tensors that a merge can read."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How messages call them: as the recipe does."""

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """The configuration of a model made of just these tensors."""

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Described]:
        """All of them, by name."""

    @property
    @abstractmethod
    def tokenizer(self) -> Carried:
        """The tokenizer and other small files that go with them."""

    @abstractmethod
    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What has to be there to read the elements `start` up to but not including `stop` of a tensor."""

    @abstractmethod
    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """These elements, flat, in the tensor's dtype or float32; not to be changed, good until the next call."""

    def needs_all(self, name: str, count: int) -> Iterator[Extent]:
        """What has to be there for all `count` elements of a tensor, in pieces as large as can be."""
        yield from self.needs(name, 0, count)

    def is_stored(self, name: str) -> bool:
        """Whether a tensor is read as it lies in its file."""
        return False

    def rounds(self, name: str) -> bool:
        """Whether a tensor is read in finer numbers than it is said to have."""
        return False

    def spills(self, name: str, twice: bool) -> int:
        """Bytes on disk that reading one of their tensors takes, where it is read `twice`."""
        return 0

    @property
    def memory(self) -> int:
        """Bytes that a thread takes at most to read from them, beside what it is given."""
        return 0

    def reads_again(self, name: str) -> bool:
        """Whether what a tensor needs is read more than once, or in another order than `needs` gives it in."""
        return False

    @property
    def whole(self) -> "Part | None":
        """What these are a part of; None where they are a model of their own."""
        return None

    @property
    def components(self) -> Mapping[str, Component]:
        """All parts of them, by name; none of a plain model."""
        return components(self.config, self.tensors)

    @property
    def in_folders(self) -> bool:
        """Whether they are made of checkpoints in folders of their own, each a part of them."""
        return any(part.folder for part in self.components.values())

    @property
    def speaks(self) -> bool:
        """Whether they are a model with a vocabulary, and not a part without one."""
        return True


@dataclass(frozen=True, eq=False)
class Stored(Weights):
    """A model as it lies in its files."""

    source: Source

    @property
    def name(self) -> str:
        """As the recipe has it."""
        return self.source.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The source's."""
        return self.source.config

    @property
    def tensors(self) -> Mapping[str, TensorHeader]:
        """The source's."""
        return self.source.tensors

    @property
    def tokenizer(self) -> Carried:
        """The source's."""
        return Carried(self.source)

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Just these elements."""
        yield Extent(self.source, self.source.tensors[name], start, stop)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """As they are stored."""
        return reads.stored(Extent(self.source, self.source.tensors[name], start, stop))

    def is_stored(self, name: str) -> bool:
        """Always."""
        return True

    @property
    def components(self) -> Mapping[str, Component]:
        """The source's."""
        return self.source.components

    @property
    def speaks(self) -> bool:
        """As the source's convention has it."""
        return self.source.convention.speaks


@dataclass(frozen=True, eq=False)
class Over(Weights):
    """Weights made of others, and in all that they do not say themselves like those."""

    inner: Weights

    @property
    def name(self) -> str:
        """As the recipe has it."""
        return self.inner.name

    @property
    def config(self) -> Mapping[str, Any]:
        """That of `inner`."""
        return self.inner.config

    @property
    def tensors(self) -> Mapping[str, Described]:
        """Those of `inner`."""
        return self.inner.tensors

    @property
    def tokenizer(self) -> Carried:
        """Those of `inner`."""
        return self.inner.tokenizer

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What `inner` needs."""
        yield from self.inner.needs(name, start, stop)

    def rounds(self, name: str) -> bool:
        """As `inner` says."""
        return self.inner.rounds(name)

    def spills(self, name: str, twice: bool) -> int:
        """As many as `inner` takes."""
        return self.inner.spills(name, twice)

    @property
    def memory(self) -> int:
        """As much as `inner` takes."""
        return self.inner.memory

    def reads_again(self, name: str) -> bool:
        """As `inner` says."""
        return self.inner.reads_again(name)

    @property
    def whole(self) -> "Part | None":
        """What `inner` is a part of."""
        return self.inner.whole

    @property
    def components(self) -> Mapping[str, Component]:
        """Those of `inner`."""
        return self.inner.components

    @property
    def speaks(self) -> bool:
        """As `inner` says."""
        return self.inner.speaks


@dataclass(frozen=True, eq=False)
class Part(Over):
    """A part of a model, under the names that its tensors have in a plain model of its kind."""

    component: Component

    @property
    def config(self) -> Mapping[str, Any]:
        """That of a plain model of the kind."""
        return self.component.config

    @cached_property
    def tensors(self) -> Mapping[str, Described]:
        """Its own, by their plain names."""
        return {name: _renamed(self.inner.tensors[inner], name) for name, inner in self.component.names.items()}

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What the whole model needs for it."""
        yield from self.inner.needs(self.component.names[name], start, stop)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """What the whole model has there."""
        return self.inner.read(self.component.names[name], start, stop, reads)

    def is_stored(self, name: str) -> bool:
        """As the whole model says."""
        return self.inner.is_stored(self.component.names[name])

    def rounds(self, name: str) -> bool:
        """As the whole model says."""
        return self.inner.rounds(self.component.names[name])

    def spills(self, name: str, twice: bool) -> int:
        """As many as the whole model takes."""
        return self.inner.spills(self.component.names[name], twice)

    def reads_again(self, name: str) -> bool:
        """As the whole model says."""
        return self.inner.reads_again(self.component.names[name])

    @property
    def whole(self) -> "Part":
        """Itself: it knows the model and its own place there."""
        return self

    @property
    def components(self) -> Mapping[str, Component]:
        """A part has none."""
        return {}


@dataclass(frozen=True, eq=False)
class Alone(Over):
    """A part, taken for a model of its own; `speaks`: whether it has a vocabulary."""

    has_words: bool

    @property
    def whole(self) -> None:
        """Nobody asks for the rest of it here."""
        return None

    @property
    def speaks(self) -> bool:
        """As it was told."""
        return self.has_words

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """What `inner` has."""
        return self.inner.read(name, start, stop, reads)

    def is_stored(self, name: str) -> bool:
        """As `inner` says."""
        return self.inner.is_stored(name)


def _renamed(tensor: Described, name: str) -> Described:
    assert isinstance(tensor, (TensorHeader, TensorPlan))
    return replace(tensor, name=name)
