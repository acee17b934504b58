"""The genome: from a vector of unbounded numbers to an ordinary recipe.

Every gene lives on the whole real line, because CMA-ES knows no bounds. A smooth, strictly rising map with slope 1 in
the middle of the range takes it to a value (values are not folded or clipped: both would give a searcher two
directions that look alike). Positions are in units of a gene's range: 0.5 is its middle for every gene.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import layers
from ..recipe import Conditional, Recipe, Setting
from .search import Gene, Search

_EDGE = 0.005
DIGITS = 6
"""Decimals of a value in a recipe, so that the YAML says exactly what was merged."""


def squash(position: float, low: float, high: float) -> float:
    """The value in (low, high) at a position on the real line; slope (high - low) at 0.5, the middle."""
    return low + (high - low) * (0.5 + 0.5 * math.tanh(2 * (position - 0.5)))


def unsquash(value: float, low: float, high: float) -> float:
    """The position of a value: the inverse of `squash`. An edge, which lies at infinity, is taken .5% inside."""
    share = min(max((value - low) / (high - low), _EDGE), 1 - _EDGE)
    return 0.5 + 0.5 * math.atanh(2 * share - 1)


@dataclass(frozen=True)
class Place:
    """Some of the tensors: those whose name contains one of `filters`; an empty tuple stands for all the rest."""

    name: str
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """What one number of the vector sets: a gene, of one model (None: shared by all), at one place."""

    gene: Gene
    model: int | None
    place: int


class Genome:
    """The genome of a search over models with the given tensor names.

    granularity "model": one value a gene and model. "layer": one a layer too, and one more for all that is outside
    the layers (embeddings, final norm, head). "group": one for attention, one for the MLPs, one for the rest.
    """

    def __init__(self, search: Search, tensor_names: Sequence[str]) -> None:
        self.search = search
        self.places = _places(search.granularity, tensor_names)
        self.slots = tuple(
            Slot(gene, model, place)
            for gene in search.genes
            for model in (range(len(search.models)) if search.is_per_model(gene.name) else (None,))
            for place in range(len(self.places))
        )

    @property
    def size(self) -> int:
        """How many numbers a candidate has."""
        return len(self.slots)

    @property
    def start(self) -> np.ndarray:
        """The vector of the search's start, float64 (size,)."""
        return self.encode(np.array([slot.gene.start for slot in self.slots]))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The vector whose genes have the given values, one a slot."""
        pairs = zip(values, self.slots, strict=True)
        return np.array([unsquash(float(value), slot.gene.low, slot.gene.high) for value, slot in pairs])

    def values(self, vector: np.ndarray) -> np.ndarray:
        """The genes' values, inside their ranges; shape (size,)."""
        pairs = zip(vector, self.slots, strict=True)
        return np.array([round(squash(float(x), slot.gene.low, slot.gene.high), DIGITS) for x, slot in pairs])

    def decode(self, vector: np.ndarray) -> Recipe:
        """The recipe of a vector of shape (size,): plain YAML with exact values a layer or group, and no gradients."""
        values = dict(
            zip(((s.gene.name, s.model, s.place) for s in self.slots), self.values(vector).tolist(), strict=True)
        )

        def setting(gene: str, model: int | None) -> Setting:
            return _setting(self.places, [values[gene, model, place] for place in range(len(self.places))])

        genes = [gene.name for gene in self.search.genes]
        shared = {gene: setting(gene, None) for gene in genes if not self.search.is_per_model(gene)}
        per_model = [
            {gene: setting(gene, model) for gene in genes if self.search.is_per_model(gene)}
            for model in range(len(self.search.models))
        ]
        return self.search.recipe(shared, per_model)


def _setting(places: Sequence[Place], values: Sequence[float]) -> Setting:
    if len(places) == 1:
        return values[0]
    return tuple(
        Conditional(name, value)
        for place, value in zip(places, values, strict=True)
        for name in place.filters or (None,)
    )


def _places(granularity: str, tensor_names: Sequence[str]) -> tuple[Place, ...]:
    rest = Place("rest")
    if granularity == "model":
        return (rest,)
    parsed = [layers.parse(name) for name in tensor_names]
    if granularity == "layer":
        # The dot after the number keeps layer 3 apart from 13 and 30.
        stacks = sorted({(name.prefix, name.layer) for name in parsed if name.layer is not None})
        found = [Place(f"{prefix}{layer}", (f"{prefix}{layer}.",)) for prefix, layer in stacks]
    else:
        found = [Place(group, _filters(group, parsed)) for group in ("attention", "mlp")]
    return (*(place for place in found if place.filters), rest)


def _filters(group: str, names: Sequence[layers.TensorName]) -> tuple[str, ...]:
    """The shortest pieces of names that pick a group's tensors and nothing else, such as "self_attn."."""
    inside = sorted({name.suffix for name in names if name.group == group and name.layer is not None})
    others = [name.name for name in names if name.group != group or name.layer is None]
    filters: dict[str, None] = {}
    for suffix in inside:
        parts = suffix.split(".")
        prefixes = (".".join(["", *parts[:n], ""]) for n in range(1, len(parts)))
        pick = next((p for p in prefixes if not any(p in other for other in others)), f".{suffix}")
        filters[pick] = None
    return tuple(filters)
