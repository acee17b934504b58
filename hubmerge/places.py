"""What a folder of this machine is called in everything that leaves it: its own name, and a digest of what is in it.

A path tells strangers how a machine is laid out, and leads none of them to the model. So a recipe pins a folder as it
pins a repository: ./math@sha256:0123456789ab is a folder named math whose tensors have that digest - their names,
types, shapes and a sample of the bytes of each, so that nothing is read twice and models of one kind are still told
apart. Files that a task is made of are named in the same way, by a digest of all their bytes. Where a digest lies on
this machine is noted in HF_HOME/hubmerge/folders, which is neither pushed nor copied; elsewhere it is looked for in the
folder where the work begins.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from .errors import SourceError
from .files import note_down
from .text import hide_paths

SEARCH_FILE, JOURNAL_FILE, RESULTS_FILE, MODEL_FOLDER = "search.yaml", "journal.jsonl", "results.json", "model"
"""What the folder of a search holds; results.json comes last."""

_noted: dict[str, str] = {}  # digest -> path


def winner_of(root: Path) -> Path:
    """Where the model of a folder lies: of the folder of a search that is its winner. Raises `SourceError` where it has
    none yet."""
    if not all((root / name).is_file() for name in (SEARCH_FILE, JOURNAL_FILE)) or (root / "config.json").exists():
        return root
    if not (root / RESULTS_FILE).is_file():
        raise SourceError(
            f"{folder_name(root)} is the folder of a search that has no winner yet; finish it with --resume (on the "
            "page: Resume), or name another model."
        )
    return root / MODEL_FOLDER


def folder_name(path: str | Path) -> str:
    """The last part of a folder's path as text that steers nothing and leads nowhere."""
    name = os.path.basename(os.path.abspath(os.path.expanduser(path)))
    return "".join(char if char.isprintable() and char not in '/\\@:"' else "_" for char in name) or "folder"


def files_digest(files: Mapping[str, Path]) -> str:
    """`sha256:` and 12 hex digits of the files' names and all their bytes. Raises `OSError`."""
    digest = hashlib.sha256()
    for name in sorted(files):
        with open(files[name], "rb") as opened:
            content = hashlib.sha256()
            while piece := opened.read(2**20):
                content.update(piece)
        digest.update(f"{content.hexdigest()} {name}\n".encode("utf-8", "surrogatepass"))
    return short(digest.hexdigest())


def short(digest: str) -> str:
    """A sha256 in hex as a name has it."""
    return f"sha256:{digest[:12]}"


def note(digest: str, path: Path) -> None:
    """Writes down, on this machine alone, where a digest lies."""
    if _noted.get(digest) == str(path):
        return
    _noted[digest] = str(path)
    note_down(_file(digest), str(path))


def find(digest: str) -> Path | None:
    """Where a digest was last seen on this machine; None where it never was."""
    if digest in _noted:
        return Path(_noted[digest])
    try:
        return Path(_file(digest).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def without_paths(text: str) -> str:
    """`text` for others to read: what lies on this machine goes by its own name there."""
    for path in sorted(_noted.values(), key=len, reverse=True):
        text = text.replace(path, folder_name(path))
    return hide_paths(text)


def _file(digest: str) -> Path:
    from huggingface_hub import constants  # reads its environment when it is imported: not before it is needed

    return Path(constants.HF_HOME) / "hubmerge" / "folders" / digest.removeprefix("sha256:")
