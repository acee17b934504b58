"""The parameters of each tensor: those nearest to the model count first (model, slice, recipe, default)."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from ..blocks import BASE, fits, is_word
from ..errors import RecipeError
from ..guesses import guess
from ..methods import IGNORED_PARAMETERS, METHODS, Method, Parameter, find_method
from ..recipe import Conditional, Parameters, Recipe, Setting, value_at
from .findings import Finding, error, some, warning

Values = Mapping[str, float]

_ALL = {parameter.name for method in METHODS.values() for parameter in method.parameters}

_LARGEST = (2 - 2**-23) * 2.0**127
"""Of 32 bits; torch, which knows it, takes seconds to load."""


def check_settings(recipe: Recipe, method: Method) -> Iterator[Finding]:
    """Checks every parameter that the recipe gives: its name, its place and the limits of its values.

    In a recipe that was written for mergekit, what mergekit leaves out or limits is a warning.
    """
    known = {parameter.name: parameter for parameter in method.parameters}
    told = warning if recipe.forgiving else _refusal
    ignored: dict[str, None] = {}
    unknown: dict[str, list[str]] = {}
    for where, parameters, of_model in _places(recipe):
        for name, setting in parameters.items():
            if name in IGNORED_PARAMETERS:
                ignored[name] = None
            elif name not in known:
                unknown.setdefault(name, []).append(where)
            elif of_model and not known[name].per_model:
                yield told(
                    f"{name} of {method.name} is one value for all models and is not read {where}; "
                    "move it to the recipe's `parameters`."
                )
            else:
                yield from _check_values(known[name], setting, where, told)
    for name, places in unknown.items():
        # A parameter of another method is written right, and no typing error.
        hint = "" if name in _ALL else guess(name, known)
        yield told(
            f"{method.name} has no parameter {name!r} ({some(places)}); it takes: {', '.join(known) or 'none'}{hint}."
        )
    for name in ignored:
        yield warning(f"The parameter {name} is not used: {IGNORED_PARAMETERS[name]}.")


def require_written(recipe: Recipe, lines: Iterable[str]) -> None:
    """Raises `RecipeError` for what is wrong with a recipe as it is written: `lines`, and methods that there are none
    of. With them all its merges' parameters are told that would be refused, too."""
    told, settings = [*lines], list[str]()
    for stage, merge in recipe.merges.items():
        merged = [module for module in merge.modules if module.copied is None]
        parts = {f"In the module {module.name}: ": module.recipe(merge) for module in merged} or {"": merge}
        for part, one in parts.items():
            where = (f"In the stage {stage}: " if stage else "") + part
            try:
                # Without a name it could not be read, which is told.
                found = check_settings(one, find_method(one.merge_method)) if one.merge_method else ()
            except RecipeError as exc:
                told.append(f"{where}{exc}")
            else:
                settings += [where + finding.message for finding in found if finding.level == "error"]
    if told:
        raise RecipeError("\n".join([*told, *settings]))


def check_filters(
    recipe: Recipe, names: Collection[str], places: Collection[Collection[str]] = (), draws: bool = False
) -> Iterator[Finding]:
    """Whether each filter means some tensor: `names` are those of all models and of the result, `places` their words
    where they have blocks. `draws`: whether it is the part of a pipeline that should have some."""
    wanted = {
        (case.filter, name): None
        for _, parameters, _ in _places(recipe)
        for name, setting in parameters.items()
        if isinstance(setting, tuple)
        for case in setting
        if isinstance(case, Conditional) and case.filter
    }
    parts = {part for name in names for part in name.split(".")}
    for wanted_part, name in wanted:
        if not is_word(wanted_part) or (draws and not places and wanted_part != BASE):
            found, what, where, known = any(wanted_part in one for one in names), "has", " in its name", parts
        else:  # what has no blocks may stand beside a part that has
            found, what, where = not places or any(fits(wanted_part, "", one) for one in places), "is in", ""
            known = {word for one in places for word in one}
        if not found:
            yield warning(
                f"No tensor {what} {wanted_part!r}{where}, so the value of {name} for it is not used"
                f"{guess(wanted_part, known)}."
            )


def _refusal(message: str) -> Finding:
    return error(message, RecipeError)


def _places(recipe: Recipe) -> Iterator[tuple[str, Parameters, bool]]:
    """Every place of a recipe that holds parameters: its name for messages, them, and whether they are a model's."""
    yield "in `parameters`", recipe.parameters, False
    for entry in recipe.models:
        yield f"at {entry.model}", entry.parameters, True
    for number, piece in enumerate(recipe.slices, 1):
        yield f"in slice {number}", piece.parameters, False
        for source in piece.sources:
            yield f"at {source.model} in slice {number}", source.parameters, True


def _check_values(
    parameter: Parameter, setting: Setting, where: str, told: Callable[[str], Finding]
) -> Iterator[Finding]:
    for given in _anchors(setting):
        value = parameter.taken(given)
        if value is None:
            yield _refusal(f"{parameter.name} must be true or false, got {given!r} ({where}).")
        elif not -_LARGEST <= value <= _LARGEST:
            yield _refusal(f"{parameter.name} must be a number of 32 bits, got {value} ({where}).")
        elif (limit := parameter.within(value)) != value:
            low, high = parameter.low, parameter.high
            limits = f"at least {low}" if high is None else f"{low} to {high}"
            if not parameter.limited or told is _refusal:
                yield _refusal(f"{parameter.name} must be {limits}, got {value} ({where}).")
            else:
                yield told(f"{parameter.name} must be {limits}: {value} is taken as {limit} ({where}).")


def _anchors(setting: Setting) -> Iterator[float | bool]:
    """All numbers of a setting; what a gradient yields lies between them."""
    if not isinstance(setting, tuple):
        yield setting
        return
    for item in setting:
        yield from _anchors(item.value if isinstance(item, Conditional) else item)


class Resolver:
    """Gives each tensor its parameters and remembers which required ones no level gives."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._unset: dict[str, list[str]] = {}

    def resolve(
        self,
        models: Sequence[Parameters],
        levels: Sequence[Parameters],
        tensor_name: str,
        depth: float,
        own_names: Sequence[str] = (),
        words: Collection[str] = (),
    ) -> tuple[tuple[Values, ...], Values]:
        """The per-model values, one mapping a model, and the shared ones of one tensor.

        `models`: the parameters given at each model; `levels`: those of the slice and the recipe, nearest first. A
        filter of a per-model value is looked for in what that model calls the tensor (`own_names`), where slices put
        layers elsewhere; that of a shared one in the result's `tensor_name`. `words`: of its block, for filters.
        """
        per_model: list[dict[str, float]] = [{} for _ in models]
        shared: dict[str, float] = {}
        for parameter in self._method.parameters:
            targets: Iterable[tuple[dict[str, float], Parameters, str]] = [(shared, {}, tensor_name)]
            if parameter.per_model:
                targets = zip(per_model, models, own_names or [tensor_name] * len(models), strict=True)
            for values, own, name in targets:
                found = _first((own, *levels), parameter, name, depth, words)
                value = parameter.default if found is None else parameter.taken(found)
                if found is None and not parameter.fills and any(parameter.name in one for one in (own, *levels)):
                    value = None
                if value is None:
                    self._unset.setdefault(parameter.name, []).append(name)
                else:
                    values[parameter.name] = parameter.within(value)
        return tuple(per_model), shared

    def findings(self) -> Iterator[Finding]:
        """One error for each required parameter that some tensor is left without."""
        for name, tensors in self._unset.items():
            yield error(
                f"{self._method.name} needs a value of {name} for {some(dict.fromkeys(tensors), 1)}; "
                "give it in `parameters`, with no filter for all the rest.",
                RecipeError,
            )


def _first(
    levels: Sequence[Parameters], parameter: Parameter, tensor_name: str, depth: float, words: Collection[str]
) -> float | bool | None:
    name, steps = parameter.name, parameter.is_switch
    for parameters in levels:
        if name in parameters and (value := value_at(parameters[name], tensor_name, depth, steps, words)) is not None:
            return value
    return None
