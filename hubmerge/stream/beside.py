"""Whether the small files beside the weights of a merge still are those that it wrote, as far as they matter."""

import re
from hashlib import sha256
from typing import NamedTuple

from ..documents import parse_object
from ..errors import SourceError
from ..hub.source import Source
from .manifest import Manifest

_TOLD = ("README.md", "mergekit_config.yml")
"""What only tells of the merge."""
_BY_HAND = re.compile(
    r"(generation|tokenizer)_config\.json|chat_template\.(jinja|json)|additional_chat_templates/[^/]+\.jinja"
)
"""What people edit: how answers are written, and how a chat is."""


class Beside(NamedTuple):
    """Names of files that are missing (`lost`), that have other content (`changed`), and of those that people edit
    which have and can be read (`edited`). The card is anybody's to write."""

    lost: tuple[str, ...]
    changed: tuple[str, ...]
    edited: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest, source: Source) -> "Beside":
        """What became of the files that a manifest tells of; one of early versions tells of none."""
        found: tuple[list[str], list[str], list[str]] = [], [], []
        for name, digest in manifest.files.items():
            info = source.files.get(name)
            if name in _TOLD:
                continue
            if info is None:
                found[0].append(name)
                continue
            content = bytes(source.listing.store.read(info, 0, info.size))
            if sha256(content).hexdigest() != digest:
                found[2 if _BY_HAND.fullmatch(name) and _reads(name, content) else 1].append(name)
        return cls(*map(tuple, found))


def _reads(name: str, content: bytes) -> bool:
    try:
        if name.endswith(".json"):
            parse_object(content, name, SourceError, finite=False)
        return bool(content.decode())
    except (SourceError, UnicodeDecodeError):
        return False
