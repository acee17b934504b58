"""Names a client may choose, checked before they touch the disk: repositories, paths inside them, references."""

import re
from urllib.parse import quote, unquote

REPO_TYPES = ("model", "dataset", "space")
LARGEST_PATH = 1024  # characters
LARGEST_FILE_NAME = 255  # bytes, as file systems have it

# The rules of huggingface_hub's validate_repo_id, for each of the two halves of namespace/name.
_NAME = re.compile(r"\b[\w\-.]{1,96}\b", re.ASCII)
_REFERENCE = re.compile(r"[\w\-.][\w\-./]{0,249}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# First path segments that mean something to the server and so cannot be a user or an organisation.
PAGES = frozenset({"avatars", "datasets", "login", "logout", "models", "spaces"})  # what a browser may open
RESERVED = PAGES | {"api", "cdn", "lfs", "oauth", ".well-known"}


def check_name(name: object) -> str:
    """Return `name` if it can be a namespace or a repository name.

    Raises:
        ValueError: with the rule that was broken.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid name: use 1 to 96 letters, digits, '-', '_' and '.', "
            "and begin and end with neither '-' nor '.'."
        )
    if "--" in name or ".." in name:
        raise ValueError(f"{name!r} is not a valid name: it contains '--' or '..'.")
    if name.lower().endswith(".git"):
        raise ValueError(f"{name!r} is not a valid name: it ends with '.git'.")
    return name


def check_namespace(name: object) -> str:
    """Return `name` if it can be a user or an organisation; ValueError otherwise."""
    checked = check_name(name)
    if checked.lower() in RESERVED:
        raise ValueError(f"{checked!r} is reserved and cannot be a user or an organisation.")
    return checked


def check_path(path: object) -> str:
    """Return `path` if it can name a file inside a repository; ValueError otherwise."""
    if not isinstance(path, str) or not path or len(path) > LARGEST_PATH:
        raise ValueError(f"A file's path has 1 to {LARGEST_PATH} characters.")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("A file's path must be valid Unicode.") from None
    parts = path.split("/")
    if any(part in ("", ".", "..", ".git") for part in parts) or "\\" in path or _CONTROL.search(path):
        raise ValueError(
            f"{path!r} is not a valid path: it must be relative, without '..', '.git', '\\' or empty parts."
        )
    return path


def check_reference(name: object) -> str:
    """Return `name` if it can be a branch or a tag; ValueError otherwise."""
    if not isinstance(name, str) or not _REFERENCE.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid branch or tag name.")
    parts = name.split("/")
    if name.startswith("refs/") or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts):
        raise ValueError(f"{name!r} is not a valid branch or tag name.")
    if ".." in name or name.endswith(".") or len(to_file_name(name)) > LARGEST_FILE_NAME:
        raise ValueError(f"{name!r} is not a valid branch or tag name.")
    return name


def to_file_name(reference: str) -> str:
    """The flat file name that stores a reference: 'exp/1' becomes 'exp%2F1', so that 'exp' may exist beside it."""
    return quote(reference, safe="")


def from_file_name(file_name: str) -> str:
    """The inverse of `to_file_name`."""
    return unquote(file_name)
