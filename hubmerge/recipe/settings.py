"""Parameters from plain values. Numbers may be text: YAML 1.1 reads 1e-1 as one, and people put quotes around them.

>>> read_parameters({"weight": "1e-1", "t": {"filter": "mlp", "value": [0, 1]}}, "parameters")
{'weight': 0.1, 't': (Conditional(filter='mlp', value=(0, 1)),)}
"""

from collections.abc import Mapping
from typing import Any

from ..documents import is_number
from ..errors import RecipeError
from ..guesses import missing_colon
from ..text import brief
from .parameters import Conditional, Scalar, Setting
from .values import RECIPE

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LONGEST = 40


def read_parameters(value: Any, where: str) -> dict[str, Setting]:
    """The parameters of a model, a slice, a module or a recipe. Raises `RecipeError`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RecipeError(f"{where}: expected `name: value` pairs, got {brief(value)}.")
    for name, setting in value.items():
        if hint := missing_colon(name, setting):
            raise RecipeError(f"{name} in {where} has no value; {hint}")
    return {name: _setting(setting, f"{name} in {where}") for name, setting in value.items()}


def _setting(value: Any, where: str) -> Setting:
    if isinstance(value, Mapping):
        return (_conditional(value, where),)
    if not isinstance(value, (list, tuple)):
        return _scalar(value, where)
    if not value:
        raise RecipeError(f"{where}: an empty list has no value; give at least one.")
    if not any(isinstance(item, Mapping) for item in value):
        return tuple(_scalar(item, where) for item in value)
    return tuple(_conditional(item, where) for item in value)


def _conditional(item: Any, where: str) -> Conditional:
    if not isinstance(item, Mapping) or "value" not in item:
        raise RecipeError(f"{where}: expected `filter: text` and `value: number`, got {brief(item)}.")
    RECIPE.require_known(item, Conditional.__dataclass_fields__, where)
    name, value = item.get("filter"), item["value"]
    if name is not None and not isinstance(name, str):
        raise RecipeError(f"{where}: filter must be text found in tensor names, got {brief(name)}.")
    inner = tuple(_scalar(v, where) for v in value) if isinstance(value, (list, tuple)) else _scalar(value, where)
    if inner == ():
        raise RecipeError(f"{where}: an empty list has no value; give at least one.")
    return Conditional(None if name == "*" else name, inner)


def _scalar(value: Any, where: str) -> Scalar:
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower(), _number(value))
    if isinstance(value, bool) or is_number(value):
        return value
    raise RecipeError(f"{where}: expected a finite number or true/false, got {brief(value)}.")


def _number(text: str) -> float | str:
    """The number that a text says, or else the text."""
    try:
        return float(text) if len(text) <= _LONGEST and "_" not in text else text
    except ValueError:
        return text
