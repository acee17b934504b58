"""What a merge will cost: bytes to fetch, memory, disk - and whether this machine has them."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil
from huggingface_hub import constants

from ..errors import ResourceError
from ..hub.source import Source
from ..methods import Method
from .problems import Problem, error, warning
from .shards import ShardPlan
from .tensors import TensorPlan

# Times the tensors in flight, measured: sums and task vectors; methods that also select entries sort copies of them.
_COPIES = 1.5
_COPIES_TO_SELECT = 3.5

_HEADER_BYTES_PER_TENSOR = 200
_SMALL_FILES_BYTES = 50 * 2**20


def needed_files(tensors: Iterable[TensorPlan], sources: Sequence[Source]) -> set[tuple[int, str]]:
    """The weight files that the merge reads: index of the source, and name."""
    return {(index, sources[index].tensors[name].file) for tensor in tensors for index, name in tensor.reads}


def fetch_bytes(files: Iterable[tuple[int, str]], sources: Sequence[Source]) -> int:
    """Bytes to download: the files of the Hub that its cache on this machine lacks."""
    return sum(sources[index].files[file].size for index, file in files if not sources[index].is_here(file))


def range_bytes(tensors: Sequence[TensorPlan], sources: Sequence[Source]) -> int:
    """Bytes to read from the Hub by range: the tensors themselves, once for each time that one is needed."""
    here = {(index, file): sources[index].is_here(file) for index, file in needed_files(tensors, sources)}
    stored = ((index, sources[index].tensors[name]) for tensor in tensors for index, name in tensor.reads)
    return sum(tensor.nbytes for index, tensor in stored if not here[index, tensor.file])


def peak_memory(method: Method, tensors: Iterable[TensorPlan]) -> int:
    """Bytes of memory beside the bare process: the largest group of tensors in flight, and the method's own copies."""
    selects = any(parameter.name == "density" for parameter in method.parameters)
    largest = max((tensor.group_bytes for tensor in tensors), default=0)
    return int((_COPIES_TO_SELECT if selects else _COPIES) * largest)


def disk_bytes(shards: Sequence[ShardPlan], pushing: bool) -> int:
    """Bytes that the output folder needs at most: all shards, or when pushing the largest one; small files included."""
    sizes = [shard.nbytes + _HEADER_BYTES_PER_TENSOR * len(shard.names) for shard in shards]
    return (max(sizes, default=0) if pushing else sum(sizes)) + _SMALL_FILES_BYTES


def check_disk(out: Path, out_bytes: int, cache_bytes: int) -> Iterator[Problem]:
    """Compares what the output folder and the Hub cache need with what their disks have free."""
    needs: dict[int, tuple[Path, int]] = {}
    for folder, nbytes in ((out, out_bytes), (Path(constants.HF_HUB_CACHE), cache_bytes)):
        present = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        disk = present.stat().st_dev
        first, before = needs.get(disk, (present, 0))
        needs[disk] = (first, before + nbytes)
    for folder, nbytes in needs.values():
        free = shutil.disk_usage(folder).free
        if nbytes > free:
            yield error(
                f"The disk of {folder} has {gigabytes(free)} free and the merge needs {gigabytes(nbytes)}; "
                "make room or choose another disk.",
                ResourceError,
            )


def check_memory(peak: int) -> Iterator[Problem]:
    """Warns where the merge may not fit into the memory that is free now."""
    free = psutil.virtual_memory().available
    if peak > free:
        yield warning(f"The merge takes up to {gigabytes(peak)} of memory and {gigabytes(free)} are free; it may fail.")


def gigabytes(nbytes: int) -> str:
    """A size for people.

    >>> gigabytes(1_234_000_000)
    '1.23 GB'
    """
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 10_000_000 else f"{nbytes / 1e6:.2f} MB"
