"""Files onto the Hub: a model's shards go up one by one as they are written; one commit makes all visible together.

Nothing is visible before `commit`, so a push that breaks leaves the repository as it was. No repository is ever
deleted, whoever created it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub as client  # which loads each of its names when it is first used
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from huggingface_hub.utils import validate_repo_id

from ..errors import AccessError, HubError, SourceError
from ..files import expand
from ..places import folder_name
from ..progress import Event, Progress, silent
from ..reference import ModelRef
from .agent import hub_api
from .answers import FileInfo, ask_about
from .checkpoint import PICKLES, check_name
from .errors import explain, hub_errors
from .holdings import MANIFEST, Told, marked, require_own, require_private
from .listing import LARGEST_TEXT, Listing, list_files
from .lora import is_adapter, weights_alone
from .session import bounded_session, find_token, patiently
from .source import open_source
from .unplaced import without_places

_OUR_WEIGHTS = re.compile(
    r"(?P<folder>[^/]+/)?(?:model|diffusion_pytorch_model)(?:-\d+-of-\d+)?\.safetensors(?:\.index\.json)?"
)


@dataclass(frozen=True)
class PushResult:
    """What a push made: the repository, the commit (40 hex digits) and the address of the model at it; `hidden`: it was
    to be public, and its repository was private before and stays so."""

    repo_id: str
    commit: str
    url: str
    hidden: bool = False

    @property
    def page(self) -> str:
        """The address of the repository's page."""
        return self.url.partition("/tree/")[0]


class Upload:
    """One push: `start`, `add` each file as it is ready, then `commit`.

    `repo_id` may lack the namespace (the token's user is taken). A new repository is private unless `private` is
    False; one that exists keeps its visibility, and a public one is refused where `private`. A model's that holds
    something that hubmerge did not push, or a model of another recipe than what is `told`, is refused too, unless
    `overwrite`.
    `revision` is the branch, made if it is not there. `sdk` makes it a
    Space with that SDK instead of a model. After `start`, `present` has the files that are there already.

    >>> upload = Upload("org/name")                       # doctest: +SKIP
    >>> upload.start()                                    # doctest: +SKIP
    >>> upload.add("model.safetensors", path)             # doctest: +SKIP
    >>> upload.commit("Merge of two models").url          # doctest: +SKIP
    'https://huggingface.co/org/name/tree/1f0c...'
    """

    def __init__(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = True,
        revision: str | None = None,
        sdk: str | None = None,
        overwrite: bool = False,
        told: Told | None = None,
    ) -> None:
        with hub_errors(f"pushing to {repo_id}"):
            validate_repo_id(repo_id)
        self.repo_id = repo_id
        self.private = private
        self.overwrite = overwrite
        self.told = told
        self.revision = revision or "main"
        self.present: Mapping[str, FileInfo] = {}
        self._sdk, self._type = sdk, "space" if sdk else "model"
        token = find_token(token)
        if token is None:
            raise AccessError(
                f"Pushing to {repo_id} needs a token with write access; log in with `hf auth login`, set HF_TOKEN, "
                "or pass a token."
            )
        self._token, self._api = token, hub_api(token)
        self._operations: dict[str, client.CommitOperationAdd] = {}
        self._parent: str | None = None
        self._deleted: set[str] = set()
        self._resumed = False
        self._hidden = False

    def __repr__(self) -> str:
        return f"Upload({self.repo_id!r}, revision={self.revision!r}, files={len(self._operations)})"

    def start(self) -> None:
        """Checks the token's rights, makes the repository if need be, and remembers the commit to build on.

        Raises `AccessError` where the token may not write there, `HubError` for a repository that is left as it is.
        """
        with self._doing("pushing"):
            bounded_session()
            user = patiently(self._api.whoami)
            if self.told is not None and not self.private:
                self.told.require_seen()
            if _role(user) == "read":
                raise AccessError(
                    f"Pushing to {self.repo_id} needs a token with write access, and this one of {user.get('name')} "
                    "can only read; make one at the Hub under Settings > Access Tokens."
                )
            created = self._api.create_repo(
                self.repo_id, private=self.private, exist_ok=True, space_sdk=self._sdk, repo_type=self._type
            )
            self.repo_id = created.repo_id
            patiently(lambda: self._api.auth_check(self.repo_id, write=True, repo_type=self._type))
        if self._sdk is None:
            self._require_ours()
        with self._doing("pushing"):
            if self.revision != "main":
                self._api.create_branch(self.repo_id, branch=self.revision, exist_ok=True, repo_type=self._type)
            facts, _ = ask_about(ModelRef(self.repo_id, self.revision), self._token, self._type)
        self._parent = facts.commit
        self.present = facts.files
        if self.told is not None and not self.overwrite and self._sdk is None:
            there = list_files(ModelRef(self.repo_id, facts.commit), self._token) if MANIFEST in facts.files else None
            self.told.require_same(self.repo_id, facts.files, there.read_text(MANIFEST) if there else None)

    def _require_ours(self) -> None:
        with self._doing("pushing"):
            facts, answer = ask_about(ModelRef(self.repo_id), self._token, self._type)
            refs = patiently(lambda: self._api.list_repo_refs(self.repo_id, repo_type=self._type))
        if self.private:
            require_private(self.repo_id, answer.get("private") is True)
        self._hidden = not self.private and answer.get("private") is True
        if not self.overwrite:
            is_there = any(branch.name == self.revision for branch in refs.branches)
            revision = self.revision if is_there else None
            require_own(self._api, self.repo_id, self._type, revision, frozenset(facts.files))

    def add(self, path_in_repo: str, content: Path | bytes) -> str | None:
        """Uploads one file; when this returns, a file given by path may be changed or deleted.

        Large files leave at once (nothing is visible yet), small ones are kept in memory until `commit`.
        Returns its sha256 if it left: then a later `Upload` can `add_uploaded` it.
        Calls from several threads are allowed for different files.
        """
        assert self._parent is not None, "start() comes first"
        check_name(path_in_repo, "The push")
        operation = client.CommitOperationAdd(path_in_repo, content if isinstance(content, bytes) else str(content))
        self._preupload([operation], path_in_repo)
        # What was uploaded is empty now; what is still a path goes inside the commit itself.
        if isinstance(operation.path_or_fileobj, str):
            operation.path_or_fileobj = Path(operation.path_or_fileobj).read_bytes()
        self._operations[path_in_repo] = operation
        return operation.upload_info.sha256.hex() if operation._is_uploaded else None

    def add_all(self, files: Mapping[str, bytes]) -> None:
        """Adds many small files, path in the repository -> content, with one request."""
        assert self._parent is not None, "start() comes first"
        made = {name: client.CommitOperationAdd(check_name(name, "The push"), data) for name, data in files.items()}
        self._preupload(list(made.values()), f"{len(made)} files")
        self._operations |= made

    def delete(self, names: Iterable[str]) -> None:
        """Makes the deletion of these files, those that are there, part of the commit."""
        self._deleted |= set(names) & self.present.keys()

    def _preupload(self, operations: "list[client.CommitOperationAdd]", what: str) -> None:
        with self._doing(f"uploading {what}"):
            self._api.preupload_lfs_files(self.repo_id, operations, revision=self.revision, repo_type=self._type)
        # huggingface_hub leaves out, without an error, what the repository's .gitignore names.
        for operation in operations:
            if operation._should_ignore:
                raise HubError(
                    f"Uploading {operation.path_in_repo} to {self.repo_id} failed: the repository's .gitignore "
                    "excludes it."
                )

    def add_uploaded(self, path_in_repo: str, nbytes: int, sha256: str) -> None:
        """Makes a large file part of the commit that an earlier push to this repository uploaded and did not commit.

        `nbytes` and `sha256` (hex) are those of its content, which is not needed again. Where the Hub has dropped
        the content meanwhile, `commit` fails and says so.
        """
        from huggingface_hub.lfs import UploadInfo

        assert self._parent is not None, "start() comes first"
        operation = client.CommitOperationAdd(check_name(path_in_repo, "The push"), b"")
        # The state that preupload_lfs_files leaves an operation in.
        operation.upload_info = UploadInfo(sha256=bytes.fromhex(sha256), size=nbytes, sample=b"")
        operation._upload_mode = "lfs"
        operation._is_uploaded = True
        self._resumed = True
        self._operations[path_in_repo] = operation

    def commit(self, message: str, description: str = "") -> PushResult:
        """Makes everything added visible in ONE commit on top of the one that `start` saw.

        Where weights were added, weight files of an earlier model (model*.safetensors and its index) that are not
        part of this one are deleted in the same commit, and those of `delete`; no other file is. Files that did not
        change are left out. Raises `HubError` where somebody else committed since `start`; nothing is changed then.
        """
        assert self._parent is not None, "start() comes first"
        assert self._operations, "add() comes first"
        stale = self._stale()
        with self._doing("committing"):
            try:
                info = self._api.create_commit(
                    self.repo_id,
                    operations=[*self._operations.values(), *(client.CommitOperationDelete(name) for name in stale)],
                    commit_message=message,
                    commit_description=marked(description),
                    revision=self.revision,
                    repo_type=self._type,
                    parent_commit=self._parent,
                )
            except BadRequestError as exc:
                if not self._resumed:
                    raise
                raise HubError(
                    f"{explain(exc, f'committing to {self.repo_id}')} It may have dropped what an interrupted push "
                    "uploaded: push again from an empty output folder."
                ) from exc
            except ValueError as exc:
                if isinstance(exc, HfHubHTTPError):
                    raise
                # This is how huggingface_hub reports metadata in README.md that the Hub does not accept.
                raise HubError(f"Committing to {self.repo_id} failed: {' '.join(str(exc).split())}") from exc
        with self._doing("checking the commit"):
            names = list(self._operations)
            found = patiently(
                lambda: self._api.get_paths_info(self.repo_id, names, revision=info.oid, repo_type=self._type)
            )
        present = {str(item.path): item for item in found if isinstance(item, client.RepoFile)}
        for name, operation in self._operations.items():
            # Where nothing changed, huggingface_hub makes no commit and answers with the newest one, whoever made it.
            if name not in present or not _same(present[name], operation):
                raise HubError(
                    f"The commit {str(info.oid)[:8]} of {self.repo_id} does not hold the {name} that was pushed; "
                    "somebody else may have committed meanwhile, so push again."
                )
        place = f"spaces/{self.repo_id}" if self._sdk else self.repo_id
        return PushResult(self.repo_id, info.oid, f"{self._api.endpoint}/{place}/tree/{info.oid}", self._hidden)

    def _stale(self) -> list[str]:
        stale = set(self._deleted)
        written = {found["folder"] for name in self._operations if (found := _OUR_WEIGHTS.fullmatch(name))}
        stale |= {name for name in self.present if (it := _OUR_WEIGHTS.fullmatch(name)) and it["folder"] in written}
        return sorted(stale - set(self._operations))

    def _doing(self, what: str) -> AbstractContextManager[None]:
        return hub_errors(f"{what} to {self.repo_id}")


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = True,
    overwrite: bool = False,
    files: Mapping[str, bytes] | None = None,
    names: Iterable[str] = (),
    names_private: bool = False,
    message: str | None = None,
    progress: Progress = silent,
) -> PushResult:
    """Pushes the model in `folder` as one commit; see `Upload` for the repository, its visibility and old weights.
    `names`: models that it names beside those of its manifest, `names_private` also those that others cannot see.

    The folder must hold a whole model, or an adapter (it is opened first). Hidden files, pickles and weights that are
    not part of the model stay behind, but for a GGUF file of it; what `files` has goes up in place of the folder's own.
    Reports bytes; raises `SourceError` for a broken model, `HubError` for what the Hub refuses.
    """
    listing, weights = _whole(ModelRef(os.path.realpath(expand(folder, SourceError))))
    replaced = files or {}
    stored = [
        file
        for name, file in listing.files.items()
        if name not in replaced
        and name not in listing.made
        and (name in weights or not name.endswith((".safetensors", *PICKLES)))
    ]
    told = Told.read(listing.read_text(MANIFEST), names, names_private)
    upload = Upload(repo_id, token=token, private=private, overwrite=overwrite, told=told)
    upload.start()
    done, total = 0, sum(file.size for file in stored)
    for name, content in replaced.items():
        upload.add(name, content)
    for file in stored:
        progress(Event("push", done, total, "B", file.path))
        path = listing.path(file.path)
        upload.add(file.path, _for_others(file.path, path) if file.size <= LARGEST_TEXT else path)
        done += file.size
    progress(Event("push", done, total, "B", "commit"))
    return upload.commit(message or f"Push {folder_name(listing.name)} with hubmerge")


def _whole(folder: ModelRef) -> tuple[Listing, set[str]]:
    """The files of a folder, and those of them that hold the weights of its model or its adapter."""
    listing = list_files(folder)
    if is_adapter(listing.files):
        return listing, {weights_alone(listing)}
    source = open_source(folder)
    weights = {tensor.file for tensor in source.tensors.values()}
    if pickled := sorted(name for name in weights if name.endswith(PICKLES)):
        raise SourceError(
            f"{source.name} has its weights in {pickled[0]}, a kind of file that can hold code, so it is not pushed; "
            "merge it alone first (merge_method: passthrough), which writes safetensors."
        )
    return source.listing, weights


def _for_others(name: str, path: Path) -> Path | bytes:
    if not name.endswith(".json"):
        return path
    content = path.read_bytes()
    told = without_places(name, content)
    return path if told == content else told


def _role(user: Any) -> object:
    """What the token may do, as far as the Hub says."""
    for key in ("auth", "accessToken"):
        user = user.get(key) if isinstance(user, Mapping) else None
    return user.get("role") if isinstance(user, Mapping) else None


def _same(item: "client.RepoFile", operation: "client.CommitOperationAdd") -> bool:
    if item.lfs is not None:
        return item.lfs.sha256 == operation.upload_info.sha256.hex()
    return item.size == operation.upload_info.size
