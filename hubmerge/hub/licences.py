"""Which licence a merge may carry, from the licences of the models that went in. A help, not legal advice.

Equal licences are copied. Different ones become `other` with a name that lists them, and the card explains each.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .listing import Licence, Listing
from .source import Source, parts_of

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
    if len(distinct) == 1:
        only = distinct[0]
        return LicenceResult(only.id, only.name, only.link, rows, warnings)
    name = "-and-".join(sorted({_slug(row.licence) for row in rows}))
    return LicenceResult("other", name, link, rows, warnings)


def _row(part: Listing) -> LicenceRow:
    licence = part.licence
    name = _shown(licence)
    conditions = tuple(text for pattern, text in _CONDITIONS if re.fullmatch(pattern, name.lower()))
    if licence.id in ("other", None, UNKNOWN) and not conditions:
        conditions = ("terms of its own: read them",) if licence.id == "other" else (_NOTHING,)
    return LicenceRow(part.title, name, licence.link, conditions)


def _shown(licence: Licence) -> str:
    return (licence.name or "other") if licence.id == "other" else licence.id or UNKNOWN


def _warnings(rows: Sequence[LicenceRow]) -> list[str]:
    silent = list(dict.fromkeys(row.model for row in rows if _NOTHING in row.conditions))
    warnings = [f"{row.model} ({row.licence}): {text}." for row in rows for text in row.conditions if text != _NOTHING]
    if silent:
        warnings.append(f"No licence is stated by {', '.join(silent)}; ask who made {'them' if silent[1:] else 'it'}.")
    bound = sorted({row.licence for row in rows if any(text.startswith("share alike") for text in row.conditions)})
    if len(bound) > 1:
        warnings.append(f"{' and '.join(bound)} each ask derivatives to carry them alone; both cannot be met at once.")
    return warnings


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "other"
