"""The genome: from a vector of unbounded numbers to an ordinary recipe.

Every gene lives on the whole real line, because CMA-ES knows no bounds; `squash` takes it to a value. Positions are in
units of a gene's range: 0.5 is its middle for every gene.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ... import layers
from ...blocks import ATTENTION, BASE, SIDES, block_of, find_blocks, fits, side_of
from ...errors import SearchError
from ...recipe import Conditional, ModelEntry, Recipe, Setting, value_at
from ...reference import ModelRef
from ..search import Search
from ..spec.genes import Gene
from .squash import DIGITS, squash, unsquash

_EXAMPLES = 8
"""Tensors of a place, at most, whose values stand for it."""
_NEW = 0.05
"""How far inside its range, in parts of it, the weight of a model begins that the recipe to begin at does not have: at
its edge nothing moves."""

Words = Mapping[str, Collection[str]]
"""What filters may call tensors of a network that draws, by their names; of any other, nothing."""


@dataclass(frozen=True)
class Place:
    """Some of the tensors: those that one of `filters` means; an empty tuple stands for all the rest."""

    name: str
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """What one number of the vector sets: a gene, of one model (None: shared by all), at one place."""

    gene: Gene
    model: int | None
    place: int


class ParameterGenome:
    """The genome of a search for recipes, over models with the given tensor names.

    granularity "model": one value a gene and model. "layer": one a layer too, and one more for all that is outside
    the layers (embeddings, final norm, head). "group": one for attention, one for the MLPs, one for the rest.
    "layer_group": these three in every layer. "filter": one for each of the search's `filters`, one for the rest.
    Of networks that draw, what is said of `spec.genes.GRANULARITIES`.
    `start`: the recipe to begin at; None is that of an earlier run, or the search's own start. `learnt`: recipes of an
    earlier run, its winner first, whose values are taken by the names of model, gene and place.
    """

    space = "ps"
    sigma = 1 / 6
    """The paper's first step, in units of a gene's range (arXiv 2403.13187, section 4.1)."""

    def __init__(
        self,
        search: Search,
        tensor_names: Sequence[str],
        granularity: str | None = None,
        start: Recipe | None = None,
        learnt: Sequence[Recipe] = (),
    ) -> None:
        self.search = search
        self.granularity = granularity or search.granularity[0]
        words = {name: place.words for name, place in find_blocks(tensor_names).items()}
        self.places = _places(self.granularity, tensor_names, search.filters, words)
        self.slots = tuple(
            Slot(gene, model, place)
            for gene in search.genes
            for model in (range(len(search.models)) if search.is_per_model(gene.name) else (None,))
            for place in range(len(self.places))
        )
        examples = [_examples(place, self.places, tensor_names, words) for place in self.places]

        def read(recipe: Recipe) -> np.ndarray:
            values = [_value(recipe, search, slot, examples[slot.place], words) for slot in self.slots]
            return self.encode(np.array(values))

        found = tuple(map(read, learnt))
        self.finals = found[:1]
        self.learnt = found if start is None else ()
        self._start = self.encode(np.array([slot.gene.start for slot in self.slots]))
        if start is not None or found:
            self._start = found[0] if start is None else read(start)

    @property
    def size(self) -> int:
        """How many numbers a candidate has."""
        return len(self.slots)

    @property
    def start(self) -> np.ndarray:
        """The vector of the search's start, float64 (size,)."""
        return self._start.copy()

    @property
    def binary(self) -> np.ndarray:
        """No gene of a recipe counts by its sign alone: all False, (size,)."""
        return np.zeros(self.size, dtype=bool)

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """A vector whose values are drawn uniformly from every gene's range."""
        low = np.array([slot.gene.low for slot in self.slots])
        high = np.array([slot.gene.high for slot in self.slots])
        return self.encode(generator.uniform(low, high))

    def grid(self, evaluations: int) -> list[np.ndarray]:
        """A square grid over two scalars: the first gene of the first model, and that of all others, everywhere.

        This is what a patient person would try by hand. Other genes stay at their start; a gene that all models share
        makes a line instead of a square.
        """
        first = self.slots[0].gene
        axes = [[i for i, slot in enumerate(self.slots) if slot.gene == first and not slot.model]]
        axes.append([i for i, slot in enumerate(self.slots) if slot.gene == first and slot.model])
        axes = [axis for axis in axes if axis]
        side = max(2, math.floor(evaluations ** (1 / len(axes)) + 1e-9))
        steps = [unsquash(float(value), first.low, first.high) for value in np.linspace(first.low, first.high, side)]
        points = []
        for chosen in product(steps, repeat=len(axes)):
            vector = self.start
            for axis, value in zip(axes, chosen, strict=True):
                vector[axis] = value
            points.append(vector)
        return points

    def seeds(self) -> list[np.ndarray]:
        """The vectors of the models themselves, where the method has weights: one at 1, the others at 0; and the start.

        A weight whose range does not reach 0 or 1 goes as near as it can.
        """
        vectors = []
        for model in range(len(self.search.models)):
            values = self.values(self.start)
            for number, slot in enumerate(self.slots):
                if slot.gene.name == "weight" and slot.model is not None:
                    values[number] = min(max(float(slot.model == model), slot.gene.low), slot.gene.high)
            vectors.append(self.encode(values))
        return [*vectors, self.start]

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


def _places(granularity: str, tensor_names: Sequence[str], filters: Sequence[str], words: Words) -> tuple[Place, ...]:
    """The places of a granularity; a tensor belongs to the first of which a filter means it."""
    rest = Place("rest")
    if granularity == "model":
        return (rest,)
    if granularity == "filter":
        for text in filters:
            if not any(fits(text, name, words.get(name, ())) for name in tensor_names):
                raise SearchError(f"No tensor's name contains {text!r} of genome.filters; take it out.")
        return (*(Place(text, (text,)) for text in filters), rest)
    if words:
        named = [Place(text, (text,)) for text in _block_filters(granularity, words)]
        covered = all(any(fits(place.name, "", one) for place in named) for one in words.values())
        return (*named, *([] if covered else [rest]))
    if granularity.startswith("side"):
        raise SearchError(
            f"The granularity {granularity} is of networks that draw, and these models have no such blocks; choose "
            "layer or group."
        )
    parsed = [layers.parse(name) for name in tensor_names]
    groups = [Place(group, _filters(group, parsed)) for group in ("attention", "mlp")]
    # The dot after the number keeps layer 3 apart from 13 and 30.
    stacks = sorted({(name.prefix, name.layer) for name in parsed if name.layer is not None})
    in_layers = [Place(f"{prefix}{layer}", (f"{prefix}{layer}.",)) for prefix, layer in stacks]
    if granularity == "group":
        found = groups
    elif granularity == "layer":
        found = in_layers
    else:
        found = [
            Place(f"{layer.name}{'.' + group.name if group.filters else ''}", _inside(layer, group))
            for layer in in_layers
            for group in (*groups, rest)
        ]
    return (*(place for place in found if place.filters), rest)


def _block_filters(granularity: str, words: Words) -> list[str]:
    """Words for a granularity's places in a network that draws: what attends in each comes before all of it."""
    if granularity == "group":
        return [ATTENTION]
    name_of = side_of if granularity.startswith("side") else str
    found = {name_of(block_of(one)): False for one in words.values()}
    found |= {name_of(block_of(one)): True for one in words.values() if ATTENTION in one}
    found.pop(BASE, None)
    names = sorted(found, key=lambda name: (SIDES.index(side_of(name)), name))
    if not granularity.endswith("_group"):
        return names
    return [text for name in names for text in (*([f"{name}+{ATTENTION}"] if found[name] else []), name)]


def _inside(layer: Place, group: Place) -> tuple[str, ...]:
    """The filters of a group's tensors in one layer; those of the whole layer where the group has none."""
    return tuple(layer.filters[0] + text.lstrip(".") for text in group.filters) or layer.filters


def _examples(place: Place, places: Sequence[Place], tensor_names: Sequence[str], words: Words) -> Sequence[str]:
    """Some of the tensors that belong to a place, from all over it."""
    others = [text for other in places[: places.index(place)] for text in other.filters]
    found = [
        name
        for name in tensor_names
        if (not place.filters or any(fits(text, name, words.get(name, ())) for text in place.filters))
        and not any(fits(text, name, words.get(name, ())) for text in others)
    ]
    return found[:: math.ceil(len(found) / _EXAMPLES)] if found else tensor_names[:1]


def _value(recipe: Recipe, search: Search, slot: Slot, tensor_names: Sequence[str], words: Words) -> float:
    """What a recipe says of a slot's gene for tensors of its place, in the mean, inside the gene's range.

    A gene that it says nothing of is at its start; but the weight of a model that it does not have is near 0.
    """
    gene, own = slot.gene, None if slot.model is None else _entry(recipe, search.models[slot.model])
    setting = (own.parameters if own is not None else {}).get(gene.name, recipe.parameters.get(gene.name))
    if slot.model is not None and own is None and gene.name == "weight":
        margin = _NEW * (gene.high - gene.low)
        return min(max(0.0, gene.low + margin), gene.high - margin)
    if setting is None:
        return gene.start
    read = (value_at(setting, name, 0.0, words=words.get(name, ())) for name in tensor_names)
    found = [gene.start if value is None else float(value) for value in read]
    value = found[0] if len(set(found)) == 1 else math.fsum(found) / len(found)
    return min(max(value, gene.low), gene.high)


def _entry(recipe: Recipe, model: ModelRef) -> ModelEntry | None:
    """What a recipe says of a model; of one at another commit, where it has not just this one."""
    entries = {entry.model: entry for entry in reversed(recipe.models) if entry.model != recipe.base_model}
    return entries.get(model) or next((one for ref, one in entries.items() if ref.title == model.title), None)


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
