"""What a merge will cost: bytes to fetch, memory, disk - and whether this machine has them."""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from huggingface_hub import constants

from ..amounts import size
from ..errors import ResourceError
from ..hub.source import Source
from ..methods.blocks import BLOCK, Workspace
from .compute import merge_blocks, one_thread
from .device import free_memory
from .findings import Finding, error, warning
from .prefetch import SPAN, WINDOW
from .shards import ShardPlan
from .stage import Merged, Stage
from .tensors import FLOAT32_BYTES
from .weights import Extent

_LIBRARY_BYTES = 40 * 2**20
"""What threads, connections and the journal take."""

_TRIAL = 2 * BLOCK
"""Elements that an estimate of the speed is made with."""

_HEADER_BYTES_PER_TENSOR = 200
SMALL_FILES = 50 * 2**20
"""Bytes that are left free for what stands beside the weights: tokenizer, card, journal."""


def needed_files(stage: Stage) -> dict[object, tuple[Source, str]]:
    """The weight files that the merge reads: their sources and names there."""
    extents = (extent for tensor in stage.tensors for extent in stage.needs_all(tensor))
    return {extent.file: (extent.source, extent.tensor.file) for extent in extents}


def fetch_bytes(stage: Stage) -> int:
    """Bytes to download: the files of the Hub that its cache on this machine lacks."""
    files = needed_files(stage).values()
    return sum(source.files[file].size for source, file in files if not source.is_here(file))


def adapter_bytes(sources: Sequence[Source]) -> int:
    """Bytes of LoRAs to download: all of each."""
    return sum(source.adapter.nbytes for source in sources if source.adapter and not source.adapter.is_here())


def range_bytes(stage: Stage) -> int:
    """Bytes to read from the Hub by range: the tensors themselves, once for each time that one is needed."""
    here = {key: source.is_here(file) for key, (source, file) in needed_files(stage).items()}
    extents = (extent for tensor in stage.tensors for extent in stage.needs_all(tensor))
    return sum(_size(extent) for extent in extents if not here[extent.file])


def peak_memory(stage: Stage, ranged: bool, at_a_time: int) -> int:
    """Bytes of memory beside the bare process, with `at_a_time` tensors merged in parallel.

    A thread works on blocks. Reading by range holds what is read ahead, and all of a tensor where the method reads it
    more than once.
    """
    return _LIBRARY_BYTES + at_a_time * stage.memory + (prefetch_bytes(stage) if ranged else 0)


def device_memory(stage: Stage, at_a_time: int) -> int:
    """Bytes of those that lie where blocks are computed."""
    return at_a_time * stage.blocks * BLOCK * FLOAT32_BYTES


def prefetch_bytes(stage: Stage) -> int:
    """Bytes that reading by range holds at most; 0 where everything is on this machine."""
    if range_bytes(stage) == 0:
        return 0
    held = 0
    if stage.reads_again:
        held = max(sum(map(_size, stage.needs_all(tensor))) for tensor in stage.tensors)
    places = {source.place for source, _ in needed_files(stage).values()}
    return max(WINDOW, held + len(places) * SPAN)


def _size(extent: Extent) -> int:
    start, stop = extent.bytes
    return stop - start


def disk_bytes(shards: Sequence[ShardPlan], pushing: bool, shard_size: int) -> int:
    """Bytes that the output folder needs at most, small files included.

    When pushing, a shard is written while the one before it goes up, if both fit into `shard_size`.
    """
    sizes = [shard.nbytes + _HEADER_BYTES_PER_TENSOR * len(shard.names) for shard in shards]
    return (min(sum(sizes), max(shard_size, *sizes, 0)) if pushing else sum(sizes)) + SMALL_FILES


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


def check_memory(peak: int) -> Iterator[Finding]:
    """Warns where the merge may not fit into the memory that is free now."""
    free = free_memory()
    if peak > free:
        yield warning(f"The merge takes up to {size(peak)} of memory and {size(free)} are free; it may fail.")


def compute_seconds(stage: Stage, at_a_time: int) -> float:
    """Seconds that computing and hashing takes on this machine, from a trial of a few milliseconds.

    Reading, fetching and writing go on meanwhile, and take longer where the disk or the network is slow.
    """
    before = [weights.stage for weights in stage.weights if isinstance(weights, Merged)]
    # What measures whole tensors first reads them twice, and so has them made twice.
    seconds = sum(compute_seconds(one, at_a_time) for one in before) * (2 if stage.method.measures else 1)
    merged = [tensor for tensor in stage.tensors if not tensor.copied]
    if not merged:
        return seconds
    largest = max(merged, key=lambda tensor: tensor.parameters * len(tensor.reads))
    trial = replace(largest, shape=(_TRIAL,))
    stored = torch.randn(_TRIAL, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    with one_thread():
        fastest = math.inf
        for _ in range(2):  # the first time is slower than those that follow
            began, digest, workspace = time.perf_counter(), hashlib.sha256(), Workspace()
            for block in merge_blocks(stage.method, trial, lambda _, __, start, stop: stored[start:stop], workspace):
                digest.update(block.view(torch.uint8).numpy().data)
            fastest = min(fastest, time.perf_counter() - began)
    return seconds + fastest / _TRIAL * sum(tensor.parameters for tensor in merged) / at_a_time
