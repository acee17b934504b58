"""What a model says of its parents: hubmerge's manifest before the card, and an adapter's settings before both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..documents import parse_object
from ..errors import RecipeError, SourceError
from ..hub.listing import Listing
from ..hub.lora import is_adapter, trained_on
from ..reference import ModelRef
from ..stream.findings import some
from ..stream.manifest import MANIFEST
from ..text import brief

RELATIONS = ("merge", "finetune", "adapter", "quantized")


@dataclass(frozen=True)
class Claim:
    """A parent that a model names: the repository, as its `relation` ("merge", "finetune", "adapter", "quantized";
    None where that is not said), in its `told` ("manifest", "adapter" or "card")."""

    repo_id: str
    relation: str | None
    told: str


def claims_of(listing: Listing) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """The parents that a model names, once each and without itself, and remarks: what of it says nothing."""
    found: list[Claim] = list(_manifest(listing))
    if not found and is_adapter(listing.files) and (base := trained_on(listing)) is not None:
        found = [Claim(base, "adapter", "adapter")]
    remarks = []
    if not found:
        named = listing.card.get("base_model") or []
        named = named if isinstance(named, list) else [named]
        relation = listing.card.get("base_model_relation")
        known = relation if relation in RELATIONS else "merge" if len(named) > 1 else None
        found = [Claim(name, known, "card") for name in named]
        if listing.remark is not None:
            remarks = ["its card cannot be read"]
    kept: dict[str, Claim] = {}
    others = []
    for claim in found:
        if (repo_id := _repository(claim.repo_id)) is None:
            others.append(brief(claim.repo_id))
        elif repo_id != listing.name:
            kept.setdefault(repo_id, replace(claim, repo_id=repo_id))
    if others:
        remarks.append(f"its {found[0].told} names {some(others)}: no model of the Hub")
    return tuple(kept.values()), tuple(remarks)


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


def _repository(name: object) -> str | None:
    """The Hub ID that somebody wrote, as that or as the address of its page; None for whatever else it is."""
    try:
        ref = ModelRef.parse(name) if isinstance(name, str) else None
    except RecipeError:
        return None
    return None if ref is None or ref.stage or ref.reads_folder or ref.lora is not None else ref.repo_id
