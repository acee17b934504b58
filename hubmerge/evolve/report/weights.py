"""The winning recipe as a table of genes: which value each model has in each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ... import layers
from ...blocks import ATTENTION, REST
from .canvas import is_number
from .data import mapping

ALL = "all"
DEPTH = "depth "
_FIRST = ("weight", "density", "t")  # genes that readers look for first; others follow by name


@dataclass(frozen=True)
class Panel:
    """One gene, for one part of every layer ("attention") where the genome is as fine as that.

    `cells[row][column]` is the value at a place (a layer, a group, the rest) of a model; None where it has none.
    """

    gene: str
    part: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]

    @property
    def title(self) -> str:
        """The gene, and the part of the layers it is for."""
        return f"{self.gene}, {self.part}" if self.part else self.gene

    @property
    def largest(self) -> float:
        """The largest size of a value."""
        return max((abs(value) for row in self.cells for value in row if value is not None), default=0.0)


def panels(recipe: Mapping[str, Any], genes: Sequence[str] = ()) -> tuple[Panel, ...]:
    """The panels of a recipe's parameters: those of `genes`, or every number where none are named.

    A gene that all models share has one column, "all models". Anything in the recipe that is not a number, a
    gradient over depth or a list of filters is left out.
    """
    entries = recipe.get("models")
    named = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    columns: dict[str, dict[str, Any]] = {}
    for entry in named:
        for gene, setting in mapping(entry, "parameters").items():
            columns.setdefault(gene, {})[str(entry.get("model"))] = setting
    for gene, setting in mapping(recipe, "parameters").items():
        columns.setdefault(gene, {"all models": setting})
    wanted = [gene for gene in columns if not genes or gene in genes]
    wanted.sort(key=lambda gene: (_FIRST.index(gene) if gene in _FIRST else len(_FIRST), gene))
    return tuple(panel for gene in wanted for panel in _panels(gene, columns[gene]))


def _panels(gene: str, settings: Mapping[str, Any]) -> list[Panel]:
    """One gene's panels: one, or one for each part of the layers."""
    values: dict[str, dict[tuple[str, str], float]] = {}
    for column, setting in settings.items():
        for part, row, value in _places(setting):
            values.setdefault(part, {}).setdefault((row, column), value)
    found = []
    for part, cells in values.items():
        rows = sorted(dict.fromkeys(row for row, _ in cells), key=_order)
        table = tuple(tuple(cells.get((row, column)) for column in settings) for row in rows)
        found.append(Panel(gene, part, tuple(rows), tuple(settings), table))
    return found


def _places(setting: Any) -> list[tuple[str, str, float]]:
    """A setting's (part, row, value): one for a number, one an anchor of a gradient, one a filter."""
    if is_number(setting):
        return [("", ALL, float(setting))]
    if not isinstance(setting, (list, tuple)):
        return []
    if all(is_number(value) for value in setting):
        last = max(1, len(setting) - 1)
        return [("", f"{DEPTH}{n / last:.0%}", float(value)) for n, value in enumerate(setting)]
    cases = [case for case in setting if isinstance(case, Mapping) and is_number(case.get("value"))]
    found, before = [], set[str]()
    for case in cases:
        part, row = _place(case.get("filter"))
        # The first filter that fits counts: after IN+attention, IN is what else is in it.
        row = f"{row}+{REST}" if f"{row}+{ATTENTION}" in before else row
        before.add(row)
        found.append((part, row, float(case["value"])))
    return found


def _place(pattern: object) -> tuple[str, str]:
    """The part and the row that a filter stands for."""
    if pattern in (None, "*"):
        return "", REST
    # A filter is the beginning of a name, such as "model.layers.3." or "model.layers.3.mlp.": the star ends it.
    name = layers.parse(f"{pattern}*")
    if name.layer is None:
        return "", name.group if str(pattern).startswith(".") and name.group != "other" else str(pattern)
    if name.suffix == "*":
        return "", str(name.layer)
    return name.group if name.group != "other" else name.suffix.rstrip(".*"), str(name.layer)


def _order(row: str) -> tuple[int, int]:
    """Layers by number, then the groups and filters as they came, then the rest."""
    return (0, int(row)) if row.isdecimal() else (2 if row in (REST, ALL) else 1, 0)
