"""search.yaml read: from plain values to the fields of a `Search`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...documents import is_number
from ...errors import RecipeError, SearchError
from ...evaluate.task import SPLITS, task_document
from ...guesses import missing_colon
from ...recipe import OUTPUT_KEYS, Output
from ...reference import ModelRef
from ...typed import typed
from .baselines import BASELINES
from .data_flow import DataFlowSpace
from .economy import Economy
from .fields import SEARCH
from .fitness import Fitness
from .genes import read_genome
from .searcher import BY_EDITS, Searcher

KEYS = (
    "models",
    "base_model",
    "merge_method",
    "parameters",
    "genome",
    "data_flow",
    "task",
    "splits",
    "searcher",
    "fitness",
    "select",
    "baselines",
    "batch_size",
    "economy",
    "from",
    *OUTPUT_KEYS,
)
"""The keys of a search."""

_OF_RECIPES, _OF_SEARCHES = {"merge_method", "slices", "modules", "stages"}, {"task", "genome", "data_flow", "searcher"}
"""One of these, and none of those, makes a document a recipe."""


def require_no_recipe(document: Mapping[str, Any]) -> None:
    """Raises `SearchError` for a recipe in a search's place."""
    if _OF_RECIPES & document.keys() and not _OF_SEARCHES & document.keys():
        raise SearchError(
            f"This is a recipe, not a search: merge it with {typed('merge FILE --out merged')} (on the page: Merge, "
            "for programs /merge); a search has a `task`, and `genome` or `data_flow`."
        )


def read_search(document: Mapping[str, Any], relative_to: Path) -> dict[str, Any]:
    """The fields of the `Search` that a document describes, its task's files looked for in `relative_to`.

    Raises `SearchError` for anything but its keys with values of their types; whether these fit together is for the
    `Search` to say.
    """
    SEARCH.require_plain(document)
    require_no_recipe(document)
    SEARCH.require_known(document, KEYS, "the search")
    for key in ("models", "task"):
        if not document.get(key):
            raise SearchError(f"The search needs `{key}`.")
    given = {key: value for key, value in document.items() if value is not None}
    found = {"output": Output.read(document, SEARCH), **_recipes(given), **_models(given), **_paths(given)}
    found["task"] = task_document(given["task"], relative_to)
    found["splits"] = _splits(given)
    found["searcher"] = SEARCH.build(Searcher, _searcher(given), "searcher")
    found["fitness"] = SEARCH.build(Fitness, given.get("fitness"), "fitness")
    if "economy" in given:
        found["economy"] = SEARCH.build(Economy, given["economy"], "economy")
    if "from" in given:
        # What a run taught that is pinned lies beside search.yaml.
        found["origin"] = replace(read_origin(given["from"]), place=str(relative_to))
    found["baselines"] = tuple(SEARCH.listed(given.get("baselines", list(BASELINES)), "baselines"))
    for key in ("select", "batch_size"):
        if key in given:
            if type(given[key]) is not int:
                raise SearchError(f"{key} must be a whole number, got {given[key]!r}.")
            found[key] = given[key]
    return found


def _models(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        models = tuple(ModelRef.parse(model) for model in SEARCH.listed(given["models"], "models"))
        base = ModelRef.parse(given["base_model"]) if "base_model" in given else None
    except RecipeError as exc:
        raise SearchError(str(exc)) from None
    if stages := [ref for ref in (*models, base) if ref is not None and ref.stage]:
        raise SearchError(f"{stages[0]} is a stage of a recipe; a search names models.")
    return {"models": models, "base_model": base}


def read_origin(given: object) -> ModelRef:
    """The run that a search begins with, a folder or a dataset. Raises `SearchError` for anything else."""
    try:
        origin = ModelRef.parse(given)  # type: ignore[arg-type]
    except RecipeError as exc:
        raise SearchError(f"`from` names an earlier run, its folder or its dataset on the Hub: {exc}") from None
    if origin.stage or origin.lora or origin.component or origin.inside:
        raise SearchError(
            f"{given} is no run to begin with; name a run's folder, or the dataset that it is mirrored at."
        )
    return origin


def _recipes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What makes candidates recipes: the method, its fixed parameters, and the genes."""
    method = SEARCH.text(given, "merge_method")
    parameters = SEARCH.mapping(given.get("parameters") or {}, "parameters")
    for name, value in parameters.items():
        if not isinstance(value, bool) and not is_number(value):
            hint = missing_colon(name, value)
            end = f"; {hint}" if hint else "."
            raise SearchError(f"parameters.{name} must be a number or true or false, got {value!r}{end}")
    found = {"merge_method": method, "parameters": parameters}
    if "genome" in given:
        return found | read_genome(SEARCH.mapping(given["genome"], "genome"))
    if method is not None:
        raise SearchError("The search needs `genome`: the genes of the merge_method that may vary.")
    return found


def _paths(given: Mapping[str, Any]) -> dict[str, Any]:
    """What makes candidates paths; a searcher of their own may stand in it."""
    if "data_flow" not in given:
        return {}
    data_flow, found = SEARCH.mapping(given["data_flow"] or {}, "data_flow"), {}
    own = data_flow.pop("searcher", None)
    if "merge_method" in given and not data_flow.get("paper"):
        # A step's size and a generation's are the recipes' own.
        shared = SEARCH.mapping(given.get("searcher") or {}, "searcher")
        budget = {key: shared[key] for key in ("evaluations", "seed", "lag", "minutes") if key in shared}
        own = {"name": BY_EDITS, **(budget if own is None else SEARCH.mapping(own, "data_flow.searcher"))}
    if own is not None:
        found["path_searcher"] = SEARCH.build(Searcher, own, "data_flow.searcher")
    return {**found, "data_flow": SEARCH.build(DataFlowSpace, data_flow, "data_flow")}


def _searcher(given: Mapping[str, Any]) -> Any:
    """What stands under `searcher`; of paths alone it is by edits where no other is named."""
    said = given.get("searcher")
    paths = given.get("data_flow")
    if "data_flow" not in given or "merge_method" in given or (isinstance(paths, Mapping) and paths.get("paper")):
        return said
    return {"name": BY_EDITS, **said} if isinstance(said, Mapping) else said or {"name": BY_EDITS}


def _splits(given: Mapping[str, Any]) -> dict[str, Any]:
    splits = SEARCH.mapping(given.get("splits") or {}, "splits")
    SEARCH.require_known(splits, SPLITS, "splits")
    for name, value in splits.items():
        if type(value) is not int or value < 0:
            raise SearchError(f"splits.{name} must be a number of examples, got {value!r}.")
    return splits
