"""The sources' tensors, read lazily one at a time from their shards."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import OffloadedWeightsLoader
from safetensors import SafetensorError
from torch import Tensor

from ..errors import SourceError
from ..hub.source import Source
from .compute import is_finite
from .dtypes import DTYPES


class Reader:
    """A lazy map over the weights of several sources.

    A shard on the Hub is downloaded when its first tensor is needed; `fetching` is told its source and name before.
    With `ranged`, tensors of shards that are not on this machine are read from the Hub one by one instead, and no file
    is made. Nothing is kept in memory: each tensor is read again when asked for again.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        fetching: Callable[[Source, str], None] | None = None,
        *,
        ranged: bool = False,
    ) -> None:
        self._sources = sources
        self._fetching = fetching
        self._ranged = ranged
        self._here: dict[tuple[int, str], bool] = {}
        self._shards: dict[tuple[int, str], OffloadedWeightsLoader] = {}

    def __call__(self, index: int, name: str) -> Tensor:
        """The tensor `name` of source `index`, in its stored shape and dtype.

        Raises `SourceError` for a shard that is cut short and for a tensor with NaN or infinity, `HubError` where a
        shard cannot be downloaded.
        """
        source = self._sources[index]
        file = source.tensors[name].file
        try:
            tensor: Tensor = (
                self._from_hub(source, name) if self._is_far(index, file) else self._shard(index, file)[name]
            )
        except (SafetensorError, OSError, KeyError) as exc:
            raise SourceError(f"{file} of {source.name} cannot be read ({exc}); fetch it again.") from exc
        if tensor.is_floating_point() and not is_finite(tensor):
            raise SourceError(f"{name} of {source.name} has NaN or infinite values; this model cannot be merged.")
        return tensor

    def _is_far(self, index: int, file: str) -> bool:
        if not self._ranged:
            return False
        # Asked once: a file that comes into the cache meanwhile changes nothing.
        return not self._here.setdefault((index, file), self._sources[index].is_here(file))

    @staticmethod
    def _from_hub(source: Source, name: str) -> Tensor:
        header = source.tensors[name]
        dtype = DTYPES[header.dtype].torch
        if header.nbytes == 0:
            return torch.empty(header.shape, dtype=dtype)
        return torch.frombuffer(source.read_tensor(name), dtype=dtype).reshape(header.shape)

    def _shard(self, index: int, file: str) -> OffloadedWeightsLoader:
        if (index, file) not in self._shards:
            source = self._sources[index]
            if self._fetching is not None:
                self._fetching(source, file)
            path = source.local_path(file)
            self._check_size(source, file, path)
            names = [tensor.name for tensor in source.tensors.values() if tensor.file == file]
            self._shards[index, file] = OffloadedWeightsLoader(
                index={name: {"safetensors_file": str(path), "weight_name": name} for name in names}
            )
        return self._shards[index, file]

    @staticmethod
    def _check_size(source: Source, file: str, path: Path) -> None:
        expected = max(tensor.stop for tensor in source.tensors.values() if tensor.file == file)
        size = path.stat().st_size
        if size < expected:
            raise SourceError(
                f"{file} of {source.name} has {size:,} bytes and its header promises {expected:,}; fetch it again."
            )
