"""How near an extraction comes, module by module and by kinds of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from .adapter import Extraction, Module
from .candidates import last


@dataclass(frozen=True)
class KindOf:
    """All modules of one kind (`q_proj`): how many, their ranks as text ("16" or "3-40"), the share of the square of
    what changed in them that is held, and the least that one of them holds."""

    name: str
    modules: int
    ranks: str
    energy: float
    least: float


def kinds(extraction: Extraction) -> Iterator[KindOf]:
    """The modules by the last part of their name, in the order of the network."""
    found: dict[str, list[Module]] = {}
    for module in extraction.modules:
        found.setdefault(last(module.candidate.module), []).append(module)
    for name, modules in found.items():
        ranks = sorted(one.facts.rank for one in modules)
        total = sum(one.facts.norm**2 for one in modules)
        yield KindOf(
            name,
            len(modules),
            str(ranks[0]) if ranks[0] == ranks[-1] else f"{ranks[0]}-{ranks[-1]}",
            sum(one.facts.norm**2 * one.facts.energy for one in modules) / total,
            min(one.facts.energy for one in modules),
        )
