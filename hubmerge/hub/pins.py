"""Folders pinned as repositories are: by what is in them.

./math@sha256:0123456789ab is a folder named math whose tensors have that digest: their names, types and shapes, and a
sample of the bytes of each, so that nothing is read twice and models of one kind are still told apart.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import SourceError
from ..places import find, folder_name, note, short
from ..reference import ModelRef
from .headers import TensorHeader
from .listing import Listing
from .store import Folder

SAMPLE = 4096
"""Bytes of a tensor's middle that its digest covers; of one that has no more, all."""


class Opened(Protocol):
    """A model or a LoRA, opened."""

    @property
    def listing(self) -> Listing:
        """Its files."""

    @property
    def stored(self) -> Iterable[TensorHeader]:
        """Its tensors."""


T = TypeVar("T", bound=Opened)


def pin(opened: Opened) -> ModelRef:
    """The reference at the commit that was opened; of a folder at its digest, by a name that tells no path."""
    listing = opened.listing
    if not isinstance(listing.store, Folder):
        return listing.ref.pinned(listing.commit)
    if listing.ref.place is not None:
        return listing.ref  # it has such a name
    root = Path(os.path.realpath(listing.store.root))
    digest = tensors_digest(root, opened.stored)
    note(digest, root)
    return ModelRef(f"./{folder_name(listing.name)}", digest, place=str(root), inside=listing.ref.inside)


def open_pinned(ref: ModelRef, open_at: Callable[[ModelRef], T]) -> T:
    """The folder that a digest names, opened by `open_at` where it lies on this machine.

    Raises `SourceError` where none of the places that it may be at has these tensors.
    """
    other = None
    for root in _roots(ref):
        try:
            opened = open_at(replace(ref, place=str(root)))
        except SourceError as exc:
            other = str(exc).rstrip(".")
            continue
        found = tensors_digest(opened.listing.root or root, opened.stored)
        if found == ref.revision:
            note(found, root)
            return opened
        other = f"{root} has {found}"
    name = folder_name(ref.repo_id)
    if other is not None:
        raise SourceError(
            f"{ref} means a folder {name!r} that is not the one found here ({other}); put the one that is meant at "
            f"{ref.repo_id}, or name another model."
        )
    raise SourceError(
        f"{ref} means a folder {name!r} of the machine that this was made on, and none with these tensors is known "
        f"here; put it at {ref.repo_id}, or name another model."
    )


def _roots(ref: ModelRef) -> Iterator[Path]:
    noted = find(str(ref.revision))
    roots = [ref.place, str(noted) if noted else None, ref.repo_id]
    for root in dict.fromkeys(os.path.realpath(root) for root in roots if root):
        if os.path.isdir(root):
            yield Path(root)


def tensors_digest(root: Path, tensors: Iterable[TensorHeader]) -> str:
    """`sha256:` and 12 hex digits of the tensors' names, types, shapes and a sample of their bytes."""
    digest = hashlib.sha256()
    samples: dict[str, bytes] = {}
    by_file: dict[str, list[TensorHeader]] = {}
    for tensor in tensors:
        by_file.setdefault(tensor.file, []).append(tensor)
    for file, held in by_file.items():
        try:
            with open(root / file, "rb") as opened:
                for tensor in held:
                    opened.seek(tensor.start + max(tensor.nbytes - SAMPLE, 0) // 2)
                    sample = opened.read(least := min(tensor.nbytes, SAMPLE))
                    if len(sample) < least:
                        raise SourceError(f"{root / file} is cut short within {tensor.name}; put the whole file there.")
                    said = f"{tensor.name}\n{tensor.dtype} {tensor.shape}\n".encode() + sample
                    samples[tensor.name] = hashlib.sha256(said).digest()
        except OSError as exc:
            raise SourceError(f"{root / file} cannot be read: {exc.strerror or exc}.") from exc
    for name in sorted(samples):
        digest.update(samples[name])
    return short(digest.hexdigest())
