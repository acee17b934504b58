"""Several documents in one file, of which some name others, as mergekit-multi reads them: the stages of a recipe."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RecipeError
from .reading import LABEL, read_recipe
from .values import Recipe


def read_documents(documents: Sequence[Mapping[str, Any]], strict: bool = False) -> Recipe:
    """The recipe of the documents in one file.

    Each but one has a `name` and is named as a model by another: they become stages. Raises `RecipeError`.
    """
    if len(documents) == 1:
        return read_recipe(documents[0], strict)
    names = [one.get(LABEL) for one in documents]
    known = {name: name for name in names if isinstance(name, str)}
    if len(known) < len([name for name in names if name is not None]):
        raise RecipeError("Two documents of the recipe have the same `name`, or one that is no text; rename one.")
    parts = [_with_stages({key: value for key, value in one.items() if key != LABEL}, known) for one in documents]
    uses = [{name for name in known if f"stage:{name}" in _texts(part)} for part in parts]
    last = [number for number, name in enumerate(names) if not any(name in used for used in uses)]
    if len(last) != 1:
        found = f"{len(last)} of its documents are" if last else "none of its documents is"
        raise RecipeError(
            f"The recipe has {len(documents)} documents, and {found} named by no other; one merge makes one model: "
            "name the others in it as models, or put them into files of their own."
        )
    order = _in_order({str(name): used for name, used in zip(names, uses, strict=True) if name != names[last[0]]})
    by_name = {str(name): part for name, part in zip(names, parts, strict=True)}
    return read_recipe({"stages": [{LABEL: name, **by_name[name]} for name in order], **parts[last[0]]}, strict)


def _in_order(uses: Mapping[str, set[str]]) -> list[str]:
    """The names of documents, each after those that it names. Raises `RecipeError` where they go round in a circle."""
    order: list[str] = []
    while len(order) < len(uses):
        ready = [name for name, used in uses.items() if name not in order and used <= set(order)]
        if not ready:
            raise RecipeError("The documents of the recipe name each other in a circle; one has to come first.")
        order += ready
    return order


def _with_stages(value: Any, names: Mapping[str, str]) -> Any:
    """The same plain values, with each name of another document as stage:NAME where a model is named."""
    if isinstance(value, list):
        return [_with_stages(item, names) for item in value]
    if not isinstance(value, Mapping):
        return value
    models = ("model", "base_model", "tokenizer_source", "source", "path")
    return {
        key: f"stage:{item}" if key in models and isinstance(item, str) and item in names else _with_stages(item, names)
        for key, item in value.items()
    }


def _texts(value: Any) -> set[str]:
    """All texts in plain values."""
    if isinstance(value, str):
        return {value}
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return {text for part in parts for text in _texts(part)}
