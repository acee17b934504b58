"""A network that draws, in a file by its first authors' names, under the names that diffusers has for its tensors.

diffusers converts such files itself, by putting rows of their tensors into others. Here its functions are given the
numbers of the rows in place of the rows: where each goes is known before a weight is read.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import SourceError
from ..extras import require
from ..hub.auto_class import class_of
from .tensors import TensorPlan
from .weights import Described, Extent, Over, Reads, Weights


class Run(NamedTuple):
    """Elements `start` up to but not including `stop` of a tensor in the file."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Converted(Over):
    """`inner` by the names of a `part`: `made` are its tensors, `runs` the elements that each is made of, in order."""

    part: Weights
    made: Mapping[str, TensorPlan]
    runs: Mapping[str, tuple[Run, ...]]

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the part: a file has none."""
        return self.part.config

    @property
    def tensors(self) -> Mapping[str, Described]:
        """By diffusers' names."""
        return self.made

    def _within(self, name: str, start: int, stop: int) -> Iterator[Run]:
        at = 0
        for run in self.runs[name]:
            first, last = max(start, at), min(stop, at + run.stop - run.start)
            if first < last:
                yield Run(run.name, run.start + first - at, run.start + last - at)
            at += run.stop - run.start

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """What the file's own tensors need."""
        for run in self._within(name, start, stop):
            yield from self.inner.needs(*run)

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements, from wherever they lie."""
        runs = list(self._within(name, start, stop))
        if len(runs) == 1:
            return self.inner.read(*runs[0], reads)
        return torch.cat([self.inner.read(*run, reads).clone() for run in runs])

    def is_stored(self, name: str) -> bool:
        """It has another name there."""
        return False

    def rounds(self, name: str) -> bool:
        """As the file's own tensors do."""
        return any(self.inner.rounds(run.name) for run in self.runs[name])

    def spills(self, name: str, twice: bool) -> int:
        """As many as the file's own tensors take."""
        return sum(self.inner.spills(run.name, twice) for run in self.runs[name])

    def reads_again(self, name: str) -> bool:
        """As the file's own tensors say."""
        return any(self.inner.reads_again(run.name) for run in self.runs[name])


def is_one_file(weights: Weights) -> bool:
    """Whether they lie in one file by their first authors' names."""
    return weights.tokenizer.source.convention.settings is None


def converted(inner: Weights, part: Weights) -> Converted:
    """What `inner`, by its first authors' names, is by the names of a `part` of a pipeline. Raises `SourceError` where
    diffusers has no conversion for it, or one that does more than to move rows.
    """
    require("diffusers")
    config, expected = part.config, part.tensors
    kind, what = class_of(config), f"{inner.name} has its first authors' names"
    convert = _conversion(kind)
    if convert is None:
        raise SourceError(
            f"{what}, and diffusers converts none to those of a {kind or config.get('model_type')} but with all "
            "weights in memory; convert it with its save_pretrained first."
        )
    names = list(inner.tensors)
    rows = [tensor.shape[0] if tensor.shape else 1 for tensor in inner.tensors.values()]
    begins = [0, *accumulate(rows)]
    numbers = {
        name: torch.arange(begin, begin + count).view(-1, *[1] * (len(tensor.shape) - 1))
        for (name, tensor), begin, count in zip(inner.tensors.items(), begins, rows, strict=False)
    }
    try:
        moved: Mapping[str, Tensor] = convert(checkpoint=numbers, config=dict(config))
    except Exception as exc:  # of diffusers, which trips over strangers' names in many ways
        told = (str(exc) or "nothing more is told").splitlines()[0][:100]
        raise SourceError(f"{what}, and diffusers does not convert them ({type(exc).__name__}: {told}).") from exc
    if missing := [name for name in expected if name not in moved]:
        raise SourceError(
            f"{what}, and lacks {missing[0]} after diffusers' conversion; choose a model of the same kind."
        )
    made: dict[str, TensorPlan] = {}
    runs: dict[str, tuple[Run, ...]] = {}
    for name, tensor in expected.items():
        order = moved[name].reshape(-1)
        if order.numel() != max(1, moved[name].shape[0] if moved[name].shape else 1):
            raise SourceError(
                f"{what}, and diffusers' conversion turns {name}; convert it with its save_pretrained first."
            )
        runs[name] = tuple(_runs(order, names, begins, inner.tensors))
        found = sum(run.stop - run.start for run in runs[name])
        if found != tensor.parameters:
            raise SourceError(
                f"{what}; {name} has {found:,} elements there, and {tensor.parameters:,} in the pipeline."
            )
        made[name] = TensorPlan(name, tensor.shape, inner.tensors[runs[name][0].name].dtype, ())
    return Converted(inner, part, made, runs)


def _conversion(kind: str | None) -> Callable[..., Any] | None:
    """diffusers' own function for a class."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    known: Any = SINGLE_FILE_LOADABLE_CLASSES
    found = known.get(kind, {}).get("checkpoint_mapping_fn")
    return found if callable(found) else None


def _runs(order: Tensor, names: list[str], begins: list[int], tensors: Mapping[str, Described]) -> Iterator[Run]:
    """Rows that follow each other, as elements of the tensors that they are of."""
    cuts = ((order[1:] != order[:-1] + 1).nonzero().view(-1) + 1).tolist()
    for at, end in pairwise([0, *cuts, order.numel()]):
        first, last = int(order[at]), int(order[end - 1]) + 1
        while first < last:
            place = bisect_right(begins, first) - 1
            stop, begin = min(last, begins[place + 1]), begins[place]
            tensor = tensors[names[place]]
            a_row = tensor.parameters // (begins[place + 1] - begin)
            yield Run(names[place], (first - begin) * a_row, (stop - begin) * a_row)
            first = stop
