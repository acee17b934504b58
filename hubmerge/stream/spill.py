"""What a stage made of one tensor, kept on disk where it is read twice: a file without a name, a block a place.

A method that measures a tensor reads it twice. Writing a block and reading it back takes a fraction of the time that
merging it again does (docs/architecture.md has figures), and no memory but the disk's cache.
"""

import tempfile
from pathlib import Path

from ..errors import ResourceError
from ..files import TEMPORARY
from ..late import Tensor, torch


class Spill:
    """Blocks of one tensor by their first element, in a file of `room` that is gone when it is closed."""

    def __init__(self, room: Path, dtype: "torch.dtype") -> None:
        self._file = tempfile.TemporaryFile(dir=room, prefix=".", suffix=TEMPORARY)  # noqa: SIM115
        self._dtype = dtype
        self._lengths: dict[int, int] = {}

    def put(self, start: int, block: Tensor) -> None:
        """Keeps a block that begins at element `start`."""
        self._file.seek(start * self._dtype.itemsize)
        self._file.write(block.view(torch.uint8).numpy().data)
        self._lengths[start] = block.numel()

    def get(self, start: int) -> Tensor | None:
        """The block that begins there; None where none was kept."""
        if start not in self._lengths:
            return None
        block = torch.empty(self._lengths[start], dtype=self._dtype)
        self._file.seek(start * self._dtype.itemsize)
        if self._file.readinto(block.view(torch.uint8).numpy().data) != block.nbytes:
            raise ResourceError("A file of what a stage made was cut short while it was read; merge again.")
        return block

    def close(self) -> None:
        """Gives the disk back."""
        self._file.close()
