"""Where a model's files are - a repository at one commit, or a folder - behind the same two questions."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import huggingface_hub as client  # which loads each of its names when it is first used
from huggingface_hub import constants

from ..errors import NetworkError, ResourceError, SourceError, remedy
from ..links import leaving
from .agent import NAME, VERSION
from .answers import FileInfo
from .arriving import Arrival
from .cache import keep_revision
from .content import differs
from .errors import hub_errors
from .patience import bounded
from .ranges import RangedFile
from .session import bounded_session

__all__ = ["FileInfo", "Folder", "Repository", "Store"]


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
    """A repository of the Hub at one commit.

    `revision`: the one that was asked for; `kind`: "model" or "dataset". `offline`: why the Hub cannot be asked, where
    it is known that it cannot; then only what the cache on this machine holds can be used.
    """

    repo_id: str
    commit: str
    token: str | None = field(default=None, repr=False)
    revision: str | None = None
    kind: str = "model"
    offline: str | None = None
    _ranged: dict[str, RangedFile] = field(default_factory=dict, init=False, repr=False, compare=False)

    def path(self, file: FileInfo) -> Path:
        """Downloads the file into the Hub cache unless it is there; one that is not as listed is fetched again."""
        path = self._download(file, again=False)
        wrong = differs(path, file)
        if wrong is not None and self.offline is not None:
            raise self._damaged(file, wrong)
        if wrong is not None:
            path = self._download(file, again=True)
            wrong = differs(path, file)
        if wrong is not None:
            raise SourceError(
                f"{file.path} of {self.repo_id} arrived otherwise than the Hub lists it: {wrong}; try again later, and "
                "if it stays so, do not use this revision."
            )
        return path

    def _damaged(self, file: FileInfo, wrong: str) -> SourceError:
        return SourceError(
            f"{file.path} of {self.repo_id} is damaged in the cache of this machine ({wrong}), and the Hub cannot be "
            f"asked ({self.offline}); fetch it again when it can."
        )

    def _download(self, file: FileInfo, again: bool) -> Path:
        if self.offline is not None:
            return self._cached(file)
        with hub_errors(f"downloading {file.path} of {self.repo_id}"), _cache_errors():
            bounded_session()
            # It repeats by itself what the network breaks, and goes on where a download stopped.
            with bounded(file.size):
                path = client.hf_hub_download(
                    self.repo_id,
                    file.path,
                    repo_type=self.kind,
                    revision=self.commit,
                    token=self.token or False,
                    library_name=NAME,
                    library_version=VERSION,
                    force_download=again,
                    tqdm_class=Arrival,
                )
        keep_revision(self.kind, self.repo_id, self.revision, self.commit)
        return Path(path)

    def _cached(self, file: FileInfo) -> Path:
        path = self._find(file.path)
        if path is None:
            raise NetworkError(
                f"{file.path} of {self.repo_id} at {self.commit[:7]} is not in the cache of this machine, and the Hub "
                f"cannot be asked ({self.offline}); fetch it when it can."
            )
        return path

    def read(self, file: FileInfo, start: int, stop: int) -> memoryview:
        """These bytes: of the file in the cache where it is there, else the Hub is asked for just them."""
        path = self._find(file.path) if self.offline is None else self._cached(file)
        if path is not None and (content := _content(path, file.size, start, stop)) is not None:
            return content
        if self.offline is not None:
            raise self._damaged(file, f"its {file.size:,} bytes are not all there")
        ranged = self._ranged.get(file.path)
        if ranged is None:
            # Of several threads that come first, one wins: all must share what is known of where the content is.
            new = RangedFile(self.repo_id, self.commit, file.path, file.size, file.sha256, self.token)
            ranged = self._ranged.setdefault(file.path, new)
        with hub_errors(f"reading {file.path} of {self.repo_id}"):
            return ranged.read(start, stop)

    def is_here(self, name: str) -> bool:
        """Whether the Hub cache has the file."""
        return self._find(name) is not None

    def _find(self, name: str) -> Path | None:
        found = client.try_to_load_from_cache(self.repo_id, name, revision=self.commit, repo_type=self.kind)
        return Path(found) if isinstance(found, str) else None


def _content(path: Path, size: int, start: int, stop: int) -> memoryview | None:
    """These bytes of a file in the cache; None where it is not whole, or cannot be read."""
    try:
        with open(path, "rb") as opened:
            if os.fstat(opened.fileno()).st_size != size:
                return None
            opened.seek(start)
            content = opened.read(stop - start)
    except OSError:
        return None
    return memoryview(content) if len(content) == stop - start else None


@contextmanager
def _cache_errors() -> Iterator[None]:
    """What the disk of the cache refuses, as one sentence."""
    try:
        yield
    except OSError as exc:
        # Without a number it is no answer of this machine: huggingface_hub's own errors are of that kind as well.
        if exc.errno is None:
            raise
        raise ResourceError(
            f"The cache for models of the Hub, {constants.HF_HUB_CACHE}, cannot be written ({exc.strerror or exc}); "
            f"{remedy(exc)}, or set HF_HOME to a folder that can be."
        ) from exc


def require_inside(root: Path, paths: Iterable[Path]) -> None:
    """Raises `SourceError` for the first of `paths` in `root` that a link leads out of it."""
    if (leaves := leaving(root, paths)) is not None:
        raise SourceError(
            f"{leaves} is a link that leads out of its folder, so it is not read; put the file itself there."
        )


@dataclass(frozen=True)
class Folder:
    """A model in a folder on disk. `guarded`: whether the links of a file are looked at when it is read."""

    root: Path
    guarded: bool = False

    def path(self, file: FileInfo) -> Path:
        """The file itself."""
        path = self._place(file)
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            raise self._changed(path)
        return path

    def read(self, file: FileInfo, start: int, stop: int) -> memoryview:
        """Reads just these bytes."""
        path = self._place(file)
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

    def _place(self, file: FileInfo) -> Path:
        path = self.root / file.path
        if self.guarded:
            require_inside(self.root, [path])
        return path

    @staticmethod
    def _changed(path: Path) -> SourceError:
        return SourceError(f"{path} changed while it was being used; leave the folder alone and run the same again.")


@dataclass(frozen=True)
class Inside:
    """A folder of another place."""

    store: Store
    folder: str

    def path(self, file: FileInfo) -> Path:
        """Where it is in that place."""
        return self.store.path(self._there(file))

    def read(self, file: FileInfo, start: int, stop: int) -> memoryview:
        """What that place reads."""
        return self.store.read(self._there(file), start, stop)

    def is_here(self, name: str) -> bool:
        """As that place says."""
        return self.store.is_here(f"{self.folder}/{name}")

    def _there(self, file: FileInfo) -> FileInfo:
        return replace(file, path=f"{self.folder}/{file.path}")
