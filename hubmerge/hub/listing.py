"""What a repository or a folder holds: its commit pinned, its files listed, its card read - and nothing else."""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from ..errors import NetworkError, SourceError
from ..files import expand, write_file
from ..links import leaving
from ..places import winner_of
from ..reference import ModelRef, repository_of
from . import cache
from .agent import hub_api
from .answers import Facts, FileInfo, ask_about
from .errors import hub_errors
from .frontmatter import read_front_matter
from .session import find_token, patiently
from .store import Folder, Inside, Repository, Store, require_inside
from .unfound import helped

LARGEST_TEXT = 64 * 2**20
"""Bytes; no config, index, tokenizer or card is larger."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
"""Endings of files with weights: of several that stand together, one may be named."""

SLOW = 5.0
"""Seconds after which the Hub is not asked again at once about what the cache knows, where they brought no answer."""
REST = 60.0
"""Seconds for which it is not."""

_log = logging.getLogger(__name__)
_told: set[str] = set()
_silent_since: float | None = None
"""When the Hub last gave no answer to somebody who waited for it."""


LICENCE = ("license", "license_name", "license_link")
"""What a card says of its licence."""


@dataclass(frozen=True)
class Licence:
    """What a model's card says about its licence: the Hub's identifier, and for "other" a name and a link."""

    id: str | None = None
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class Listing:
    """A repository at one commit (`commit`: 40 hex digits), or a folder (`commit`: None).

    `ref` is the one asked for, without a LoRA; `card` the front matter of README.md. `identity` changes when the
    content may have changed (the commit, or for a folder a digest of its files' names, sizes and times). `partial`:
    the Hub cannot be asked, and what is not in the cache on this machine may still be there. `remark`: why the card
    cannot be read. `made`: the content of small files that are not there and are listed all the same, for another file
    tells what is in them.
    """

    ref: ModelRef
    commit: str | None
    files: Mapping[str, FileInfo] = field(repr=False)
    card: Mapping[str, Any] = field(repr=False)
    identity: str
    store: Store = field(repr=False, compare=False)
    partial: bool = False
    remark: str | None = None
    made: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The Hub ID or the folder as it was given, without a revision: for people on this machine."""
        return self.ref.repo_id

    @property
    def title(self) -> str:
        """The Hub ID, or a folder by its own name: for everybody."""
        return self.ref.title

    @property
    def root(self) -> Path | None:
        """Where the folder lies; None for a repository."""
        return self.store.root if isinstance(self.store, Folder) else None

    @property
    def licence(self) -> Licence:
        """What the card says about it."""

        def text(key: str) -> str | None:
            value = self.card.get(key)
            if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
                value = " AND ".join(value)  # all of them, as far as anybody knows
            return value.strip() or None if isinstance(value, str) else None

        return Licence(*map(text, LICENCE))

    @property
    def base_models(self) -> tuple[str, ...]:
        """The models that the card says this one was made from."""
        base = self.card.get("base_model")
        names = base if isinstance(base, list) else [base]
        return tuple(name for name in names if isinstance(name, str) and name)

    @property
    def repositories(self) -> tuple[str, ...]:
        """Itself; of a folder, which nobody else can get, those that its card says it was made from."""
        return (self.name,) if self.commit else tuple(filter(None, map(repository_of, self.base_models)))

    def read_text(self, name: str) -> str | None:
        """The text of a small file, or None where there is no file of that name."""
        if name not in self.files:
            return None
        if self.files[name].size > LARGEST_TEXT:
            raise SourceError(
                f"{name} of {self.name} has {self.files[name].size:,} bytes; at most {LARGEST_TEXT:,} are read."
            )
        try:
            return self.read_bytes(name).decode("utf-8")
        except UnicodeDecodeError:
            raise SourceError(f"{name} of {self.name} is not UTF-8 text; save the model again.") from None

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; one of the Hub is first downloaded. Raises `SourceError` where there is none."""
        if name in self.made:
            return self.made[name]
        path = self.path(name)
        try:
            return path.read_bytes()
        except OSError as exc:
            raise SourceError(f"{name} of {self.name} cannot be read: {exc.strerror or exc}.") from exc

    def path(self, name: str) -> Path:
        """The file on disk; one of the Hub is first downloaded. Files that are `made` lie together in a folder of the
        cache. Raises `SourceError` where there is none."""
        if name not in self.made:
            return self.store.path(self.file(name))
        digest = hashlib.sha256()
        for one, content in sorted(self.made.items()):
            digest.update(b"%s %d\0" % (one.encode(), len(content)))
            digest.update(content)
        folder = Path(constants.HF_HOME) / "hubmerge" / "made" / digest.hexdigest()[:16]
        for one, content in self.made.items():
            if not (folder / one).is_file():
                write_file(folder / one, content)
        return folder / name

    def having(self, made: Mapping[str, bytes]) -> "Listing":
        """The same with these small files, where it has none of their names."""
        made = {name: content for name, content in made.items() if name not in self.files}
        files = {name: FileInfo(name, len(content)) for name, content in made.items()}
        return replace(self, files={**self.files, **files}, made=made)

    def licensed(self, told: Mapping[str, str]) -> "Listing":
        """The same with the licence that something else than its card tells, where that states none."""
        return self if self.licence != Licence() else replace(self, card={**self.card, **told})

    def require(self, *names: str) -> None:
        """Raises `NetworkError` where only the cache is known of the repository and holds none of these files."""
        if self.partial and not self.files.keys() & set(names):
            raise NetworkError(
                f"{names[0]} of {self.name} at {str(self.commit)[:7]} is not in the cache of this machine, and the Hub "
                "cannot be asked; fetch it when it can."
            )

    def file(self, name: str) -> FileInfo:
        """The file `name`; raises `SourceError` where there is none."""
        if name not in self.files:
            raise SourceError(f"{self.name} has no file {name}.")
        return self.files[name]


def list_files(ref: ModelRef, token: str | None = None) -> Listing:
    """Lists the files of `ref`, whatever they are. `token` wins over the environment's.

    Raises `SourceError` for a folder that is not there or a name that could leave its folder, `HubError` for what the
    Hub refuses.
    """
    listing = _folder(ref) if ref.is_folder else _repository(ref, find_token(token))
    return _inside(listing) if ref.inside else listing


def _inside(listing: Listing) -> Listing:
    """Only the folder or the file of it that its reference means: a folder's files by their names there."""
    inside, files, store = listing.ref.inside, listing.files, listing.store
    folder, _, name = inside.rpartition("/") if inside in files else (inside, "", "")
    if folder:
        files, store = _of_folder(listing, folder)
    if not files:
        raise SourceError(f"{listing.name} has no folder or file called {inside}; see what it has on its page.")
    if name:
        shards = name.endswith(".json")  # an index: its shards stay
        others = [
            one for one in files if ".index." in one or (one.endswith(WEIGHTS) and not ("-of-" in one and shards))
        ]
        files = {one: info for one, info in files.items() if one == name or one not in others}
    return replace(listing, files=files, store=store, identity=f"{listing.identity}/{inside}")


def within(listing: Listing, folder: str) -> Listing:
    """A folder of a repository or folder, its files by their names there."""
    ref = replace(listing.ref, inside=f"{listing.ref.inside}/{folder}".removeprefix("/"))
    files, store = _of_folder(listing, folder)
    return replace(listing, ref=ref, files=files, store=store, identity=f"{listing.identity}/{folder}")


def _of_folder(listing: Listing, folder: str) -> tuple[dict[str, FileInfo], Inside]:
    start = f"{folder}/"
    names = {one.removeprefix(start): info for one, info in listing.files.items() if one.startswith(start)}
    return {one: replace(info, path=one) for one, info in names.items()}, Inside(listing.store, folder)


def open_repository(ref: ModelRef, token: str | None, kind: str = "model") -> tuple[Repository, Facts]:
    """A repository pinned to its commit, and what is known of it there.

    Where the Hub cannot be asked, it is the commit that the cache on this machine holds, and a warning says so.
    Raises `HubError` for what the Hub refuses, and where neither it nor the cache helps.
    """
    with helped(ref, kind, token):
        return _open_repository(ref, token, kind)


def _open_repository(ref: ModelRef, token: str | None, kind: str) -> tuple[Repository, Facts]:
    known = cache.recall(kind, ref)
    try:
        facts, answer = _ask(ref, token, kind) if known is not None else ask_about(ref, token, kind)
    except NetworkError as exc:
        if known is None:
            raise
        offline = constants.is_offline_mode()
        reason = "offline" if offline else "it gave no answer that can be used"
        why = "offline:" if offline else f"{str(exc).rstrip('.')};"
        said = f"{why} using {ref.repo_id} at {known.commit[:8]} from the cache."
        if said not in _told:
            _told.add(said)
            _log.warning("hubmerge: %s", said)
        repository = Repository(ref.repo_id, known.commit, None, ref.revision, kind, reason)
        return repository, known
    if answer.get("gated"):
        _require_access(ref, token, kind)
    cache.remember(kind, ref, facts, answer)
    return Repository(ref.repo_id, facts.commit, token, ref.revision, kind), facts


def _ask(ref: ModelRef, token: str | None, kind: str) -> tuple[Facts, Mapping[str, Any]]:
    """What the Hub says of what the cache knows, too.

    The patience with a Hub that does not answer is spent once, and not for each of the models of a merge.
    """
    global _silent_since
    begun = time.monotonic()
    if _silent_since is not None and begun - _silent_since < REST:
        raise NetworkError("The Hub gave no answer a moment ago.")
    try:
        return ask_about(ref, token, kind)
    except NetworkError:
        if time.monotonic() - begun > SLOW:
            _silent_since = time.monotonic()
        raise


def _require_access(ref: ModelRef, token: str | None, kind: str) -> None:
    # Anybody may be told what a gated repository holds. Its files may be in the cache, fetched by somebody with access.
    with hub_errors(f"reading {ref}"):
        patiently(lambda: hub_api().auth_check(ref.repo_id, repo_type=kind, token=token or False))


def _repository(ref: ModelRef, token: str | None) -> Listing:
    store, facts = open_repository(ref, token)
    card, remark = facts.card, None
    if facts.partial and "README.md" in facts.files:
        card, remark = read_front_matter(store.path(facts.files["README.md"]), ref.repo_id)
    identity = f"{ref.repo_id}@{store.commit}"
    return Listing(ref, store.commit, facts.files, card, identity, store, facts.partial, remark)


def _folder(ref: ModelRef) -> Listing:
    root = expand(ref.place or ref.repo_id, SourceError)
    if not root.is_dir():
        raise SourceError(f"There is no folder {ref.repo_id}; check the path.")
    root = winner_of(root)
    try:
        # Two levels are all that a transformers model uses, and keep a home folder given by mistake from being walked.
        # Of a file it is what lies beside it, which may be whatever people have: its links are looked at when read.
        alone = bool(ref.inside) and (root / ref.inside).is_file()
        paths = sorted([*root.glob("*"), *([] if alone else root.glob("*/*"))])
        names = {path: path.relative_to(root) for path in paths if path.is_file()}
        visible = {path: name for path, name in names.items() if not any(part.startswith(".") for part in name.parts)}
        if not alone:
            require_inside(root, visible)
        stats = {name.as_posix(): path.stat() for path, name in visible.items()}
        files = {name: FileInfo(name, stat.st_size) for name, stat in stats.items()}
        state = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()])
        identity = f"folder:{hashlib.sha256(state.encode()).hexdigest()}"
        readme = root / "README.md"
        card, remark = ({}, None) if leaving(root, [readme]) else read_front_matter(readme, ref.repo_id)
        return Listing(ref, None, files, card, identity, Folder(root, alone), remark=remark)
    except OSError as exc:
        raise SourceError(f"The folder {ref.repo_id} cannot be read: {exc.strerror or exc}.") from exc
