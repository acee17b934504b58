"""Where a model's files are - a repository at one commit, or a folder - behind the same two questions."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from ..errors import SourceError
from .errors import hub_errors
from .session import bounded_session, patiently, read_range


@dataclass(frozen=True)
class FileInfo:
    """One file of a model: `size` in bytes, `sha256` of the content where the Hub knows it (large files)."""

    path: str
    size: int
    sha256: str | None = None


class Store(Protocol):
    """A place that holds a model's files."""

    def path(self, file: FileInfo) -> Path:
        """The whole file on disk, with its size checked."""

    def read(self, name: str, start: int, stop: int) -> bytes | bytearray:
        """The bytes `start` up to but not including `stop` of one file."""

    def is_here(self, name: str) -> bool:
        """Whether `path` would find the file on this machine."""


@dataclass(frozen=True)
class Repository:
    """A model repository of the Hub at one commit."""

    repo_id: str
    commit: str
    token: str | None = field(default=None, repr=False)

    def path(self, file: FileInfo) -> Path:
        """Downloads the file into the Hub cache unless it is there; one of the wrong size is fetched again."""
        for again in (False, True):
            path = self._download(file.path, again)
            size = path.stat().st_size
            if size == file.size:
                return path
        raise SourceError(
            f"{file.path} of {self.repo_id} arrived with {size:,} bytes, the Hub lists {file.size:,}; try again later."
        )

    def _download(self, name: str, again: bool) -> Path:
        with hub_errors(f"downloading {name} of {self.repo_id}"):
            bounded_session()
            # It repeats by itself what the network breaks, and goes on where a download stopped.
            path = hf_hub_download(
                self.repo_id,
                name,
                revision=self.commit,
                token=self.token or False,
                library_name="hubmerge",
                force_download=again,
            )
        return Path(path)

    def read(self, name: str, start: int, stop: int) -> bytearray:
        """Asks the Hub for just these bytes."""
        with hub_errors(f"reading {name} of {self.repo_id}"):
            return patiently(lambda: read_range(self.repo_id, self.commit, name, start, stop, self.token))

    def is_here(self, name: str) -> bool:
        """Whether the Hub cache has the file."""
        return isinstance(try_to_load_from_cache(self.repo_id, name, revision=self.commit), str)


@dataclass(frozen=True)
class Folder:
    """A model in a folder on disk."""

    root: Path

    def path(self, file: FileInfo) -> Path:
        """The file itself."""
        path = self.root / file.path
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            raise SourceError(f"{path} changed while it was being used; leave the folder alone and run the same again.")
        return path

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Reads just these bytes."""
        with open(self.root / name, "rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def is_here(self, name: str) -> bool:
        """Always."""
        return True
