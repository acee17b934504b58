"""The merge form and the recipe are two views of one thing; these pure functions carry edits from one to the other.

The recipe is what runs. What the form cannot show (filters, slices, gradients of very many values) stays in the
recipe untouched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hubmerge.methods import METHODS, Method, Parameter
from hubmerge.recipe import Calibration, ModelEntry, Output, Recipe, Setting, Stage
from hubmerge.reference import ModelRef

DEFAULT_METHOD = "dare_ties"
# Where a slider starts if the recipe is silent: a density of 1 would make the sparse methods all alike.
STARTS = {"density": 0.5}
ANCHORS, MOST_ANCHORS = 5, 9
"""Values of a gradient over the layers that the form makes, and that it shows at most."""


@dataclass(frozen=True)
class Field:
    """One value of the form: a parameter of the model at index `model`, or of the whole merge (`model` None).

    `depth`: for one value of a gradient, where it lies: 0 at the first layer, 1 at the last; None for a single value.
    """

    parameter: Parameter
    model: int | None
    value: float | bool
    depth: float | None = None


def start(parameter: Parameter) -> float | bool:
    """The value a new recipe begins with."""
    if parameter.name in STARTS:
        return STARTS[parameter.name]
    return sum(parameter.typical) / 2 if parameter.default is None else parameter.default


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
    texts = {entry.model: entry.calibration for entry in previous.models} if previous and method.statistic else {}
    kept = previous.parameters if previous else {}
    entries = []
    for ref in chosen:
        own = known.get(ref, {})
        values = {p.name: own.get(p.name, kept.get(p.name, start(p))) for p in method.parameters if p.per_model}
        entries.append(ModelEntry(ref, values, texts.get(ref)))
    shared: dict[str, Setting] = {
        p.name: kept.get(p.name, start(p)) for p in method.parameters if not p.per_model and p.name != "seed"
    }
    if method.random:
        shared["seed"] = kept.get("seed", 0)
    return Recipe(
        stages=_used(previous.stages if previous else (), [*chosen, *([base_model] if base_model else [])]),
        merge_method=method.name,
        models=tuple(entries),
        base_model=base_model,
        parameters=shared,
        output=previous.output if previous else Output(),
        calibration=previous.calibration if previous and method.statistic else None,
    )


def _used(stages: Sequence[Stage], named: Iterable[ModelRef]) -> tuple[Stage, ...]:
    """The stages that are named, or that one of these names."""
    needed, kept = set(named), []
    for stage in reversed(stages):
        if stage.ref in needed:
            kept.append(stage)
            needed.update(stage.recipe.named)
    return tuple(reversed(kept))


def fields(recipe: Recipe) -> list[Field]:
    """What the form can show of `recipe`: parameters of its method that are a number, a switch or a short gradient."""
    method = METHODS.get(recipe.merge_method)
    if method is None or not recipe.models:
        return []
    shown: list[Field] = []
    for index, entry in enumerate(recipe.models):
        for parameter in (p for p in method.parameters if p.per_model):
            setting = entry.parameters.get(parameter.name, recipe.parameters.get(parameter.name, start(parameter)))
            shown += _fields_of(parameter, index, setting)
    for parameter in (p for p in method.parameters if not p.per_model):
        setting = recipe.parameters.get(parameter.name, start(parameter))
        shown += _fields_of(parameter, None, setting)
    return shown


def apply(recipe: Recipe, shown: Sequence[Field], values: Sequence[float | bool]) -> Recipe:
    """`recipe` with the form's values in it."""
    models = [dict(entry.parameters) for entry in recipe.models]
    shared = dict(recipe.parameters)
    for field, value in zip(shown, values, strict=True):
        target, name = shared if field.model is None else models[field.model], field.parameter.name
        if field.depth is None:
            target[name] = int(value) if name == "seed" else value
        else:
            before = target[name] if field.depth > 0 else ()
            target[name] = (*before, value)  # type: ignore[misc]  # a gradient's fields come in order of depth
    entries = tuple(replace(entry, parameters=own) for entry, own in zip(recipe.models, models, strict=True))
    return replace(recipe, models=entries, parameters=shared)


def spread(recipe: Recipe, model: int, name: str) -> Recipe:
    """`recipe` with one model's parameter as a gradient of equal values, or its gradient as one value, the mean."""
    entry = recipe.models[model]
    now = entry.parameters.get(name, recipe.parameters.get(name))
    if now is None:
        now = start(next(p for p in METHODS[recipe.merge_method].parameters if p.name == name))
    numbers = [float(value) for value in now if isinstance(value, (int, float))] if isinstance(now, tuple) else None
    then: Setting = round(sum(numbers) / len(numbers), 2) if numbers else (float(now),) * ANCHORS  # type: ignore[arg-type]
    changed = replace(entry, parameters={**entry.parameters, name: then})
    return replace(recipe, models=(*recipe.models[:model], changed, *recipe.models[model + 1 :]))


@dataclass(frozen=True)
class Texts:
    """What the form shows of a calibration: where its texts come from, a task or org/name/file of a dataset, and what
    of a row is read."""

    where: str = ""
    template: str = "{text}"

    @property
    def are_rows(self) -> bool:
        """Whether they come from a dataset, of whose rows something is read."""
        return self.where.count("/") >= 2 and self.where[0] not in "/.~"


def texts_of(given: Calibration | None) -> Texts | None:
    """The form of a calibration; None for one that it cannot show."""
    if given is None:
        return Texts()
    if given.dataset is not None:
        return Texts(f"{given.dataset}/{given.file}", given.text)
    return Texts(given.task) if isinstance(given.task, str) else None


def measured_by(recipe: Recipe, model: int, texts: Texts) -> Recipe:
    """`recipe` with one model measured by other texts; how many and how long they are stays. Raises `RecipeError`."""
    entry = recipe.models[model]
    before, where = entry.calibration or recipe.calibration, texts.where.strip().strip("/")
    kept = {key: getattr(before, key) for key in ("labels", "examples", "tokens", "seed")} if before else {}
    given: dict[str, Any] = {"task": where}
    if texts.are_rows:
        owner, name, file = where.split("/", 2)
        given = {"dataset": f"{owner}/{name}", "file": file, "text": texts.template}
    changed = replace(entry, calibration=Calibration(**given, **kept) if where else None)
    return replace(recipe, models=(*recipe.models[:model], changed, *recipe.models[model + 1 :]))


def _fields_of(parameter: Parameter, model: int | None, setting: Setting) -> list[Field]:
    if not isinstance(setting, tuple):
        return [Field(parameter, model, setting)]
    numbers = [value for value in setting if isinstance(value, (int, float))]
    if model is None or len(numbers) != len(setting) or not 2 <= len(numbers) <= MOST_ANCHORS:
        return []
    return [Field(parameter, model, value, at / (len(numbers) - 1)) for at, value in enumerate(numbers)]
