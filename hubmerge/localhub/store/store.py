"""All repositories below one folder."""

import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import HubError
from ..generated.model import GeneratedModel
from ..generated.sdxl import GeneratedPipeline
from ..names import REPO_TYPES, check_name
from .commits import Change, Commit, lfs_entry, now, regular_entry
from .disk import names_in, write_atomically
from .folder import clear, require_plain, take
from .objects import Objects
from .repository import MAIN, Conflict, Repository, Settings, Vanished

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, starting two servers on one folder is not detected
    fcntl = None  # type: ignore[assignment]

# Files that are kept out of git whatever their size.
LFS_SUFFIXES = (
    *(".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"),
    *(".bin", ".ckpt", ".gguf", ".h5", ".mlmodel", ".model", ".msgpack", ".onnx", ".ot", ".pb", ".pt", ".pth"),
    *(".safetensors", ".tflite", ".wasm"),
    *(".arrow", ".avro", ".ftz", ".joblib", ".npy", ".npz", ".parquet", ".pickle", ".pkl"),
    *(".gif", ".jpeg", ".jpg", ".mp3", ".mp4", ".pdf", ".png", ".ttf", ".wav", ".webp"),
)


class Store:
    """The folder a Hub serves: `models/`, `datasets/`, `spaces/` (each namespace/name) and `objects/`.

    One server at a time may hold it: `open()` takes a lock that the operating system releases when the process ends.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = Objects(root / "objects")
        self._new = root / "new"
        # Kept even after a deletion: whoever still holds the repository must share its lock with whoever makes it anew.
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._guard = threading.Lock()
        self._lock_file: int | None = None

    def open(self) -> None:
        """Take the folder for this server.

        Raises:
            HubError: another server has it, or it is no Hub's (see folder.py).
        """
        take(self.root)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self._lock_file = os.open(self.root / "server.lock", flags, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise HubError(
                f"The folder {self.root} is served by another local Hub: stop that one or use another folder."
            ) from None
        try:
            require_plain(self.root)
            clear(self._new)  # repositories that a crash left half created or half deleted
            self.objects.open_for_uploads()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another server have the folder."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def secret(self) -> bytes:
        """A random key that stays the same over restarts, for signing URLs and cookies."""
        path = self.root / "secret"
        if not path.exists():
            write_atomically(path, secrets.token_bytes(32))
        return path.read_bytes()

    def find(self, type: str, id: str) -> Repository | None:
        """The repository, or None."""
        try:
            namespace, name = id.split("/")
            folder = self.root / f"{type}s" / check_name(namespace) / check_name(name)
        except ValueError:
            return None
        if type not in REPO_TYPES or not folder.is_dir():
            return None
        with self._guard:
            return self._repositories.setdefault((type, id), Repository(type, id, folder))

    def all(self, type: str) -> Iterator[Repository]:
        """Every repository of a type, by id."""
        for namespace in names_in(self.root / f"{type}s"):
            for name in names_in(self.root / f"{type}s" / namespace):
                repository = self.find(type, f"{namespace}/{name}")
                if repository is not None:
                    yield repository

    def create(
        self, type: str, id: str, author: str, private: bool, sdk: str | None = None, application: str | None = None
    ) -> Repository:
        """Make a repository with an initial commit; it appears complete, in one move.

        Raises:
            Conflict: there is one already.
        """
        namespace, name = id.split("/")
        folder = self.root / f"{type}s" / check_name(namespace) / check_name(name)
        draft = self._new / secrets.token_hex(16)
        draft.mkdir(parents=True)
        settings = Settings(created=now(), private=private, sdk=sdk, application=application)
        Repository(type, id, draft).initialise(settings, author, self._first_changes())
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self._guard:
            if folder.exists():
                shutil.rmtree(draft)
                raise Conflict(f"You already created this {type} repo")
            os.rename(draft, folder)
        repository = self.find(type, id)
        assert repository is not None, "a repository that was just created is there"
        return repository

    def _first_changes(self) -> Iterable[Change]:
        text = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
        return [Change(".gitattributes", regular_entry(text, self.objects.put(text)))]

    def generate(self, id: str, model: GeneratedModel | GeneratedPipeline, author: str, private: bool) -> Commit:
        """Make the repository of a generated model.

        Raises:
            Conflict: there is one already.
            ValueError: the id is no namespace/name.
        """
        if id.count("/") != 1:
            raise ValueError("its id must be namespace/name")
        repository = self.create("model", id, author, private)
        changes = [
            Change(path, regular_entry(content, self.objects.put(content)))
            for path, content in model.small_files().items()
        ]
        for path, file in model.weights().items():
            self.objects.generate(file)
            repository.mark_object(file.oid)
            changes.append(Change(path, lfs_entry(file.oid, file.size)))
        return repository.add_commit(MAIN, changes, "Generate the model", "", author)

    def delete(self, repository: Repository) -> None:
        """Remove a repository; it disappears in one move. Vanished where another request was faster."""
        grave = self._new / secrets.token_hex(16)
        self._new.mkdir(exist_ok=True)
        with repository.lock, self._guard:
            try:
                os.rename(repository.folder, grave)
            except FileNotFoundError:
                raise Vanished(repository.id) from None
        shutil.rmtree(grave)

    def move(self, repository: Repository, id: str) -> None:
        """Rename a repository; Conflict where the new name is taken."""
        namespace, name = id.split("/")
        folder = self.root / f"{repository.type}s" / check_name(namespace) / check_name(name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with repository.lock, self._guard:
            if folder.exists():
                raise Conflict(f"You already created this {repository.type} repo")
            os.rename(repository.folder, folder)
