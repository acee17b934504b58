"""What was factored already, on disk until all of it is written: one file a tensor, whole or not there."""

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import ResourceError
from ..files import disk_errors, lock, write_file
from .lowrank import LowRank

_NOTHING = "nothing"


@dataclass(frozen=True)
class Facts:
    """What is known of one tensor's difference without its factors; rank 0: there is none."""

    rank: int
    norm: float
    energy: float


class Kept:
    """Factors by the number of their tensor, in a folder; one of its own without a name, which goes with the object.

    `close`: gives the folder free for other runs, or removes it where it is its own.

    Raises `ResourceError` where another run has the folder at this moment.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="hubmerge-extract-"))
        self.close: Callable[[], object]
        if folder is None:
            self.close = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            return
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held = (folder / ".lock").open("w")
            self.close = weakref.finalize(self, held.close)
        if not lock(held):
            raise ResourceError(
                "The same is being extracted by another run; wait until that has ended, then do it again."
            )

    def put(self, number: int, found: LowRank | None) -> None:
        """Keeps what was found of a tensor; None: it has not changed."""
        if found is None:
            self.note(number, Facts(0, 0.0, 1.0))
        else:
            tensors = {"left": found.left.contiguous(), "right": found.right.contiguous()}
            self.note(number, Facts(found.rank, found.norm, found.energy), tensors)

    def note(self, number: int, facts: Facts, tensors: dict[str, torch.Tensor] | None = None) -> None:
        """Keeps what is known of a tensor, with its factors where it has any."""
        content = save(tensors or {_NOTHING: torch.zeros(0)}, {"facts": json.dumps(vars(facts))})
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self._path(number), content)

    def facts(self, number: int) -> Facts | None:
        """What is known of a tensor; None where it was not put here, or not wholly."""
        try:
            with safe_open(self._path(number), "pt") as file:
                return Facts(**json.loads(file.metadata()["facts"]))
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            return None

    def factor(self, number: int, side: str) -> torch.Tensor:
        """The matrix `left` (rows, r) or `right` (r, columns)."""
        with safe_open(self._path(number), "pt") as file:
            found: torch.Tensor = file.get_tensor(side)
            return found

    def forget_factors(self) -> None:
        """Gives the factors' disk back, and keeps what is known of each tensor: enough to tell of what was written."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if (facts := self.facts(int(path.stem))) is not None:
                self.note(int(path.stem), facts)

    def clear(self) -> None:
        """Gives the disk back."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"
