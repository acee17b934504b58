"""What of a recipe varies, and how finely: the part of a search's YAML under `genome:`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...documents import is_number
from ...errors import SearchError
from ...guesses import guess, missing_colon
from ...methods import Method
from .fields import SEARCH

GRANULARITIES = ("model", "group", "layer", "layer_group", "filter", "side", "side_group")
"""How finely the genes of a recipe apply: one value a model; one for attention, MLPs and the rest; one a layer; one for
each of attention, MLP and the rest of a layer; one for each of the filters that the genome names.

Of networks that draw (see blocks.py): attention and the rest; a block; attention and the rest of a block; and one for
the blocks of each side - in, middle, out - or for attention and the rest of these."""


KEYS = ("granularity", "genes", "start", "filters")
"""The keys of a genome."""


@dataclass(frozen=True)
class Gene:
    """One parameter of the merge method that the search varies between `low` and `high`, from `start`."""

    name: str
    low: float
    high: float
    start: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SearchError(f"The range of gene {self.name} must rise, got [{self.low}, {self.high}].")
        if not self.low <= self.start <= self.high:
            raise SearchError(f"The start {self.start} of gene {self.name} is outside [{self.low}, {self.high}].")


def read_genome(genome: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Search` that its `genome` holds: genes, granularity, filters."""
    SEARCH.require_known(genome, KEYS, "genome")
    granularity = genome.get("granularity", "layer")
    several = [granularity] if isinstance(granularity, str) else SEARCH.listed(granularity, "granularity")
    return {
        "genes": _genes(genome),
        "granularity": tuple(several),
        "filters": tuple(map(str, SEARCH.listed(genome.get("filters") or [], "genome.filters"))),
    }


def genome_document(genes: Sequence[Gene], granularity: Sequence[str], filters: Sequence[str]) -> dict[str, Any]:
    """What `read_genome` reads back to these."""
    document: dict[str, Any] = {
        "granularity": list(granularity),
        "genes": {gene.name: [gene.low, gene.high] for gene in genes},
        "start": {gene.name: gene.start for gene in genes},
    }
    return document | {"filters": list(filters)} if filters else document


def require_genes(genes: Sequence[Gene], fixed: Mapping[str, float | bool], method: Method) -> None:
    """Raises `SearchError` unless `method` has these genes and these fixed parameters, each in its limits."""
    known = {parameter.name: parameter for parameter in method.parameters}
    if not genes:
        raise SearchError("The genome has no genes; give at least one, such as `genes: {weight: [0, 2]}`.")
    for gene in genes:
        parameter = known.get(gene.name)
        if parameter is None or not parameter.is_gene:
            numeric = method.genes
            raise SearchError(
                f"{method.name} has no gene {gene.name!r}{guess(gene.name, numeric)}; it can vary: "
                f"{', '.join(numeric) or 'nothing'}."
            )
        low = gene.low if parameter.low is None else parameter.low
        high = gene.high if parameter.high is None else parameter.high
        if gene.low < low or gene.high > high:
            raise SearchError(
                f"The range [{gene.low}, {gene.high}] of gene {gene.name} leaves the limits of "
                f"{method.name}: [{low}, {high}]."
            )
    names = {gene.name for gene in genes}
    for name in fixed:
        if name in names:
            raise SearchError(f"{name} is both a gene and a fixed parameter; keep one.")
        if name not in known:
            raise SearchError(
                f"{method.name} has no parameter {name!r}{guess(name, known)}; it takes: {', '.join(known)}."
            )


def require_granularity(granularity: Sequence[str], filters: Sequence[str]) -> None:
    """Raises `SearchError` for a granularity that there is none of, or filters that nobody asks for."""
    for name in granularity:
        if name not in GRANULARITIES:
            raise SearchError(
                f"Unknown granularity {name!r}{guess(name, GRANULARITIES)}; expected {', '.join(GRANULARITIES)}."
            )
    if not granularity or ("filter" in granularity) != bool(filters):
        raise SearchError("genome.filters belongs to the granularity `filter`: give both, or neither.")


def _genes(genome: Mapping[str, Any]) -> tuple[Gene, ...]:
    ranges, start = SEARCH.mapping(genome.get("genes") or {}, "genome.genes"), genome.get("start")
    alike = isinstance(start, (int, float))
    starts = dict.fromkeys(ranges, start) if alike else SEARCH.mapping(start or {}, "genome.start")
    SEARCH.require_known(starts, ranges, "genome.start")
    genes = []
    for name, limits in ranges.items():
        if not isinstance(limits, (list, tuple)) or len(limits) != 2 or not all(map(is_number, limits)):
            hint = missing_colon(name, limits)
            raise SearchError(f"Gene {name} needs a range [low, high], got {limits!r}{f'; {hint}' if hint else '.'}")
        low, high = map(float, limits)
        middle = starts.get(name, (low + high) / 2)
        if not is_number(middle):
            raise SearchError(f"The start of gene {name} must be a number, got {middle!r}.")
        genes.append(Gene(name, low, high, float(middle)))
    return tuple(genes)
