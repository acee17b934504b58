"""A recipe as a link: its YAML, packed into the address of the page."""

import base64
import binascii
import zlib
from pathlib import Path

from hubmerge.errors import RecipeError
from hubmerge.hub import open_source
from hubmerge.recipe import Recipe

from .upload import read_upload

QUERY = "recipe"
"""The name of the address's parameter."""
LONGEST_LINK = 8_000
"""Characters of a packed recipe: what browsers, servers and chats let through."""
LONGEST_RECIPE = 200_000
"""Bytes of an unpacked one, or of a file."""


def pack(text: str) -> str:
    """A valid recipe's YAML as characters that an address may hold. Raises `RecipeError` for any other text, and
    `SourceError` where a folder that it names cannot be opened."""
    recipe = Recipe.from_text(text)
    if recipe.local_texts:
        raise RecipeError(
            "This recipe's `calibration` names texts of this machine, which nobody else has; name a task or a dataset."
        )
    # A folder of this machine goes by its name and digest: an address is shared.
    recipe = recipe.with_pins({ref: open_source(ref).pinned for ref in recipe.references if ref.reads_folder})
    packed = base64.urlsafe_b64encode(zlib.compress(recipe.to_yaml().encode(), 9)).decode().rstrip("=")
    if len(packed) > LONGEST_LINK:
        raise RecipeError("This recipe is too long for a link; download it and send the file.")
    return packed


def unpack(packed: str) -> str:
    """The YAML of the recipe that `pack` made. Raises `RecipeError` for anything else."""
    try:
        if len(packed) > LONGEST_LINK:
            raise ValueError
        # Bounded: a few bytes can stand for gigabytes.
        opened = zlib.decompressobj()
        raw = opened.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), LONGEST_RECIPE)
        if not opened.eof:
            raise ValueError
        return Recipe.from_text(raw.decode()).to_yaml()
    except (ValueError, binascii.Error, zlib.error):
        raise RecipeError("The link holds no recipe; ask for it anew, or for the file.") from None


def read_file(path: Path) -> str:
    """The YAML of a recipe's file, as it was written. Raises `RecipeError` where it is none."""
    text = read_upload(path, LONGEST_RECIPE, RecipeError)
    Recipe.from_text(text)
    return text
