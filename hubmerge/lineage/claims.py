"""What a model says of its parents: hubmerge's manifest before the card, and an adapter's settings before both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..documents import parse_object
from ..errors import RecipeError, SourceError
from ..hub.listing import Listing
from ..hub.lora import is_adapter, trained_on
from ..reference import ModelRef
from ..stream.manifest import MANIFEST

RELATIONS = ("merge", "finetune", "adapter", "quantized")


@dataclass(frozen=True)
class Claim:
    """A parent that a model names: the repository, as its `relation` ("merge", "finetune", "adapter", "quantized";
    None where that is not said), in its `told` ("manifest", "adapter" or "card")."""

    repo_id: str
    relation: str | None
    told: str


def claims_of(listing: Listing) -> tuple[Claim, ...]:
    """The parents that a model names, once each; empty where it names none. Whatever is no name of a repository is
    left out, and so is the model itself."""
    found = list(_manifest(listing))
    if not found and is_adapter(listing.files) and (base := trained_on(listing)) is not None:
        found = [Claim(base, "adapter", "adapter")]
    if not found:
        relation = listing.card.get("base_model_relation")
        known = relation if relation in RELATIONS else "merge" if len(listing.base_models) > 1 else None
        found = [Claim(name, known, "card") for name in listing.base_models]
    kept = {claim.repo_id: claim for claim in reversed(found) if _is_repository(claim.repo_id)}
    kept.pop(listing.name, None)
    return tuple(reversed(kept.values()))


def _manifest(listing: Listing) -> Iterator[Claim]:
    """The sources that hubmerge.json lists; what is no manifest says nothing."""
    try:
        document: Mapping[str, Any] = parse_object(listing.read_text(MANIFEST) or "{}", MANIFEST, SourceError)
    except SourceError:
        return
    sources = document.get("sources")
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict) and isinstance(source.get("model"), str):
            yield Claim(source["model"], "merge", "manifest")


def _is_repository(name: str) -> bool:
    try:
        ref = ModelRef.parse(name)
    except RecipeError:
        return False
    return "/" in name and not ref.reads_folder and not ref.stage and ref.revision is None and not ref.inside
