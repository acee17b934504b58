"""What the card in a folder states: the YAML at the head of README.md, as plain values."""

import re
from pathlib import Path
from typing import Any

from ..documents import MAX_CHARACTERS, load_mapping
from ..errors import SourceError

# As huggingface_hub finds it.
_BLOCK = re.compile(r"\s*---\n(?P<yaml>.*?)\n---[ \t]*(?:\n|$)", re.DOTALL)


def read_front_matter(readme: Path, where: str) -> tuple[dict[str, Any], str | None]:
    """The front matter of a card, and a remark where it cannot be read: then nothing is known of what it states.

    A card says nothing about the weights, so that a broken one is no reason to refuse a model.
    """
    what = f"front matter of README.md of {where}"
    try:
        if not readme.is_file():
            return {}, None
        with readme.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)
        block = _BLOCK.match(text)
        if block is None or not block["yaml"].strip():
            return {}, None
        return load_mapping(block["yaml"], what, SourceError, finite=False), None
    except (OSError, ValueError) as exc:
        return {}, f"The {what} cannot be read: {exc}; nothing is known of its licence."
    except SourceError as exc:
        return {}, f"{exc} Nothing is known of its licence."
