"""A model to merge from, opened: its commit pinned, its files listed, every tensor located - and no weight read.

>>> source = open_source(ModelRef.parse("org/name"))            # doctest: +SKIP
>>> source.commit, source.tensors["lm_head.weight"].shape       # doctest: +SKIP
('6f2c...', (32000, 4096))
"""

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi
from huggingface_hub.repocard import metadata_load

from ..errors import HubError, SourceError
from ..recipe import ModelRef
from .checkpoint import CONFIG, INDEX, check_name, collect, find_weights, parse_config, parse_index
from .errors import hub_errors
from .headers import TensorHeader, read_headers
from .session import TIMEOUT, find_token, patiently
from .store import FileInfo, Folder, Repository, Store

LARGEST_TEXT = 64 * 2**20
"""Bytes; no config, index, tokenizer or card is larger."""

_READERS = 8
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Licence:
    """What a model's card says about its licence: the Hub's identifier, and for "other" a name and a link."""

    id: str | None = None
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class Source:
    """A model at one commit (`commit`: 40 hex digits), or in a folder (`commit`: None).

    `tensors` maps each tensor's name to its place; `identity` changes when the content may have changed
    (the commit, or for a folder a digest of its files' names, sizes and times).
    """

    ref: ModelRef
    commit: str | None
    files: Mapping[str, FileInfo] = field(repr=False)
    tensors: Mapping[str, TensorHeader] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    licence: Licence
    base_models: tuple[str, ...]
    identity: str
    _store: Store = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The Hub ID or the folder, without a revision."""
        return self.ref.repo_id

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder on disk rather than a repository of the Hub."""
        return self.commit is None

    @property
    def license(self) -> str | None:
        """The licence's identifier on the Hub, e.g. "apache-2.0"; None where the card does not say."""
        return self.licence.id

    @property
    def parameters(self) -> int:
        """The number of elements of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """The size of all tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def local_path(self, name: str) -> Path:
        """The file `name` on disk; one of the Hub is first downloaded, at the pinned commit, into the Hub cache.

        Raises `SourceError` where the model has no such file or its size is not the listed one, `HubError` where it
        cannot be downloaded.
        """
        return self._store.path(self._file(name))

    def is_here(self, name: str) -> bool:
        """Whether the file `name` is on this machine: in the folder, or already in the Hub cache."""
        return self._store.is_here(name)

    def read_range(self, file: str, start: int, stop: int) -> memoryview:
        """The bytes `start` up to but not including `stop` of the file `file` and nothing else.

        From the Hub they come by a request for just this part, which leaves no file; many threads may read at once.
        Raises `SourceError` where the model has no such file or a folder's was changed, `HubError` where the Hub does
        not send exactly these bytes of the file that it listed.
        """
        return self._store.read(self._file(file), start, stop)

    def read_text(self, name: str) -> str | None:
        """The text of a small file, or None where the model has no file of that name."""
        return _read_text(self._store, self.files, name, self.name)

    def _file(self, name: str) -> FileInfo:
        if name not in self.files:
            raise SourceError(f"{self.name} has no file {name}.")
        return self.files[name]


def open_source(ref: ModelRef, *, token: str | None = None) -> Source:
    """Opens a model by Hub ID or folder: resolves its revision to a commit once, reads its config and its headers.

    From the Hub this costs a few small requests and no weights: the file list, config.json, the index, and one range
    request per shard. `token` wins over the environment's. Raises `SourceError` for content that cannot be merged
    (pickles, GGUF, quantised weights, files cut short, an index that lies) and `HubError` for what the Hub refuses.
    """
    if ref.lora is not None:
        raise SourceError(f"{ref}: a LoRA on top of a model cannot be merged yet; merge it into its base first.")
    return _open_folder(ref) if ref.is_folder else _open_repository(ref, find_token(token))


def _open_repository(ref: ModelRef, token: str | None) -> Source:
    with hub_errors(f"reading {ref}"):
        info = patiently(
            lambda: HfApi(library_name="hubmerge").model_info(
                ref.repo_id, revision=ref.revision, files_metadata=True, timeout=TIMEOUT, token=token or False
            )
        )
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"Reading {ref} failed: the Hub did not say which commit this is; check HF_ENDPOINT.")
    files = {}
    for item in info.siblings or ():
        name = check_name(item.rfilename, ref.repo_id)
        if item.size is None:
            raise HubError(f"Reading {ref} failed: the Hub did not say how large {name} is.")
        files[name] = FileInfo(name, item.size, item.lfs.sha256 if item.lfs else None)
    card = info.card_data.to_dict() if info.card_data else {}
    return _open(ref, commit, files, Repository(ref.repo_id, commit, token), card, f"{ref.repo_id}@{commit}")


def _open_folder(ref: ModelRef) -> Source:
    root = Path(ref.repo_id).expanduser()
    if not root.is_dir():
        raise SourceError(f"There is no folder {ref.repo_id}; check the path.")
    try:
        # Two levels are all that a transformers model uses, and keep a home folder given by mistake from being walked.
        paths = sorted([*root.glob("*"), *root.glob("*/*")])
        names = {path: path.relative_to(root) for path in paths if path.is_file()}
        visible = {path: name for path, name in names.items() if not any(part.startswith(".") for part in name.parts)}
        stats = {name.as_posix(): path.stat() for path, name in visible.items()}
        files = {name: FileInfo(name, stat.st_size) for name, stat in stats.items()}
        state = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()])
        identity = f"folder:{hashlib.sha256(state.encode()).hexdigest()}"
        return _open(ref, None, files, Folder(root), _front_matter(root / "README.md"), identity)
    except OSError as exc:
        raise SourceError(f"The folder {ref.repo_id} cannot be read: {exc.strerror or exc}.") from exc


def _open(
    ref: ModelRef, commit: str | None, files: dict[str, FileInfo], store: Store, card: dict[str, Any], identity: str
) -> Source:
    where = ref.repo_id
    weights = find_weights(files, where)
    config = parse_config(_read_text(store, files, CONFIG, where), where)
    weight_map = parse_index(_read_text(store, files, INDEX, where), files, where) if weights == INDEX else None
    shards = sorted(set(weight_map.values())) if weight_map else [weights]

    def headers(shard: str) -> tuple[TensorHeader, ...]:
        file = files[shard]
        return read_headers(lambda start, stop: store.read(file, start, stop), shard, file.size, where)

    with ThreadPoolExecutor(min(_READERS, len(shards))) as pool:
        tensors = collect(pool.map(headers, shards), weight_map, files, where)
    base = card.get("base_model") or ()
    base_models = tuple(str(name) for name in ([base] if isinstance(base, str) else base))
    return Source(ref, commit, files, tensors, config, _licence(card), base_models, identity, store)


def _read_text(store: Store, files: Mapping[str, FileInfo], name: str, where: str) -> str | None:
    if name not in files:
        return None
    if files[name].size > LARGEST_TEXT:
        raise SourceError(f"{name} of {where} has {files[name].size:,} bytes; at most {LARGEST_TEXT:,} are read.")
    try:
        return store.path(files[name]).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SourceError(f"{name} of {where} is not UTF-8 text; save the model again.") from None


def _front_matter(readme: Path) -> dict[str, Any]:
    # A card that cannot be read only means that nothing is known about the licence.
    try:
        return dict(metadata_load(readme) or {}) if readme.is_file() else {}
    except (yaml.YAMLError, ValueError):
        return {}


def _licence(card: Mapping[str, Any]) -> Licence:
    def text(key: str) -> str | None:
        value = card.get(key)
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        return value.strip() or None if isinstance(value, str) else None

    return Licence(text("license"), text("license_name"), text("license_link"))
