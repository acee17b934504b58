"""What part each model of a merge plays where the recipe leaves it open, as mergekit takes it."""

from dataclasses import replace

from ..methods import METHODS, Method
from ..recipe import ModelEntry, Recipe, Slice
from .findings import Finding, warning


def with_roles(recipe: Recipe, method: Method) -> tuple[Recipe, Method, list[Finding]]:
    """The recipe with every part said, the method that merges it, and what there is to know of that."""
    named = [entry.model for entry in recipe.models] + [one.model for piece in recipe.slices for one in piece.sources]
    base = recipe.base_model
    models = list(dict.fromkeys(named))
    if base is None:
        if method.base == "required" and method.max_models == 1 and len(models) == 2 and not _bases(recipe):
            message = f"{method.name} needs a `base_model`; {models[0]}, which is named first, is taken as it."
            return replace(recipe, base_model=models[0]), method, [warning(message)]
        return recipe, method, []
    if method.adds_up and models == [base] and not _bases(recipe):
        message = f"{base} is the base_model and the only model: the result is the model itself."
        return _copy(recipe), METHODS["passthrough"], [warning(message)]
    only_weights = not method.takes_base and method.max_models is None
    if only_weights and recipe.models and base not in models and _is_weighed(recipe, method):
        message = f"{base}, the base_model, is merged too, as {method.name} has no other use for it."
        return replace(recipe, models=(ModelEntry(base), *recipe.models)), method, [warning(message)]
    if not method.takes_base and base not in models:
        part = base.component
        given = " and tokenizer alone" if part is None else f", tokenizer and all that is beside its {part}"
        message = (
            f"{base}, the base_model, gives configuration{given}: {method.name} merges the models that are listed; "
            "list it too if its weights are to go in."
        )
        return recipe, method, [warning(message)]
    return recipe, method, []


def _bases(recipe: Recipe) -> bool:
    return any(piece.base_model is not None for piece in recipe.slices)


def _is_weighed(recipe: Recipe, method: Method) -> bool:
    """Whether the recipe gives all models what the method must know of each."""
    return all(parameter.name in recipe.parameters for parameter in method.parameters if not parameter.fills)


def _copy(recipe: Recipe) -> Recipe:
    """The recipe that takes its one model as it is: nothing that it could learn is added to it."""
    return replace(
        recipe,
        base_model=None,
        parameters={},
        models=tuple(ModelEntry(entry.model) for entry in recipe.models[:1]),
        slices=tuple(Slice((replace(piece.sources[0], parameters={}),)) for piece in recipe.slices),
    )
