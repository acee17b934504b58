"""The merge form and the recipe are two views of one thing; these pure functions carry edits from one to the other.

The recipe is what runs. What the form cannot show (slices, gradients within filters or of very many values) stays in
the recipe untouched. Models of parts (`components`) are shown as those of whole models are, part after part.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hubmerge.methods import METHODS, Method, Parameter
from hubmerge.recipe import Calibration, Conditional, ModelEntry, Module, Output, Recipe, Setting, Stage
from hubmerge.reference import ModelRef

from .parts import ALL_ELSE, ANCHORS, LAYERS, Drawn, by_blocks, divided

DEFAULT_METHOD = "dare_ties"
# Where a slider starts if the recipe is silent: a density of 1 would make the sparse methods all alike.
STARTS = {"density": 0.5}
MOST_ANCHORS, MOST_CASES = 9, 64
"""Values of a gradient over the layers, and of a setting by filters, that the form shows at most."""


@dataclass(frozen=True)
class Field:
    """One value of the form: a parameter of the model at index `model` of `placed`, or of the whole merge (None).

    `depth`: for one value of a gradient, where it lies: 0 at the first layer, 1 at the last; None for a single value.
    `filter`: for one value of several by filters, its own, `ALL_ELSE` for what is left; None for any other.
    """

    parameter: Parameter
    model: int | None
    value: float | bool
    depth: float | None = None
    filter: str | None = None


def placed(recipe: Recipe) -> list[tuple[Module | None, ModelEntry]]:
    """All models that the last merge mixes, and the part that each is merged into, None for the whole."""
    parts = [(module, entry) for module in recipe.modules for entry in module.models]
    return [*((None, entry) for entry in recipe.models), *parts]


def with_models(recipe: Recipe, entries: Sequence[ModelEntry]) -> Recipe:
    """`recipe` with other models, in the order of `placed`."""
    left = iter(entries)
    models = tuple(next(left) for _ in recipe.models)
    modules = [replace(module, models=tuple(next(left) for _ in module.models)) for module in recipe.modules]
    return replace(recipe, models=models, modules=tuple(modules))


def start(parameter: Parameter) -> float | bool:
    """The value a new recipe begins with."""
    if parameter.name in STARTS:
        return STARTS[parameter.name]
    return sum(parameter.typical) / 2 if parameter.default is None else parameter.default


def compose(
    method: Method,
    models: Iterable[str],
    base: str | None,
    previous: Recipe | None = None,
    drawn: Drawn | None = None,
) -> Recipe | None:
    """A recipe over `models` and `base`; parameters that `previous` gave the same models are kept. None without models.

    The base is left out of the models where the method builds on it, and out of the recipe where it does not. Where
    pipelines are `drawn` with, the part that draws is merged, and all else is the base's, or what `previous` says.
    Raises `RecipeError` for a name that cannot be a model.
    """
    in_parts = drawn is not None and bool(drawn.parts) and not (previous is not None and previous.models)
    base_model = ModelRef.parse(base) if base and (in_parts or method.base != "none") else None
    beside = base_model if method.base != "none" else None
    chosen = [ref for ref in dict.fromkeys(ModelRef.parse(name) for name in models) if ref != beside]
    if not chosen:
        return None
    network = drawn.network if in_parts and drawn is not None else None
    before = [entry for part, entry in placed(previous) if (part and part.name) == network] if previous else []
    known = {entry.model: entry.parameters for entry in before}
    texts = {entry.model: entry.calibration for entry in before} if method.statistic else {}
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
        models=() if network else tuple(entries),
        modules=divided(network, entries, previous) if network else (),
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
    """What the form can show of `recipe`: parameters of its methods that are a number, a switch, a short gradient, or
    numbers by filters."""
    method = METHODS.get(recipe.merge_method)
    found = placed(recipe)
    if method is None or not found:
        return []
    shown: list[Field] = []
    for index, (part, entry) in enumerate(found):
        own = METHODS.get(part.merge_method or "") if part else None
        outer = {**({} if own else recipe.parameters), **(part.parameters if part else {})}
        for parameter in (p for p in (own or method).parameters if p.per_model):
            setting = entry.parameters.get(parameter.name, outer.get(parameter.name, start(parameter)))
            shown += _fields_of(parameter, index, setting)
    for parameter in (p for p in method.parameters if not p.per_model):
        setting = recipe.parameters.get(parameter.name, start(parameter))
        shown += _fields_of(parameter, None, setting)
    return shown


def apply(recipe: Recipe, shown: Sequence[Field], values: Sequence[float | bool]) -> Recipe:
    """`recipe` with the form's values in it."""
    found = [entry for _, entry in placed(recipe)]
    models = [dict(entry.parameters) for entry in found]
    shared = dict(recipe.parameters)
    begun: set[tuple[int | None, str]] = set()
    for field, value in zip(shown, values, strict=True):
        target, name = shared if field.model is None else models[field.model], field.parameter.name
        if field.depth is None and field.filter is None:
            target[name] = int(value) if name == "seed" else value
            continue
        # Fields of one setting come in its order.
        before = target[name] if (field.model, name) in begun else ()
        begun.add((field.model, name))
        item = value if field.filter is None else Conditional(_named(field.filter), value)
        target[name] = (*before, item)  # type: ignore[misc]
    return with_models(recipe, [replace(entry, parameters=own) for entry, own in zip(found, models, strict=True)])


def spread(recipe: Recipe, model: int, name: str, shape: str, drawn: Drawn | None = None) -> Recipe:
    """`recipe` with one model's parameter varying as `shape` says (see parts.py), by what it was: over the layers, or
    over the blocks of what is `drawn` with."""
    found = placed(recipe)
    part, entry = found[model]
    outer = {**recipe.parameters, **(part.parameters if part else {})}
    now = entry.parameters.get(name, outer.get(name))
    if now is None:
        own = METHODS[(part.merge_method if part else None) or recipe.merge_method]
        now = start(next(p for p in own.parameters if p.name == name))
    blocks = drawn.blocks_of(part) if drawn else ()
    if blocks:
        then = by_blocks(now, shape, blocks, whole=part is None and drawn is not None and bool(drawn.parts))
    else:
        then = _over_layers(now, shape)
    changed = [one for _, one in found]
    changed[model] = replace(entry, parameters={**entry.parameters, name: then})
    return with_models(recipe, changed)


def _over_layers(now: Setting, shape: str) -> Setting:
    """A setting of a network without blocks as a gradient of equal values, or as one value, the mean."""
    values = [one.value if isinstance(one, Conditional) else one for one in (now if isinstance(now, tuple) else (now,))]
    numbers = [float(one) for value in values for one in (value if isinstance(value, tuple) else (value,))]
    mean = sum(numbers) / len(numbers)
    return (mean,) * ANCHORS if shape == LAYERS else round(mean, 2)


def _named(name: str) -> str | None:
    return None if name == ALL_ELSE else name


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
    found = [one for _, one in placed(recipe)]
    entry = found[model]
    before, where = entry.calibration or recipe.calibration, texts.where.strip().strip("/")
    kept = {key: getattr(before, key) for key in ("labels", "examples", "tokens", "seed")} if before else {}
    given: dict[str, Any] = {"task": where}
    if texts.are_rows:
        owner, name, file = where.split("/", 2)
        given = {"dataset": f"{owner}/{name}", "file": file, "text": texts.template}
    found[model] = replace(entry, calibration=Calibration(**given, **kept) if where else None)
    return with_models(recipe, found)


def _fields_of(parameter: Parameter, model: int | None, setting: Setting) -> list[Field]:
    if not isinstance(setting, tuple):
        return [Field(parameter, model, setting)]
    cases = [
        Field(parameter, model, one.value, filter=one.filter or ALL_ELSE)
        for one in setting
        if isinstance(one, Conditional) and not isinstance(one.value, tuple)
    ]
    if cases and model is not None and len(cases) == len(setting) <= MOST_CASES:
        return cases
    numbers = [value for value in setting if isinstance(value, (int, float))]
    if model is None or len(numbers) != len(setting) or not 2 <= len(numbers) <= MOST_ANCHORS:
        return []
    return [Field(parameter, model, value, at / (len(numbers) - 1)) for at, value in enumerate(numbers)]
