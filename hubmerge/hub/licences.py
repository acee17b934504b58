"""Which licence a merge may carry, from the licences of the models that went in. A help, not legal advice.

Equal licences are copied, as is one that all offer among others (`MIT OR Apache-2.0`). Where one asks derivatives to
carry it and the others allow that, it is taken. Else they become `other` with a name that lists them, and the card
explains each.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .listing import Licence, Listing
from .source import Source, parts_of
from .spdx import Alternatives, alternatives, identifier, is_expression

UNKNOWN = "unknown"
_NOTHING = "no licence is stated: ask the author"

# What to watch for, by the Hub's licence identifiers: https://huggingface.co/docs/hub/repositories-licenses
_CONDITIONS = (
    (r".*-nc(-.*)?|apple-amlr|apple-ascl|intel-research|fair-noncommercial.*", "no commercial use"),
    (r".*-nd(-.*)?", "no derivatives: a merge may not be shared"),
    (r".*-sa(-.*)?|a?gpl-.*|lgpl-.*|a?gpl|lgpl|osl-.*|eupl-.*|cecill-.*|odbl", "share alike: derivatives keep it"),
    (r"llama.*", "Meta's terms: accepted uses, and names begin with Llama"),
    (r"gemma", "Google's terms: accepted uses"),
    (r".*openrail.*|bigscience-.*|deepfloyd-.*", "use restrictions are passed on"),
)

_ALIKE = "share alike"
_PERMISSIVE = frozenset(
    {"mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "wtfpl", "cc0-1.0", "0bsd"}
)
_ALLOWS: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("gpl-3.0", "agpl-3.0", "lgpl-3.0"), _PERMISSIVE),
    **dict.fromkeys(("gpl-2.0", "lgpl-2.1"), _PERMISSIVE - {"apache-2.0"}),
    **dict.fromkeys(("cc-by-sa-4.0", "cc-by-nc-sa-4.0"), _PERMISSIVE | {"cc-by-4.0"}),
}
"""Licences that derivatives keep, with those whose work may be passed on under them."""
_GPL = re.compile(r"a?gpl(-.*)?")
_NARROW = ("no commercial use", "no derivatives", "Meta's terms", "Google's terms", "use restrictions")
"""What the GPL and cc-by-sa do not let anybody add."""


@dataclass(frozen=True)
class LicenceRow:
    """One model's licence as the card shows it: `licence` is the identifier or name, `conditions` what to watch for."""

    model: str
    licence: str
    link: str | None
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class LicenceResult:
    """The merge's licence for the card's metadata (all None where no model states one), a row a model, warnings."""

    license: str | None
    license_name: str | None
    license_link: str | None
    rows: tuple[LicenceRow, ...]
    warnings: tuple[str, ...]


def combine(sources: Sequence[Source], link: str | None = None) -> LicenceResult:
    """The licence of a merge of `sources`; `link` is where a mixture of licences is explained (the card's address)."""
    parts = parts_of(sources)
    distinct = list(dict.fromkeys(part.licence for part in parts))
    rows = tuple(map(_row, parts))
    warnings = tuple(_warnings(rows))
    if len(distinct) == 1 and not is_expression(distinct[0].id or ""):
        only = distinct[0]
        return LicenceResult(only.id, only.name, only.link, rows, warnings)
    if (one := _one_for_all([_offered(licence) for licence in distinct])) is not None:
        return LicenceResult(one, None, None, rows, warnings)
    name = "-and-".join(sorted({_slug(row.licence) for row in rows}))
    return LicenceResult("other", name, link, rows, warnings)


def _row(part: Listing) -> LicenceRow:
    licence = part.licence
    name = _shown(licence)
    # Of several that are offered, the one with the fewest conditions is taken.
    ways = [_conditions(each) for each in alternatives(name)]
    conditions = min(ways, key=len)
    if licence.id in ("other", None, UNKNOWN) and not conditions:
        conditions = ("terms of its own: read them",) if licence.id == "other" else (_NOTHING,)
    return LicenceRow(part.title, name, licence.link, conditions)


def _offered(licence: Licence) -> Alternatives:
    """The licences that a model comes under; none where it has terms of its own or states nothing."""
    return () if licence.id in ("other", None, UNKNOWN) else alternatives(licence.id)


def _one_for_all(offered: Sequence[Alternatives]) -> str | None:
    """The one licence that a merge of all may carry: one that each offers, or that derivatives keep and the others
    allow; None where there is none, or where nobody says."""
    if not all(offered):
        return None
    alone = [{each[0] for each in one if len(each) == 1} for one in offered]
    if shared := set.intersection(*alone):
        return min(shared)
    for kept, allowed in _ALLOWS.items():
        if all(any(set(each) <= allowed | {kept} for each in one) for one in offered) and any(
            one == ((kept,),) for one in offered
        ):
            return kept
    return None


def _shown(licence: Licence) -> str:
    return (licence.name or "other") if licence.id == "other" else licence.id or UNKNOWN


def _warnings(rows: Sequence[LicenceRow]) -> list[str]:
    silent = list(dict.fromkeys(row.model for row in rows if _NOTHING in row.conditions))
    warnings = [f"{row.model} ({row.licence}): {text}." for row in rows for text in row.conditions if text != _NOTHING]
    if silent:
        warnings.append(f"No licence is stated by {', '.join(silent)}; ask who made {'them' if silent[1:] else 'it'}.")
    bound = sorted({identifier(row.licence) for row in rows if any(one.startswith(_ALIKE) for one in row.conditions)})
    if len(bound) > 1:
        warnings.append(f"{' and '.join(bound)} each ask derivatives to carry them alone; both cannot be met at once.")
    open_ones = [one for one in bound if _GPL.fullmatch(one) or one.startswith("cc-by-sa")]
    narrow = sorted(
        {identifier(row.licence) for row in rows if any(text.startswith(_NARROW) for text in row.conditions)}
    )
    for one in (one for one in open_ones if set(narrow) - {one}):
        names = " and ".join(sorted(set(narrow) - {one}))
        warnings.append(f"{one} lets nobody add restrictions, and {names} has some; both cannot be met at once.")
    if {"gpl-2.0", "apache-2.0"} <= {identifier(row.licence) for row in rows}:
        warnings.append("gpl-2.0 and apache-2.0 (its patent terms) cannot be met at once.")
    return warnings


def _conditions(licences: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for pattern, text in _CONDITIONS if any(re.fullmatch(pattern, one.lower()) for one in licences))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "other"
