"""Git's own identifiers (SHA-1): every oid the server hands out is what git would compute for the same content."""

import hashlib
from collections.abc import Iterable, Mapping


def _object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def blob_id(content: bytes) -> str:
    """The oid of a file with this content."""
    return _object_id("blob", content)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small text that git stores in place of an LFS file (git-lfs specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def tree_ids(blobs: Mapping[str, str]) -> dict[str, str]:
    """The oid of every folder, '' being the root.

    Args:
        blobs: path of each file -> oid of its blob.
    """
    folders: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for path, oid in blobs.items():
        parent, _, name = path.rpartition("/")
        folders.setdefault(parent, {})[name] = ("100644", oid)
        while parent:
            parent = parent.rpartition("/")[0]
            folders.setdefault(parent, {})
    ids: dict[str, str] = {}
    for folder in sorted(folders, key=_depth, reverse=True):
        ids[folder] = _object_id("tree", _tree_content(folders[folder].items()))
        if folder:
            parent, _, name = folder.rpartition("/")
            folders[parent][name] = ("40000", ids[folder])
    return ids


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _tree_content(children: Iterable[tuple[str, tuple[str, str]]]) -> bytes:
    # Git sorts a folder as if its name ended with a slash.
    ordered = sorted(children, key=lambda child: child[0].encode() + (b"/" if child[1][0] == "40000" else b""))
    return b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for name, (mode, oid) in ordered)


def commit_id(tree: str, parents: Iterable[str], author: str, seconds: int, message: str) -> str:
    """The oid of a commit by `author` at `seconds` since the epoch (UTC)."""
    who = f"{author} <{author}@localhub> {seconds} +0000"
    lines = [
        f"tree {tree}",
        *(f"parent {parent}" for parent in parents),
        f"author {who}",
        f"committer {who}",
        "",
        message,
    ]
    return _object_id("commit", "\n".join(lines).encode(errors="replace"))
