"""What a merge will cost: bytes to fetch, memory, disk - and whether this machine has them."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import constants

from ..amounts import size
from ..errors import ResourceError
from ..hub.source import Source
from .device import free_memory
from .findings import Finding, error, warning
from .prefetch import LEAST_SPAN, Ahead, far_ahead
from .shards import ShardPlan
from .stage import Stage

_LIBRARY_BYTES = 40 * 2**20
"""What threads, connections and the journal take."""

_HEADER_BYTES_PER_TENSOR = 200
SMALL_FILES = 50 * 2**20
"""Bytes that are left free for what stands beside the weights: tokenizer, card, journal."""


def fetch_bytes(stage: Stage) -> int:
    """Bytes to download: the files of the Hub that its cache on this machine lacks."""
    files = stage.stored.files.values()
    return sum(source.files[file].size for source, file in files if not source.is_here(file))


def adapter_bytes(sources: Sequence[Source]) -> int:
    """Bytes of LoRAs to download: all of each."""
    return sum(source.adapter.nbytes for source in sources if source.adapter and not source.adapter.is_here())


def range_bytes(stage: Stage) -> int:
    """Bytes to read from the Hub by range: the tensors themselves, once for each time that one is needed."""
    stored = stage.stored
    return sum(stored.sizes[key] for key, (source, file) in stored.files.items() if not source.is_here(file))


@dataclass(frozen=True)
class Effort:
    """How a merge goes about its work: `threads` tensors at a time, read `ahead` where they are read by range.

    `memory`: bytes that this takes at its peak beside the bare process. A thread works on blocks. Reading by range
    holds what is read ahead, and all of a tensor where the method reads it more than once.
    """

    threads: int
    ahead: Ahead
    memory: int


def effort(stage: Stage, ranged: bool, threads: int, limit: int | None) -> Effort:
    """The fastest way that takes `limit` bytes of memory at most, with `threads` tensors at a time or fewer.

    The most frugal one where all take more; `check_memory` says so.
    """
    held = _Held(stage) if ranged else None
    spans = [far_ahead()]
    while limit is not None and held is not None and spans[-1].span // 2 >= LEAST_SPAN:
        spans.append(Ahead(spans[-1].span // 2, 0))
    found = None
    for at_a_time in range(threads, 0, -1) if limit is not None else [threads]:
        for ahead in spans:
            least = _LIBRARY_BYTES + at_a_time * stage.memory
            if held is not None and limit is not None:
                # What nothing needs is read ahead as far as the limit allows.
                ahead = replace(ahead, window=max(0, min(far_ahead().window, limit - least)))
            found = Effort(at_a_time, ahead, least + (held.most(ahead) if held is not None else 0))
            if limit is None or found.memory <= limit:
                return found
    assert found is not None
    return found


class _Held:
    """What reading a stage by range has to hold."""

    def __init__(self, stage: Stage) -> None:
        self._sources = len({source.place for source, _ in stage.stored.files.values()})
        self._nothing = range_bytes(stage) == 0
        self._shares = stage.stored.shares

    def most(self, ahead: Ahead) -> int:
        """Bytes that are held at most; 0 where everything is on this machine."""
        if self._nothing:
            return 0
        held = max(ahead.held(*share) for share in self._shares)
        return ahead.most(held, self._sources)


def device_memory(stage: Stage) -> int:
    """Bytes of a thread that lie where blocks are computed."""
    return stage.block_memory


def disk_bytes(shards: Sequence[ShardPlan], pushing: bool, shard_size: int) -> int:
    """Bytes that the output folder needs at most, small files included.

    When pushing, a shard is written while the one before it goes up, if both fit into `shard_size`.
    """
    sizes = [shard.nbytes + _HEADER_BYTES_PER_TENSOR * len(shard.names) for shard in shards]
    return (min(sum(sizes), max(shard_size, *sizes, 0)) if pushing else sum(sizes)) + SMALL_FILES


def spill_bytes(stage: Stage, at_a_time: int) -> int:
    """Bytes in the output folder for results of stages that a method reads twice, one tensor of them a thread."""
    return at_a_time * max((stage.spills(tensor) for tensor in stage.tensors), default=0)


def check_disk(out: Path, out_bytes: int, cache_bytes: int) -> Iterator[Finding]:
    """Compares what the output folder and the Hub cache need with what their disks have free."""
    needs: dict[int, tuple[Path, int]] = {}
    for folder, nbytes in ((out, out_bytes), (Path(constants.HF_HUB_CACHE), cache_bytes)):
        present = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        disk = present.stat().st_dev
        first, before = needs.get(disk, (present, 0))
        needs[disk] = (first, before + nbytes)
    for folder, nbytes in needs.values():
        free = shutil.disk_usage(folder).free
        if nbytes > free:
            yield error(
                f"The disk of {folder} has {size(free)} free and the merge needs {size(nbytes)}; "
                "make room or choose another disk.",
                ResourceError,
            )


def check_memory(peak: int, limit: int | None, ranged: bool, threads: int = 1) -> Iterator[Finding]:
    """Refuses where the merge takes more than the `limit`; warns where it may not fit into what is free now."""
    if limit is not None and peak > limit:
        instead = ", or leave out --stream" if ranged else ""
        yield error(
            f"The merge takes {size(peak)} of memory at least, one tensor at a time, and may take {size(limit)}; allow "
            f"that much{instead}.",
            ResourceError,
        )
    free = free_memory()
    if peak > free:
        fewer = "; fewer threads take less (--threads 1, of the page: HUBMERGE_SPACE_MAX_MEMORY_GB)"
        instead = fewer if threads > 1 else ""
        yield warning(f"The merge takes up to {size(peak)} of memory and {size(free)} are free; it may fail{instead}.")
