"""Folders for weights that do not fit into memory: on the disk of the Hub's cache, gone when nobody uses them."""

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

from huggingface_hub import constants

from .. import files

_LOCK = ".lock"


def spool_root() -> Path:
    """Where the folders are. A folder for temporary files may lie in memory, which is what is scarce."""
    return Path(constants.HF_HOME) / "hubmerge" / "offloaded"


class Spool:
    """A folder that is removed with this object. What a killed process left is removed when the next is made."""

    def __init__(self) -> None:
        root = spool_root()
        with files.disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            self.folder = Path(tempfile.mkdtemp(prefix="model-", dir=root))
            # Locked before it has its name: whoever sweeps meanwhile takes only what can be locked.
            new = self.folder / f"{_LOCK}.new"
            lock = open(new, "wb")  # noqa: SIM115 (held for as long as the folder is)
            files.lock(lock)
            new.rename(self.folder / _LOCK)
        self._finalize = weakref.finalize(self, _remove, self.folder, lock)

    def close(self) -> None:
        """Removes the folder now."""
        self._finalize()


def _remove(folder: Path, lock: IO[bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()


def _sweep(root: Path) -> None:
    if os.name == "nt":  # what a killed process left stays there, as nothing is locked
        return
    for path in root.glob(f"*/{_LOCK}"):
        with suppress(OSError), open(path, "rb") as lock:
            if files.lock(lock):
                shutil.rmtree(path.parent, ignore_errors=True)
