"""One checkpoint that a merge writes: the result itself, or a part of it that lies in a folder of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .shards import ShardPlan, fill_shards
from .tensors import TensorPlan


@dataclass(frozen=True, eq=False)
class ComponentPlan:
    """A checkpoint with a config.json, weight files and an index of its own.

    `folder`: where in the result it lies ("unet"; "" for the result itself), with which the names of its tensors begin
    here, but not in its files; `stem`: what its weight files are called; `settings`: what the file is called that
    `config` goes into. `shards` are filled when a plan is sized.
    """

    folder: str
    config: Mapping[str, Any]
    tensors: tuple[TensorPlan, ...]
    stem: str = "model"
    settings: str = "config.json"
    shards: tuple[ShardPlan, ...] = ()

    def sized(self, shard_size: int) -> "ComponentPlan":
        """The same with its tensors spread over files of `shard_size` bytes."""
        return replace(self, shards=fill_shards(self.tensors, shard_size, self.file(self.stem)))

    def file(self, name: str) -> str:
        """The path of one of its files in the result."""
        return f"{self.folder}/{name}" if self.folder else name


def sized(components: Iterable[ComponentPlan], shard_size: int) -> tuple[ComponentPlan, ...]:
    """All of them, sized."""
    return tuple(component.sized(shard_size) for component in components)
