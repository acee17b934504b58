"""One checkpoint that a merge writes: the result itself, or a part of it that lies in a folder of its own."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..hub.checkpoint import CONFIG
from .findings import Finding, error, some
from .shards import ShardPlan, fill_shards
from .tensors import TensorPlan


@dataclass(frozen=True, eq=False)
class ComponentPlan:
    """A checkpoint with a config.json, weight files and an index of its own.

    `folder`: where in the result it lies ("unet"; "" for the result itself), with which the names of its tensors begin
    here, but not in its files; `stem`: what its weight files are called; `settings`: what the file is called that
    `config` goes into, None where all is one file of weights. `shards` are filled when a plan is sized.
    """

    folder: str
    config: Mapping[str, Any]
    tensors: tuple[TensorPlan, ...]
    stem: str = "model"
    settings: str | None = CONFIG
    shards: tuple[ShardPlan, ...] = ()

    def sized(self, shard_size: int) -> "ComponentPlan":
        """The same with its tensors spread over files of `shard_size` bytes, or in the one file that it is."""
        if self.settings is None:
            shard_size = max(shard_size, sum(tensor.nbytes for tensor in self.tensors))
        return replace(self, shards=fill_shards(self.tensors, shard_size, self.file(self.stem)))

    @property
    def settings_file(self) -> str | None:
        """The path of the file with its settings; None where there is none: a config.json alone would say nothing."""
        if self.settings is None or not (self.tensors or self.settings != CONFIG):
            return None
        return self.file(self.settings)

    def file(self, name: str) -> str:
        """The path of one of its files in the result."""
        return f"{self.folder}/{name}" if self.folder else name


def sized(components: Iterable[ComponentPlan], shard_size: int) -> tuple[ComponentPlan, ...]:
    """All of them, sized."""
    return tuple(component.sized(shard_size) for component in components)


def check_names(components: Iterable[ComponentPlan]) -> Iterator[Finding]:
    """Whether a checkpoint would have two tensors of one name, which no reader opens."""
    for component in components:
        counts = Counter(tensor.name for tensor in component.tensors)
        if twice := [name for name, count in counts.items() if count > 1]:
            yield error(f"The result would have {some(twice)} twice; let the recipe make each tensor once.")
