"""A merge that was published, read back: the recipe that lies in its repository or folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .errors import HubmergeError, RecipeError, SourceError
from .experts.document import Moe, is_moe
from .extract import EXTRACT
from .hub.listing import Listing, list_files
from .recipe import Recipe
from .reference import ModelRef
from .stream.manifest import MANIFEST, Manifest, require_public
from .typed import typed

MERGEKIT, MERGEKIT_MOE = "mergekit_config.yml", "mergekit_moe_config.yml"
"""What mergekit calls the recipe that it puts beside the weights."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Published:
    """What a model says that it was made by: the recipe in `file`, and the manifest where hubmerge made it."""

    listing: Listing
    file: str
    recipe: Recipe | Moe
    manifest: Manifest | None

    @property
    def parts(self) -> tuple[ModelRef, ...]:
        """The repositories that it names, LoRAs each by itself."""
        named = [part for ref in self.recipe.references for part in (replace(ref, lora=None), ref.lora) if part]
        return tuple(dict.fromkeys(part for part in named if not part.is_folder))

    @property
    def unpinned(self) -> tuple[str, ...]:
        """The models that it names without a commit, so that they may be others today."""
        named = (part for part in self.parts if not _COMMIT.fullmatch(part.revision or ""))
        return tuple(dict.fromkeys(part.repo_id for part in named))

    def to_merge(self) -> Recipe:
        """The recipe, where `merge` can follow it. Raises `RecipeError` for what another command makes."""
        if isinstance(self.recipe, Recipe) and self.recipe.merge_method != EXTRACT:
            return self.recipe
        kind = "a mixture of experts" if isinstance(self.recipe, Moe) else "a LoRA that was extracted"
        raise RecipeError(
            f"{self.listing.name} is {kind}, not a merge; make it again with: "
            f"{typed(f'reproduce {self.listing.name} --out FOLDER')}"
        )


def read_published(ref: ModelRef, *, token: str | None = None, strict: bool = False) -> Published:
    """The recipe of a published merge: that of hubmerge.json, pinned to commits, else mergekit's.

    Raises `SourceError` where there is none or it names folders of its maker's machine, `RecipeError` for one that
    cannot be read, `HubError` for what the Hub refuses.
    """
    listing = list_files(ref, token)
    file = next((name for name in (MANIFEST, MERGEKIT, MERGEKIT_MOE) if name in listing.files), None)
    text = listing.read_text(file) if file else None
    if file is None or text is None:
        raise SourceError(
            f"{listing.name} tells no recipe: it has neither {MANIFEST} nor {MERGEKIT}, so nothing says how it was "
            "merged."
        )
    manifest = Manifest.parse(text, listing.name) if file == MANIFEST else None
    try:
        if manifest is not None:
            recipe = read_again(manifest.recipe)
        else:
            recipe = Moe.from_text(text) if file == MERGEKIT_MOE else Recipe.from_text(text, strict)
    except HubmergeError as exc:
        raise RecipeError(f"{file} of {listing.name} cannot be followed: {exc}") from exc
    if listing.root is None:
        require_public(recipe, listing.name, "name the models that it means in a recipe of your own")
    return Published(listing, file, recipe, manifest)


def read_again(document: Mapping[str, Any]) -> Recipe | Moe:
    """The recipe of a merge, or of what else it is, from plain values. Raises `RecipeError`."""
    return Moe.from_dict(document) if is_moe(document) else Recipe.from_dict(document)
