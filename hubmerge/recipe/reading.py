"""A recipe from plain values: mergekit's format, as people write it.

mergekit leaves out what it does not know without a word. Where a recipe is written for it, this is left out here too,
with a remark, so that the same file makes the same model; `strict` refuses it: then remarks are what is wrong. All that
is wrong is told at once, in the order of the file. A recipe with what hubmerge alone has - `stages`, `calibration`,
`components`, a module with a method or a base of its own, or one that is copied - was written for hubmerge, which knows
every key of it.

>>> text = {"merge_method": "linear", "models": [{"model": "org/a", "weight": 0.5}]}
>>> read_recipe(text).remarks
('`weight` beside `model: org/a` is not read; write it under `parameters`.',)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..documents import unknown_key
from ..errors import RecipeError
from ..guesses import missing_colon, nearest
from ..reference import ModelRef
from ..text import brief
from ..typed import typed
from .calibration import Calibration
from .models import read_model
from .output import OUTPUT_KEYS, Output
from .parameters import Conditional
from .settings import read_parameters
from .values import RECIPE, FaultyRecipe, ModelEntry, Module, Recipe, Slice, SliceSource, Stage

T = TypeVar("T")

_KEYS = (
    *("merge_method", "models", "slices", "base_model", "parameters", "calibration", "stages", "modules"),
    *OUTPUT_KEYS,
)
_INPUTS = ("models", "slices", "modules")
_OWN = {"merge_method", "base_model"}
"""What a module has in hubmerge alone."""
_MODULE_KEYS = ("merge_method", "base_model", "models", "slices", "parameters")

_MOST_REPEATS = 1000
"""Of a slice."""

LABEL = "name"
"""What people call a recipe by: it changes nothing."""

_PARTS = "components"
"""What diffusers calls parts: another word for `modules`."""

_WHOLE = "default"
"""How mergekit calls the one module of a model without parts."""

_OF_SEARCHES = {"genome", "data_flow", "searcher", "splits"}
"""With a task beside, these make a document a search."""

_ELSEWHERE: Mapping[str, str] = {
    "out_path": "`--out`, on the page Publish, says where the model goes",
    "random_seed": "`seed` under `parameters` is that of the random masks",
    "residual_weight": "mergekit does not use it either",
    "revision": "write the model as org/name@revision",
    "layer_range": "layers are chosen under `slices`",
    "input_model_parameters": "write them under `parameters` of each model",
}
"""Keys that other programs or older versions read, and what to write instead."""

_ENTRIES: Mapping[str, str] = {
    "models": "- model: org/name",
    "slices": "- sources: [...]",
    "stages": "- name: NAME",
}
"""How each entry of a list begins."""


def read_recipe(document: Mapping[str, Any], strict: bool = False) -> Recipe:
    """The recipe that plain values describe. Raises `RecipeError`; `strict`: what nothing reads is an error, which the
    recipe's `remarks` hold (`Recipe.require_read`)."""
    if "task" in document and _OF_SEARCHES & document.keys():
        raise RecipeError(
            f"This is a search, not a recipe: run it with {typed('evolve FILE --out run')} (on the page: Evolve, for "
            "programs /evolve); then its winner is in run/best.yaml and run/model."
        )
    return _Reader(forgiving=not strict and not _is_ours(document)).recipe(document)


def _is_ours(document: Mapping[str, Any]) -> bool:
    modules = document.get("modules")
    own = modules.values() if isinstance(modules, Mapping) else ()
    alone = any(isinstance(one, str) or (isinstance(one, Mapping) and _OWN & one.keys()) for one in own)
    return alone or any(document.get(key) for key in ("stages", "calibration", _PARTS))


def _modules(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if document.get("modules") and document.get(_PARTS):
        raise RecipeError(f"`{_PARTS}` is another word for `modules`; write one of them.")
    return RECIPE.mapping(document.get("modules") or document.get(_PARTS) or {}, "modules")


class _Reader:
    """Reads one recipe; `told` is what it leaves out, and, marked so, what is wrong, in the order of the file. All that
    is wrong is raised at once, with what is left out where it is not `forgiving`."""

    def __init__(self, forgiving: bool) -> None:
        self.forgiving = forgiving
        self.told: dict[str, bool] = {}

    @property
    def faults(self) -> list[str]:
        """What is wrong."""
        return [line for line, wrong in self.told.items() if wrong]

    def recipe(self, document: Mapping[str, Any]) -> Recipe:
        """The recipe of one document. Raises `FaultyRecipe`."""
        made: dict[str, Any] = {}
        given = ["modules" if key == _PARTS else key for key in document]
        for key in dict.fromkeys([*(key for key in _KEYS if key not in given), *given]):
            if key in _KEYS:
                made[key] = self._tried(self._value, document, key)
            else:
                self._known({key: document[key]}, (*_KEYS, LABEL, _PARTS), "the recipe")
        if not (self.faults or any(made[key] for key in _INPUTS)):
            if made["stages"]:
                self.told["Beside its `stages` the recipe needs `models`, which the last merge makes one of."] = True
            else:  # what is missing stands there under another name
                self.told = dict.fromkeys(self.told, True)
        read: Recipe | None = None
        try:
            read = self._built(made)
        except RecipeError as exc:
            if not self.faults:  # else it is for want of what could not be read
                self.told[str(exc)] = True
        if self.faults or read is None:
            raise FaultyRecipe("\n".join(self.faults if self.forgiving else self.told), read)
        return read

    def _value(self, document: Mapping[str, Any], key: str) -> Any:
        """What the document says at one of the keys that it may have."""
        match key:
            case "merge_method":
                return self._method(document)
            case "modules":
                given = _modules(document).items()
                read = [self._tried(self._module, *one, where=f"In the module {one[0]}: ") for one in given]
                return tuple(module for module in read if module is not None)
            case "models":
                return tuple(self._each(document, key, self._model_entry))
            case "slices":
                return tuple(piece for few in self._each(document, key, self._slices) for piece in few)
            case "stages":
                return tuple(self._each(document, key, self._stage))
            case "base_model":
                return _optional_model(document)
            case "parameters":
                return read_parameters(document.get(key), key)
            case "calibration":
                return _calibration(document)
        return Output.value(document, key, RECIPE)

    def _built(self, made: dict[str, Any]) -> Recipe:
        """The recipe of what was read at each key; None at one that could not be."""
        output = Output(**{key: made.pop(key) for key in OUTPUT_KEYS})
        given = {key: value for key, value in made.items() if value is not None}
        recipe = Recipe(**{"merge_method": "", **given}, output=output)
        if [module.name for module in recipe.modules] == [_WHOLE] and recipe.modules[0].merge_method is None:
            recipe = _of_whole_models(recipe, recipe.modules[0])
        remarks = tuple(line for line, wrong in self.told.items() if not wrong)
        return replace(recipe, remarks=remarks, forgiving=self.forgiving)

    def _tried(self, read: Callable[..., T], *given: Any, where: str = "") -> T | None:
        """What `read` gives; None where it raises, which is kept with `where` before each line."""
        try:
            return read(*given)
        except RecipeError as exc:
            self.told |= dict.fromkeys((where + line for line in str(exc).splitlines()), True)
            rest: Any = exc.rest if isinstance(exc, FaultyRecipe) else None
            return rest

    def _each(self, document: Mapping[str, Any], key: str, read: Callable[[Any], T | None]) -> list[T]:
        """What `read` gives for the entries of a list, as far as they can be read."""
        items = self._tried(_items, document, key) or []
        return [made for item in items if (made := self._tried(read, item)) is not None]

    def _method(self, document: Mapping[str, Any]) -> str:
        method = document.get("merge_method")
        if not isinstance(method, str):
            meant = next(
                (key for key in document if key not in _KEYS and nearest(str(key), _KEYS) == "merge_method"), None
            )
            hint = f"; did you mean it by {str(meant)[:60]!r}?" if meant is not None else "."
            if meant is None and document.get("stages"):
                hint = " of the last merge, beside its `stages`."
            got = "" if method is None else f", got {brief(method)}"
            raise RecipeError(f"The recipe needs `merge_method: NAME` (linear, slerp, ties, ...){got}{hint}")
        return method

    def _known(self, given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        """Leaves a remark on each key that is not known."""
        names = list(known)
        for key in (key for key in given if key not in names):
            if missing_colon(key, given[key]):
                self._tried(RECIPE.require_known, {key: given[key]}, names, where)
                continue
            if (instead := _ELSEWHERE.get(str(key))) is None:
                if not self.forgiving:
                    self.told[unknown_key(key, given[key], names, where)] = False
                    continue
                near = nearest(str(key), names)
                instead = f"did you mean {near!r}?" if near else "mergekit leaves it out, too"
            end = "" if instead.endswith(("?", ".")) else "."
            self.told[f"The key {str(key)[:60]!r} in {where} is not read: {instead}{end}"] = False

    def _stage(self, item: Any) -> Stage | None:
        name = item.get(LABEL) if isinstance(item, Mapping) else None
        if not isinstance(name, str):
            got = brief(item) if name is None else f"the name {brief(name)}, which is no text"
            raise RecipeError(f"Each entry of `stages` needs `name: NAME` beside a merge of its own, got {got}.")
        document = {key: value for key, value in item.items() if key != LABEL}
        where = f"In the stage {name}: "
        made = self._tried(_Reader(self.forgiving).recipe, document, where=where)
        if made is None:
            return None
        self.told |= dict.fromkeys((where + remark for remark in made.remarks), False)
        return self._tried(Stage, name, replace(made, remarks=()), where=where)

    def _module(self, name: str, item: Any) -> Module | None:
        if isinstance(item, str):
            return Module(name, copied=read_model(item, name))
        document = RECIPE.mapping(item, f"modules.{name}")
        self._known(document, _MODULE_KEYS, f"the module {name}")
        reader = _Reader(self.forgiving)
        models = reader._each(document, "models", reader._model_entry)
        slices = [piece for few in reader._each(document, "slices", reader._slices) for piece in few]
        parameters = reader._tried(read_parameters, document.get("parameters"), f"the parameters of the module {name}")
        self.told |= {f"In the module {name}: {line}": wrong for line, wrong in reader.told.items()}
        if reader.faults and not (models or slices):
            return None
        return Module(
            name,
            models=tuple(models),
            slices=tuple(slices),
            parameters=parameters or {},
            merge_method=RECIPE.text(document, "merge_method"),
            base_model=_optional_model(document),
        )

    def _model_entry(self, item: Any) -> ModelEntry:
        if isinstance(item, str):  # as a search has them
            return ModelEntry(read_model(item, "models"))
        if not isinstance(item, Mapping) or "model" not in item:
            raise RecipeError(f"Each entry of `models` needs `model: org/name`, got {brief(item)}.")
        model = read_model(item["model"], "models")
        self._beside(item, ModelEntry.__dataclass_fields__, model, f"the entry of {model}")
        parameters = read_parameters(item.get("parameters"), f"the parameters of {model}")
        return ModelEntry(model, parameters, _calibration(item))

    def _beside(self, item: Mapping[str, Any], known: Iterable[str], model: ModelRef, where: str) -> None:
        """Leaves a remark on what stands beside a model where it belongs under its parameters."""
        names = [*known]
        misplaced = [key for key in item if key not in names and _is_setting(key, item[key])]
        for key in misplaced:
            self.told[f"`{key}` beside `model: {model}` is not read; write it under `parameters`."] = False
        self._known(item, [*names, *misplaced], where)

    def _slices(self, item: Any) -> tuple[Slice, ...]:
        """A slice, as many times as its `repeat` says."""
        times = item.get("repeat") if isinstance(item, Mapping) else None
        if times is not None and not (type(times) is int and 1 <= times <= _MOST_REPEATS):
            raise RecipeError(
                f"repeat of a slice must be a whole number from 1 to {_MOST_REPEATS:,}, got {brief(times)}."
            )
        return (self._slice(item),) * (times or 1)

    def _slice(self, item: Any) -> Slice:
        if not isinstance(item, Mapping) or not isinstance(item.get("sources"), list):
            raise RecipeError(f"Each entry of `slices` needs a list `sources`, got {brief(item)}.")
        self._known(item, (*Slice.__dataclass_fields__, "repeat"), "a slice")
        sources = tuple(self._slice_source(source) for source in item["sources"])
        parameters = read_parameters(item.get("parameters"), "the parameters of a slice")
        return Slice(sources, parameters, _optional_model(item))

    def _slice_source(self, item: Any) -> SliceSource:
        if not isinstance(item, Mapping) or "model" not in item or "layer_range" not in item:
            raise RecipeError(
                f"Each source of a slice needs `model` and `layer_range: [start, stop]`, got {brief(item)}."
            )
        model, given = read_model(item["model"], "slices"), item["layer_range"]
        self._beside(item, SliceSource.__dataclass_fields__, model, f"the source {model}")
        layers = [_whole(value) for value in given] if isinstance(given, (list, tuple)) else []
        match layers:
            case [int(start), int(stop)] if start >= 0 and (self.forgiving or start <= stop):
                if start >= stop:
                    self.told[f"layer_range {[start, stop]} of {model} has no layers."] = False
                where = f"the parameters of {model} in a slice"
                return SliceSource(model, (start, max(start, stop)), read_parameters(item.get("parameters"), where))
        raise RecipeError(f"layer_range of {model} must be [start, stop] with 0 <= start <= stop, got {brief(given)}.")


def _optional_model(document: Mapping[str, Any]) -> ModelRef | None:
    given = document.get("base_model")
    return None if given is None else read_model(given, "base_model")


def _calibration(document: Mapping[str, Any]) -> Calibration | None:
    given = document.get("calibration")
    return None if given is None else Calibration.read(given, RECIPE)


def _items(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    given = document.get(key) or []
    if isinstance(given, Mapping):
        raise RecipeError(f"`{key}` must be a list: begin each entry with a dash, as in `{_ENTRIES[key]}`.")
    return RECIPE.listed(given, key)


def _is_setting(key: str, value: Any) -> bool:
    """Whether something beside a model is a parameter of a method in the wrong place, by what it holds."""
    return key not in _ELSEWHERE and isinstance(value, (int, float)) and nearest(key, ("model", "parameters")) is None


def _whole(value: Any) -> int | None:
    """A whole number, also written as text or with a fraction of 0."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.5
        return int(number) if number.is_integer() else None
    except ValueError:
        return None


def _of_whole_models(recipe: Recipe, module: Module) -> Recipe:
    """The recipe of a module that is the whole model: its own parameters come first, those of the recipe fill gaps."""
    parameters: dict[str, Any] = dict(recipe.parameters)
    for name, setting in module.parameters.items():
        outer = recipe.parameters.get(name)
        cases = _cases(setting)
        filled = any(case.filter is None for case in cases)
        parameters[name] = setting if filled or outer is None else (*cases, *_cases(outer))
    return replace(recipe, models=module.models, slices=module.slices, modules=(), parameters=parameters)


def _cases(setting: Any) -> tuple[Conditional, ...]:
    """A setting as conditionals, tried in order."""
    if isinstance(setting, tuple) and setting and isinstance(setting[0], Conditional):
        return setting
    return (Conditional(None, setting),)
