"""What a model says of its parents: hubmerge's manifest before the card, and an adapter's settings before both."""

from dataclasses import dataclass, replace

from ..hub.listing import Listing
from ..hub.lora import is_adapter, trained_on
from ..reference import repository_of
from ..stream.findings import some
from ..stream.manifest import sources_of
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
    found = [Claim(one["model"], "merge", "manifest") for one in sources_of(listing)]
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
        if (repo_id := repository_of(claim.repo_id)) is None:
            others.append(brief(claim.repo_id))
        elif repo_id != listing.name:
            kept.setdefault(repo_id, replace(claim, repo_id=repo_id))
    if others:
        remarks.append(f"its {found[0].told} names {some(others)}: no model of the Hub")
    return tuple(kept.values()), tuple(remarks)
