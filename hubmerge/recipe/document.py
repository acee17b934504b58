"""A recipe's plain values, as YAML holds them: written here, and read by reading.py."""

from collections.abc import Mapping
from typing import Any

from .parameters import Conditional, Parameters, Setting
from .values import ModelEntry, Module, Recipe, Slice

_OF_PIPELINES = ("unet", "transformer", "vae", "text_encoder", "scheduler")
"""How the parts of pipelines are called, whose library knows parts as components."""


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Plain values of a recipe, which `Recipe.from_dict` reads back to an equal one."""
    document: dict[str, Any] = {}
    if recipe.stages:
        document["stages"] = [{"name": stage.name, **recipe_document(stage.recipe)} for stage in recipe.stages]
    document["merge_method"] = recipe.merge_method
    if recipe.base_model:
        document["base_model"] = str(recipe.base_model)
    document |= _inputs_document(recipe)
    if recipe.modules:
        drawn = any(module.name.startswith(_OF_PIPELINES) for module in recipe.modules)
        document["components" if drawn else "modules"] = {
            module.name: _module_document(module) for module in recipe.modules
        }
    return _with_own(document, recipe) | recipe.output.to_dict()


def _inputs_document(merge: Recipe | Module) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if merge.models:
        document["models"] = [_with_own({"model": str(entry.model)}, entry) for entry in merge.models]
    if merge.slices:
        document["slices"] = list(map(_slice_document, merge.slices))
    return document


def _module_document(module: Module) -> dict[str, Any] | str:
    if module.copied is not None:
        return str(module.copied)
    document: dict[str, Any] = {}
    if module.merge_method:
        document["merge_method"] = module.merge_method
    if module.base_model:
        document["base_model"] = str(module.base_model)
    return _with_parameters(document | _inputs_document(module), module.parameters)


def _slice_document(piece: Slice) -> dict[str, Any]:
    document: dict[str, Any] = {"base_model": str(piece.base_model)} if piece.base_model else {}
    document["sources"] = [
        _with_parameters({"model": str(source.model), "layer_range": list(source.layer_range)}, source.parameters)
        for source in piece.sources
    ]
    return _with_parameters(document, piece.parameters)


def _with_own(document: dict[str, Any], given: Recipe | ModelEntry) -> dict[str, Any]:
    """With parameters and calibration of a recipe, or of one of its models."""
    document = _with_parameters(document, given.parameters)
    return document | ({} if given.calibration is None else {"calibration": given.calibration.to_dict()})


def _with_parameters(document: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    if parameters:
        document["parameters"] = {name: _plain(setting) for name, setting in parameters.items()}
    return document


def _plain(setting: Setting) -> Any:
    if not isinstance(setting, tuple):
        return setting
    return [_plain_case(item) if isinstance(item, Conditional) else item for item in setting]


def _plain_case(case: Conditional) -> Mapping[str, Any]:
    value = list(case.value) if isinstance(case.value, tuple) else case.value
    return {"value": value} if case.filter is None else {"filter": case.filter, "value": value}
