"""Where a model's files are - a repository at one commit, or a folder - behind the same two questions."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from ..errors import SourceError
from .errors import hub_errors
from .ranges import RangedFile
from .session import bounded_session


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

    def read(self, file: FileInfo, start: int, stop: int) -> memoryview:
        """The bytes `start` up to but not including `stop` of a file: exactly these, or an error."""

    def is_here(self, name: str) -> bool:
        """Whether `path` would find the file on this machine."""


@dataclass(frozen=True)
class Repository:
    """A model repository of the Hub at one commit."""

    repo_id: str
    commit: str
    token: str | None = field(default=None, repr=False)
    _ranged: dict[str, RangedFile] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    def read(self, file: FileInfo, start: int, stop: int) -> memoryview:
        """Asks the Hub for just these bytes."""
        ranged = self._ranged.get(file.path)
        if ranged is None:
            # Of several threads that come first, one wins: all must share what is known of where the content is.
            new = RangedFile(self.repo_id, self.commit, file.path, file.size, file.sha256, self.token)
            ranged = self._ranged.setdefault(file.path, new)
        with hub_errors(f"reading {file.path} of {self.repo_id}"):
            return ranged.read(start, stop)

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
            raise self._changed(path)
        return path

    def read(self, file: FileInfo, start: int, stop: int) -> memoryview:
        """Reads just these bytes."""
        path = self.root / file.path
        try:
            with open(path, "rb") as opened:
                opened.seek(start)
                content = opened.read(stop - start)
        except FileNotFoundError:
            raise self._changed(path) from None
        except OSError as exc:
            raise SourceError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
        if len(content) != stop - start:
            raise self._changed(path)
        return memoryview(content)

    def is_here(self, name: str) -> bool:
        """Always."""
        return True

    @staticmethod
    def _changed(path: Path) -> SourceError:
        return SourceError(f"{path} changed while it was being used; leave the folder alone and run the same again.")
