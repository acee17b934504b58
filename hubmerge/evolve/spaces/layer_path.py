"""A path through the layers of several models: a candidate of the data-flow space, and its export as a recipe.

>>> from hubmerge.evolve.spaces.families import FAMILIES
>>> path = LayerPath((ModelRef("org/a"), ModelRef("org/b")), ((0, 0), (1, 1), (0, 1)), (1.0, 0.5, -2.0))
>>> [piece.sources[0].layer_range for piece in path.recipe(FAMILIES["llama"]).slices]
[(0, 1), (1, 2), (1, 2)]
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Any

from ...documents import DocumentKind
from ...errors import RecipeError
from ...recipe import OUTPUT_KEYS, Output, Parameters, Recipe, Slice, SliceSource, Stage
from ...reference import ModelRef
from .families import Family

_PATH = DocumentKind("path", RecipeError)

LARGEST = 1e12
"""How large, and one over how small, the product of a path's scales may get: beyond it, the exported layers' outputs
leave the range in which the norms' squares are float32 numbers."""


@dataclass(frozen=True)
class LayerPath:
    """The layers that the input runs through, in order.

    models: the first gives embeddings, final norm and head, so the path begins and ends with a layer of its own.
    layers: pairs (model, layer), numbers from 0. scales: the factor on each layer's input, not 0; the first is 1.
    output: how it is written, as of a recipe. Raises `RecipeError` at construction.
    """

    models: tuple[ModelRef, ...]
    layers: tuple[tuple[int, int], ...]
    scales: tuple[float, ...]
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if not self.models or not self.layers:
            raise RecipeError("A path needs at least one model and one layer.")
        for model, layer in self.layers:
            if not (0 <= model < len(self.models) and layer >= 0):
                raise RecipeError(f"({model}, {layer}) is no layer of a path through {len(self.models)} models.")
        if self.layers[0][0] or self.layers[-1][0]:
            raise RecipeError(f"A path begins and ends with a layer of its first model, {self.models[0]}.")
        if len(self.scales) != len(self.layers) or self.scales[0] != 1:
            raise RecipeError("A path needs one scale a layer, and 1 for the first of them.")
        if not all(math.isfinite(s) and 1 / LARGEST <= abs(s) <= LARGEST for s in self.factors):
            raise RecipeError(f"The product of a path's scales must stay within {1 / LARGEST:g} and {LARGEST:g}.")

    @property
    def factors(self) -> tuple[float, ...]:
        """The product of the scales up to and including each layer's."""
        return tuple(accumulate(self.scales, mul))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "LayerPath":
        """Reads a path from plain values, as `to_dict` gives them."""
        _PATH.require_known(document, ("models", "layers", "scales", *OUTPUT_KEYS), "the path")
        models, layers, scales = (_list(document, key) for key in ("models", "layers", "scales"))
        if not all(_is_pair(pair) for pair in layers):
            raise RecipeError(f"`layers` of a path must be pairs [model, layer] of numbers, got {layers!r}.")
        if not all(isinstance(s, (int, float)) and not isinstance(s, bool) for s in scales):
            raise RecipeError(f"`scales` of a path must be numbers, got {scales!r}.")
        return cls(
            tuple(ModelRef.parse(model) for model in models),
            tuple((model, layer) for model, layer in layers),
            tuple(float(scale) for scale in scales),
            Output.read(document, _PATH),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; `LayerPath.from_dict` reads them back to an equal path."""
        document: dict[str, Any] = {
            "models": [str(model) for model in self.models],
            "layers": [list(pair) for pair in self.layers],
            "scales": list(self.scales),
        }
        return document | self.output.to_dict()

    def recipe(self, family: Family, stages: Sequence[Stage] = ()) -> Recipe:
        """The same model as an ordinary checkpoint of the family: layers stacked, with the scales in their weights.

        Equal up to rounding, that to the output's dtype above all. `stages`: merges that its models may name.
        """
        slices = (
            Slice((SliceSource(self.models[model], (start, stop), parameters),))
            for model, start, stop, parameters in self._runs(family)
        )
        used = {self.models[model] for model, _ in self.layers}
        named = tuple(stage for stage in stages if any(ref.stage and ref.whole_stage == stage.ref for ref in used))
        return Recipe("passthrough", slices=tuple(slices), stages=named, output=self.output)

    def _runs(self, family: Family) -> Iterator[tuple[int, int, int, Parameters]]:
        """Neighbouring layers of one model with equal parameters: (model, first layer, last layer + 1, parameters)."""
        run: tuple[int, int, int, Parameters] | None = None
        for number, ((model, layer), factor) in enumerate(zip(self.layers, self.factors, strict=True), 1):
            parameters = family.absorb(factor, last=number == len(self.layers))
            if run is not None and (run[0], run[2], run[3]) == (model, layer, parameters):
                run = (model, run[1], layer + 1, parameters)
                continue
            if run is not None:
                yield run
            run = (model, layer, layer + 1, parameters)
        assert run is not None
        yield run


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"A path needs the list `{key}`, got {value!r}.")
    return list(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(type(n) is int for n in value)
