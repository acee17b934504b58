"""Reading the parts of a search's YAML: mappings, lists, and dataclasses with fields of plain types."""

from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin

from ...documents import is_number, refuse_unknown
from ...errors import SearchError


def build(kind: type, value: Any, where: str) -> Any:
    """A dataclass of the spec from plain values; raises `SearchError` for unknown names and values of another type."""
    given = mapping(value or {}, where)
    known = {item.name: item for item in fields(kind)}
    refuse_unknown(given, known, where, SearchError)
    made = {}
    for name, item in given.items():
        kinds = [one.__name__ for one in _kinds(known[name].type)]
        if isinstance(item, list) and "tuple" in kinds:
            made[name] = tuple(item)
            continue
        if not any(_FITS[one](item) for one in kinds if one in _FITS):
            raise SearchError(f"{where}.{name} must be {' or '.join(_NAMES[one] for one in kinds)}, got {item!r}.")
        made[name] = item
    return kind(**made)


def _kinds(annotation: Any) -> list[type]:
    """The plain types of an annotation: int and NoneType for `int | None`, tuple for `tuple[str, ...]`."""
    parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return [get_origin(part) or part for part in parts]


_FITS: Mapping[str, Any] = {
    "int": lambda value: type(value) is int,
    "float": is_number,
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "NoneType": lambda value: value is None,
}


_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "NoneType": "left out",
    "tuple": "a list",
}


def mapping(value: Any, where: str) -> dict[str, Any]:
    """`value` as a dict; raises `SearchError` where it is none."""
    if not isinstance(value, Mapping):
        raise SearchError(f"`{where}` must be a mapping of names to values, got {value!r}.")
    return dict(value)


def listed(value: Any, where: str) -> list[Any]:
    """`value` as a list; raises `SearchError` where it is none."""
    if not isinstance(value, (list, tuple)):
        raise SearchError(f"`{where}` must be a list, got {value!r}.")
    return list(value)
