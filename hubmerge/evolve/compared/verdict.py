"""Whether a search came back to one of the models that it began with."""

from collections.abc import Mapping

from ...hub.source import Source
from ...recipe import Recipe
from ...reference import ModelRef
from ...stream.plan import weights_of
from ..workers.path_model import layer_count


def unchanged(recipe: Recipe, sources: Mapping[ModelRef, Source]) -> str | None:
    """The title of the model that a recipe copies whole, all its layers in their order; None where it does not."""
    if recipe.merge_method != "passthrough" or recipe.stages or recipe.parameters or len(recipe.references) != 1:
        return None
    model = recipe.references[0]
    if model not in sources or any(entry.parameters for entry in recipe.models):
        return None
    places: list[int] = []
    for piece in recipe.slices:
        if piece.parameters or any(source.parameters for source in piece.sources):
            return None
        places += [layer for source in piece.sources for layer in range(*source.layer_range)]
    whole = not recipe.slices or places == list(range(layer_count(weights_of(sources[model]))))
    return sources[model].title if whole else None
