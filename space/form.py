"""The merge form and the recipe are two views of one thing; these pure functions carry edits from one to the other.

The recipe is what runs. What the form cannot show (gradients, filters, slices) stays in the recipe untouched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hubmerge.methods import METHODS, Method, Parameter
from hubmerge.recipe import ModelEntry, ModelRef, Recipe, Setting

DEFAULT_METHOD = "dare_ties"
# Where a slider starts if the recipe is silent: a density of 1 would make the sparse methods all alike.
STARTS = {"density": 0.5, "t": 0.5}


@dataclass(frozen=True)
class Field:
    """One value of the form: a parameter of the model at index `model`, or of the whole merge (`model` None)."""

    parameter: Parameter
    model: int | None
    value: float | bool


def start(parameter: Parameter) -> float | bool:
    """The value a new recipe begins with."""
    if parameter.name in STARTS:
        return STARTS[parameter.name]
    return 0.0 if parameter.default is None else parameter.default


def compose(method: Method, models: Iterable[str], base: str | None, previous: Recipe | None = None) -> Recipe | None:
    """A recipe over `models` and `base`; parameters that `previous` gave the same models are kept. None without models.

    The base is left out of the models where the method builds on it, and out of the recipe where it does not.
    Raises `RecipeError` for a name that cannot be a model.
    """
    base_model = ModelRef.parse(base) if base and method.base != "none" else None
    chosen = [ref for ref in dict.fromkeys(ModelRef.parse(name) for name in models) if ref != base_model]
    if not chosen:
        return None
    known = {entry.model: entry.parameters for entry in previous.models} if previous else {}
    kept = previous.parameters if previous else {}
    entries = []
    for ref in chosen:
        own = known.get(ref, {})
        values = {p.name: own.get(p.name, kept.get(p.name, start(p))) for p in method.parameters if p.per_model}
        entries.append(ModelEntry(ref, values))
    shared: dict[str, Setting] = {
        p.name: kept.get(p.name, start(p)) for p in method.parameters if not p.per_model and p.name != "seed"
    }
    if method.random:
        shared["seed"] = kept.get("seed", 0)
    return Recipe(
        merge_method=method.name,
        models=tuple(entries),
        base_model=base_model,
        parameters=shared,
        dtype=previous.dtype if previous else None,
        out_dtype=previous.out_dtype if previous else None,
        tokenizer_source=previous.tokenizer_source if previous else None,
        chat_template=previous.chat_template if previous else None,
    )


def fields(recipe: Recipe) -> list[Field]:
    """What the form can show of `recipe`: every parameter of its method that is one number or switch."""
    method = METHODS.get(recipe.merge_method)
    if method is None or recipe.slices:
        return []
    shown = []
    for index, entry in enumerate(recipe.models):
        for parameter in (p for p in method.parameters if p.per_model):
            setting = entry.parameters.get(parameter.name, recipe.parameters.get(parameter.name, start(parameter)))
            if not isinstance(setting, tuple):
                shown.append(Field(parameter, index, setting))
    for parameter in (p for p in method.parameters if not p.per_model):
        setting = recipe.parameters.get(parameter.name, start(parameter))
        if not isinstance(setting, tuple):
            shown.append(Field(parameter, None, setting))
    return shown


def apply(recipe: Recipe, shown: Sequence[Field], values: Sequence[float | bool]) -> Recipe:
    """`recipe` with the form's values in it."""
    models = [dict(entry.parameters) for entry in recipe.models]
    shared = dict(recipe.parameters)
    for field, value in zip(shown, values, strict=True):
        target = shared if field.model is None else models[field.model]
        target[field.parameter.name] = int(value) if field.parameter.name == "seed" else value
    entries = tuple(replace(entry, parameters=own) for entry, own in zip(recipe.models, models, strict=True))
    return replace(recipe, models=entries, parameters=shared)
