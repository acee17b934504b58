"""Stored tensors as they lie in their files, mapped into memory instead of read.

The system shares such memory between processes and takes it back where it runs short. A file must stay as it is: one
of the Hub's cache does, and `merge` puts files in place of others, never into them.
"""

import mmap
from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import SourceError
from ..hub.source import Source
from .dtypes import STORED
from .reader import check_finite


def map_tensors(source: Source) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a model by name, in their stored shapes and dtypes; files that are not here are downloaded.

    Those whose elements lie out of order are flat, as they lie (see laid.py). Each is read once, for NaN and infinity.
    They are not to be changed. Raises `SourceError`.
    """
    maps: dict[str, mmap.mmap] = {}
    for name, header in source.tensors.items():
        dtype = STORED[header.dtype]
        if header.nbytes == 0:
            yield name, torch.empty(header.shape, dtype=dtype.torch)
            continue
        if header.file not in maps:
            maps[header.file] = _map(source, header.file)
        data = maps[header.file]
        elements = header.nbytes // dtype.nbytes
        if header.start % dtype.nbytes:
            # Some writers do not align what they write; processors other than x86 want it aligned.
            copy = bytearray(data[header.start : header.start + header.nbytes])
            tensor = torch.frombuffer(copy, dtype=dtype.torch)
        else:
            tensor = torch.frombuffer(data, dtype=dtype.torch, count=elements, offset=header.start)
        check_finite(source, name, tensor)
        yield name, tensor if header.strides is not None else tensor.view(header.shape)


def _map(source: Source, file: str) -> mmap.mmap:
    try:
        with open(source.local_path(file), "rb") as opened:
            # A private map: torch asks for one that could be written to.
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as exc:
        raise SourceError(f"{file} of {source.name} cannot be read ({exc.strerror or exc}); fetch it again.") from exc
