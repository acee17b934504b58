"""A recipe's YAML: mergekit's format, read into values and written from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..documents import is_number
from ..errors import RecipeError
from ..guesses import missing_colon
from ..reference import ModelRef
from .output import OUTPUT_KEYS, Output
from .parameters import Conditional, Parameters, Scalar, Setting
from .values import RECIPE, ModelEntry, Module, Recipe, Slice, SliceSource, Stage

_KEYS = ("merge_method", "models", "slices", "base_model", "parameters", "stages", "modules", *OUTPUT_KEYS)


def read_recipe(document: Mapping[str, Any]) -> Recipe:
    """The recipe that plain values describe. Raises `RecipeError`."""
    RECIPE.require_known(document, _KEYS, "the recipe")
    method = document.get("merge_method")
    if not isinstance(method, str):
        raise RecipeError(f"The recipe needs `merge_method: NAME` (linear, slerp, ties, ...), got {method!r}.")
    base = document.get("base_model")
    return Recipe(
        merge_method=method,
        models=tuple(_model_entry(item) for item in _items(document, "models")),
        slices=tuple(_slice(item) for item in _items(document, "slices")),
        base_model=_model(base, "base_model") if base is not None else None,
        parameters=_parameters(document.get("parameters"), "parameters"),
        output=Output.read(document, RECIPE),
        stages=tuple(_stage(item) for item in _items(document, "stages")),
        modules=tuple(
            _module(name, item) for name, item in RECIPE.mapping(document.get("modules") or {}, "modules").items()
        ),
    )


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Plain values of a recipe, which `read_recipe` reads back to an equal one."""
    document: dict[str, Any] = {}
    if recipe.stages:
        document["stages"] = [{"name": stage.name, **recipe_document(stage.recipe)} for stage in recipe.stages]
    document["merge_method"] = recipe.merge_method
    if recipe.base_model:
        document["base_model"] = str(recipe.base_model)
    document |= _inputs_document(recipe)
    if recipe.modules:
        document["modules"] = {module.name: _module_document(module) for module in recipe.modules}
    return _with_parameters(document, recipe.parameters) | recipe.output.to_dict()


def _inputs_document(merge: Recipe | Module) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if merge.models:
        document["models"] = [_with_parameters({"model": str(e.model)}, e.parameters) for e in merge.models]
    if merge.slices:
        document["slices"] = list(map(_slice_document, merge.slices))
    return document


def _module_document(module: Module) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if module.merge_method:
        document["merge_method"] = module.merge_method
    if module.base_model:
        document["base_model"] = str(module.base_model)
    return _with_parameters(document | _inputs_document(module), module.parameters)


def _slice_document(piece: Slice) -> dict[str, Any]:
    sources = [
        _with_parameters({"model": str(source.model), "layer_range": list(source.layer_range)}, source.parameters)
        for source in piece.sources
    ]
    return _with_parameters({"sources": sources}, piece.parameters)


def _items(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    return RECIPE.listed(document.get(key) or [], key)


def _stage(item: Any) -> Stage:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise RecipeError(f"Each entry of `stages` needs `name: NAME` beside a merge of its own, got {item!r}.")
    try:
        return Stage(item["name"], read_recipe({key: value for key, value in item.items() if key != "name"}))
    except RecipeError as exc:
        raise RecipeError(f"In the stage {item['name']}: {exc}") from None


def _module(name: str, item: Any) -> Module:
    known = ("merge_method", "base_model", "models", "slices", "parameters")
    document = RECIPE.mapping(item, f"modules.{name}")
    RECIPE.require_known(document, known, f"the module {name}")
    base = document.get("base_model")
    try:
        return Module(
            name,
            models=tuple(_model_entry(one) for one in _items(document, "models")),
            slices=tuple(_slice(one) for one in _items(document, "slices")),
            parameters=_parameters(document.get("parameters"), f"the parameters of the module {name}"),
            merge_method=RECIPE.text(document, "merge_method"),
            base_model=_model(base, "base_model") if base is not None else None,
        )
    except RecipeError as exc:
        raise RecipeError(f"In the module {name}: {exc}") from None


def _model(value: Any, where: str) -> ModelRef:
    # mergekit also writes a reference as {model: {path, revision}, lora: ...}; the text form says the same.
    if not isinstance(value, str):
        raise RecipeError(f"{where}: expected a model as text (org/name@revision), got {value!r}.")
    return ModelRef.parse(value)


def _model_entry(item: Any) -> ModelEntry:
    if not isinstance(item, Mapping) or "model" not in item:
        raise RecipeError(f"Each entry of `models` needs `model: org/name`, got {item!r}.")
    RECIPE.require_known(item, ModelEntry.__dataclass_fields__, f"the entry of {item['model']}")
    model = _model(item["model"], "models")
    return ModelEntry(model, _parameters(item.get("parameters"), f"the parameters of {model}"))


def _slice(item: Any) -> Slice:
    if not isinstance(item, Mapping) or not isinstance(item.get("sources"), list):
        raise RecipeError(f"Each entry of `slices` needs a list `sources`, got {item!r}.")
    RECIPE.require_known(item, Slice.__dataclass_fields__, "a slice")
    sources = tuple(_slice_source(source) for source in item["sources"])
    return Slice(sources, _parameters(item.get("parameters"), "the parameters of a slice"))


def _slice_source(item: Any) -> SliceSource:
    if not isinstance(item, Mapping) or "model" not in item or "layer_range" not in item:
        raise RecipeError(f"Each source of a slice needs `model` and `layer_range: [start, stop]`, got {item!r}.")
    RECIPE.require_known(item, SliceSource.__dataclass_fields__, f"the source {item['model']}")
    model, layers = _model(item["model"], "slices"), item["layer_range"]
    whole = isinstance(layers, (list, tuple)) and len(layers) == 2 and all(type(n) is int for n in layers)
    if not whole or not 0 <= layers[0] < layers[1]:
        raise RecipeError(f"layer_range of {model} must be [start, stop] with 0 <= start < stop, got {layers!r}.")
    where = f"the parameters of {model} in a slice"
    return SliceSource(model, (layers[0], layers[1]), _parameters(item.get("parameters"), where))


def _parameters(value: Any, where: str) -> dict[str, Setting]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RecipeError(f"{where}: expected `name: value` pairs, got {value!r}.")
    for name, setting in value.items():
        if hint := missing_colon(name, setting):
            raise RecipeError(f"{name} in {where} has no value; {hint}")
    return {name: _setting(setting, f"{name} in {where}") for name, setting in value.items()}


def _setting(value: Any, where: str) -> Setting:
    if not isinstance(value, (list, tuple)):
        return _scalar(value, where)
    if not value:
        raise RecipeError(f"{where}: an empty list has no value; give at least one.")
    if not any(isinstance(item, Mapping) for item in value):
        return tuple(_scalar(item, where) for item in value)
    return tuple(_conditional(item, where) for item in value)


def _conditional(item: Any, where: str) -> Conditional:
    if not isinstance(item, Mapping) or "value" not in item:
        raise RecipeError(f"{where}: expected `filter: text` and `value: number`, got {item!r}.")
    RECIPE.require_known(item, Conditional.__dataclass_fields__, where)
    name, value = item.get("filter"), item["value"]
    if name is not None and not isinstance(name, str):
        raise RecipeError(f"{where}: filter must be text found in tensor names, got {name!r}.")
    inner = tuple(_scalar(v, where) for v in value) if isinstance(value, (list, tuple)) else _scalar(value, where)
    if inner == ():
        raise RecipeError(f"{where}: an empty list has no value; give at least one.")
    return Conditional(None if name == "*" else name, inner)


def _scalar(value: Any, where: str) -> Scalar:
    if isinstance(value, bool) or is_number(value):
        return value
    raise RecipeError(f"{where}: expected a finite number or true/false, got {value!r}.")


def _plain(setting: Setting) -> Any:
    if not isinstance(setting, tuple):
        return setting
    return [_plain_case(item) if isinstance(item, Conditional) else item for item in setting]


def _plain_case(case: Conditional) -> dict[str, Any]:
    value = list(case.value) if isinstance(case.value, tuple) else case.value
    return {"value": value} if case.filter is None else {"filter": case.filter, "value": value}


def _with_parameters(document: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    if parameters:
        document["parameters"] = {name: _plain(setting) for name, setting in parameters.items()}
    return document
