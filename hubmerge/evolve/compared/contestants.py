"""What the winner of a search is compared with: base, models, untuned merges."""

from ...recipe import Recipe
from ...reference import ModelRef
from ..search import Search
from ..spaces.layer_path import LayerPath
from .baselines import LABELS, baseline

Candidate = Recipe | ModelRef | LayerPath
"""What can be scored: a merge, a path through layers, a plain model."""


EVOLVED_RECIPE = "evolved in parameter space"


COMPARED_LABELS = {"random": "random search, same budget", "grid": "grid of two scalars, same budget"}


def contestants(search: Search) -> dict[str, Candidate]:
    """What the winner is compared with, by the name it has in tables: base, models, untuned merges."""
    found: dict[str, Candidate] = {}
    if search.base_model is not None:
        found[f"{search.base_model.title} (base)"] = search.base_model
    titles = [model.title for model in search.models]
    for model in search.models:
        found[model.title if titles.count(model.title) == 1 else str(model)] = model
    for name in search.baselines:
        if name in LABELS and (recipe := baseline(name, search)) is not None:
            found[LABELS[name]] = recipe
    return found
