"""What a finished merge says of itself, in hubmerge.json beside the weights, read back and checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..documents import parse_object
from ..errors import SourceError
from ..hub.holdings import MANIFEST as MANIFEST
from ..hub.listing import Listing
from ..recipe import Recipe
from .findings import some
from .names import name_of

if TYPE_CHECKING:  # which brings torch
    from .plan import Wanted

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What a merge says it wrote, and from what.

    `sizes` maps each shard to its bytes, `headers` to the sha256 of its safetensors header, which has the tensors'
    names, dtypes and shapes; `tensors` maps each tensor to the sha256 of its bytes, `files` each small file to that of
    its content (nothing in manifests of early versions); `recipe` is pinned to commits; `versions` are those of
    hubmerge and of the libraries that computed it, on `device` as torch names it.
    """

    sizes: Mapping[str, int]
    headers: Mapping[str, str]
    tensors: Mapping[str, str]
    files: Mapping[str, str]
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str

    @classmethod
    def parse(cls, text: str, where: str) -> "Manifest":
        """Reads hubmerge.json of the model `where`; raises `SourceError` where it is broken.

        Names in it are only ever compared with those of the model's files and tensors, never opened as paths.
        """

        def expect(fits: bool, what: str) -> None:
            if not fits:
                raise SourceError(f"{MANIFEST} of {where} is broken: {what}; fetch or merge the model again.")

        document: Any = parse_object(text, f"{MANIFEST} of {where}", SourceError, hint="fetch or merge the model again")
        shards, recipe = document.get("shards"), document.get("recipe")
        expect(isinstance(shards, dict) and bool(shards), "it lists no shards")
        expect(isinstance(recipe, dict), "it holds no recipe")
        expect(isinstance(document.get("versions"), dict), "it lists no versions")
        versions = {"hubmerge": document.get("hubmerge"), **document["versions"]}
        expect(all(isinstance(version, str) for version in versions.values()), "it has a version that is no text")
        expect(isinstance(document.get("device"), str), "it names no device")
        tensors: dict[str, str] = {}
        for file, record in shards.items():
            shard = f"the shard {shown(file)}"
            expect(isinstance(record, dict), f"{shard} is not described")
            expect(type(record.get("nbytes")) is int, f"{shard} has no size (nbytes)")
            expect(_is_sha256(record.get("header")), f"{shard} has no sha256 of its header")
            expect(isinstance(record.get("tensors"), dict), f"{shard} has no table of tensors")
            for name, digest in ((name_of(file, one), digest) for one, digest in record["tensors"].items()):
                expect(_is_sha256(digest), f"the tensor {shown(name)} has no sha256")
                expect(name not in tensors, f"the tensor {shown(name)} is in two shards")
                tensors[name] = digest
        files = document.get("files", {})
        expect(isinstance(files, dict) and all(map(_is_sha256, files.values())), "it has a file without a sha256")
        sizes = {file: record["nbytes"] for file, record in shards.items()}
        headers = {file: record["header"] for file, record in shards.items()}
        return cls(sizes, headers, tensors, files, recipe, versions, document["device"])


def sources_of(listing: Listing) -> list[dict[str, Any]]:
    """What the manifest of a model says it was made from, each with its `model` and `commit`; in place of a folder what
    that was made from. Of a model without a manifest, or with what is none, nothing."""
    try:
        document: Any = parse_object(listing.read_text(MANIFEST) or "{}", MANIFEST, SourceError)
    except SourceError:
        return []

    def named(sources: Any) -> list[dict[str, Any]]:
        given = sources if isinstance(sources, list) else []
        found = [one for one in given if isinstance(one, dict) and isinstance(one.get("model"), str)]
        return [part for one in found for part in (named(one.get("parents")) or [one])]

    return named(document.get("sources"))


def require_public(recipe: "Wanted", name: str, instead: str) -> None:
    """Raises `SourceError` where the recipe of the repository `name` means folders or texts of its maker's machine."""
    texts = recipe.local_texts if isinstance(recipe, Recipe) else ()
    folders = [str(model) for model in recipe.references if model.reads_folder]
    if folders or texts:
        of = "from folders" if folders else "by texts"
        raise SourceError(
            f"{name} was merged {of} of its maker's machine ({some(map(shown, folders or texts))}), so it cannot be "
            f"merged again here; {instead}."
        )


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def shown(name: str) -> str:
    """A name from a file of strangers for people to read: nothing in it may steer the terminal."""
    return name if name.isprintable() else ascii(name)
