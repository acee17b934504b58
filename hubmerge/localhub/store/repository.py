"""One repository on disk: its settings, commits, references and discussions."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..names import LARGEST_FILE_NAME, from_file_name, to_file_name
from .commits import Change, Commit, apply_changes, load_commit, make_commit, save_commit
from .disk import names_in, read_json, write_atomically, write_json

MAIN = "refs/heads/main"
_KINDS_OF_REFERENCE = ("heads", "tags", "pr")
_HEX = frozenset("0123456789abcdef")


class Conflict(Exception):
    """The reference moved since the commit the client started from, or exists already."""


class Vanished(FileNotFoundError):
    """The repository was deleted while a request about it was under way."""


class UnknownRevision(LookupError):
    """No branch, tag, pull request or commit has this name."""


@dataclass(frozen=True)
class Settings:
    """What the owner decides about a repository."""

    created: str
    private: bool = False
    gated: bool | str = False  # False, "auto" or "manual"
    granted: tuple[str, ...] = ()  # users let through the gate
    requested: tuple[str, ...] = ()  # users who wait before a manual gate
    sdk: str | None = None  # of a Space, like the next two
    hardware: str = "cpu-basic"
    variables: Mapping[str, str] = field(default_factory=dict)
    application: str | None = None  # the OAuth application that created it


@dataclass
class Repository:
    """A repository's folder. Reading takes no lock; every change takes `lock` and ends by moving one file into place.

    Layout: `settings.json`, `commits/ID.json`, `refs/{heads,tags,pr}/NAME`, `discussions/N.json`, and `lfs/SHA256`,
    empty files that say which large objects were uploaded to this repository.
    """

    type: str  # "model", "dataset" or "space"
    id: str  # namespace/name
    folder: Path
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def namespace(self) -> str:
        """The user or organisation that owns it."""
        return self.id.split("/")[0]

    @property
    def prefix(self) -> str:
        """What precedes the id in URLs: '', 'datasets/' or 'spaces/'."""
        return "" if self.type == "model" else f"{self.type}s/"

    @property
    def settings(self) -> Settings:
        """The settings as they are now; Vanished where the repository is gone."""
        try:
            stored = read_json(self.folder / "settings.json")
        except FileNotFoundError:
            raise Vanished(self.id) from None
        return Settings(**{**stored, "granted": tuple(stored["granted"]), "requested": tuple(stored["requested"])})

    def change_settings(self, **changes: Any) -> Settings:
        """Replace some settings."""
        with self.lock:
            settings = replace(self.settings, **changes)
            write_json(self.folder / "settings.json", asdict(settings))
            return settings

    def initialise(self, settings: Settings, author: str, first: Iterable[Change]) -> None:
        """Fill a new folder: settings and an initial commit on main."""
        write_json(self.folder / "settings.json", asdict(settings))
        self._store(MAIN, make_commit(apply_changes({}, first), None, "initial commit", "", author))

    # References

    def references(self, kind: str) -> dict[str, str]:
        """Name -> commit id, of "heads", "tags" or "pr" (numerically sorted)."""
        folder = self.folder / "refs" / kind
        names = [from_file_name(name) for name in names_in(folder)]
        if kind == "pr":
            names.sort(key=int)
        return {name: oid for name in names if (oid := self.reference(f"refs/{kind}/{name}")) is not None}

    def reference(self, full_name: str) -> str | None:
        """The commit a full reference such as 'refs/heads/main' points to."""
        path = self._reference_path(full_name)
        try:
            return path.read_text(encoding="ascii").strip() if path else None
        except FileNotFoundError:
            return None

    def _reference_path(self, full_name: str) -> Path | None:
        _, _, rest = full_name.partition("refs/")
        kind, _, name = rest.partition("/")
        if not full_name.startswith("refs/") or kind not in _KINDS_OF_REFERENCE or not name or name.startswith("."):
            return None
        file_name = to_file_name(name)
        return self.folder / "refs" / kind / file_name if len(file_name) <= LARGEST_FILE_NAME else None

    def _move_reference(self, full_name: str, oid: str) -> None:
        path = self._reference_path(full_name)
        assert path is not None, f"not a reference: {full_name}"
        write_atomically(path, oid.encode())

    def create_reference(self, full_name: str, oid: str) -> None:
        """Point a new branch, tag or pull request at a commit; Conflict where it exists."""
        with self.lock:
            if self.reference(full_name) is not None:
                raise Conflict(f"Reference {full_name} already exists")
            self._move_reference(full_name, oid)

    def delete_reference(self, full_name: str) -> None:
        """Forget a branch or tag; UnknownRevision where there is none."""
        with self.lock:
            path = self._reference_path(full_name)
            if path is None or not path.exists():
                raise UnknownRevision(full_name)
            path.unlink()

    def resolve(self, revision: str) -> str:
        """The commit id of a branch, tag, full reference or (short) commit id.

        Raises:
            UnknownRevision: nothing has this name.
        """
        for full_name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if (oid := self.reference(full_name)) is not None:
                return oid
        if 7 <= len(revision) <= 40 and _HEX.issuperset(revision):
            matches = [name[:40] for name in names_in(self.folder / "commits") if name.startswith(revision)]
            if len(matches) == 1:
                return matches[0]
        raise UnknownRevision(revision)

    # Commits

    def commit(self, oid: str) -> Commit:
        """The commit with this full id."""
        return load_commit(self.folder / "commits" / f"{oid}.json")

    def at(self, revision: str) -> Commit:
        """The commit of any revision; UnknownRevision where there is none."""
        return self.commit(self.resolve(revision))

    def history(self, oid: str) -> Iterator[Commit]:
        """A commit, then its ancestors."""
        next_oid: str | None = oid
        while next_oid is not None:
            commit = self.commit(next_oid)
            yield commit
            next_oid = commit.parent

    def add_commit(
        self,
        reference: str,
        changes: Iterable[Change],
        title: str,
        message: str,
        author: str,
        parent: str | None = None,
    ) -> Commit:
        """Commit changes on top of a branch or pull request.

        Args:
            parent: the (short) id the branch must still be at, or None for any.

        Raises:
            UnknownRevision: the reference does not exist.
            Conflict: it is not at `parent` any more.
            FileNotFoundError, ValueError: as in `apply_changes`.
        """
        with self.lock:
            head = self.reference(reference)
            if head is None:
                raise UnknownRevision(reference)
            if parent and not head.startswith(parent):
                raise Conflict("A commit has happened since. Please refresh and try again.")
            files = apply_changes(self.commit(head).files, changes)
            return self._store(reference, make_commit(files, head, title, message, author))

    def squash(self, branch: str, message: str, author: str) -> Commit:
        """Replace a branch's history by one commit with the same files."""
        with self.lock:
            reference = f"refs/heads/{branch}"
            head = self.reference(reference)
            if head is None:
                raise UnknownRevision(branch)
            files = {path: replace(entry, commit="") for path, entry in self.commit(head).files.items()}
            return self._store(reference, make_commit(files, None, message, "", author))

    def _store(self, reference: str, commit: Commit) -> Commit:
        """The commit's file first, the reference last: only that move makes the commit visible."""
        save_commit(self.folder / "commits", commit)
        self._move_reference(reference, commit.id)
        return commit

    # Large objects uploaded here

    def owns_object(self, sha256: str) -> bool:
        """Whether these bytes were uploaded to this repository, not merely to another one."""
        return (self.folder / "lfs" / sha256).exists()

    def mark_object(self, sha256: str) -> None:
        """Remember that these bytes were uploaded to this repository."""
        folder = self.folder / "lfs"
        folder.mkdir(exist_ok=True)
        (folder / sha256).touch()
