"""The fields of a document that somebody wrote: each of its type, and none that is unknown.

>>> from hubmerge.errors import RecipeError
>>> RECIPE = DocumentKind("recipe", RecipeError)
>>> RECIPE.require_known({"densty": 1}, ["weight", "density"], "the recipe")
Traceback (most recent call last):
hubmerge.errors.RecipeError: Unknown key 'densty' in the recipe: did you mean 'density'?
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from ..errors import HubmergeError
from ..guesses import missing_colon, nearest
from ..text import brief
from .plain import check_plain, is_number
from .yaml_text import load_mapping, load_mappings, named_file

T = TypeVar("T")

_FITS: Mapping[type, Any] = {
    int: lambda value: type(value) is int,
    float: is_number,
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    type(None): lambda value: value is None,
}
_NAMES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "left out",
    tuple: "a list",
}


@dataclass(frozen=True)
class DocumentKind:
    """One kind of document: how messages call it ("recipe"), and the error that a wrong one raises.

    `where` in the calls names the part of it that is read; a value that is right is given back in its type.
    """

    what: str
    error: type[HubmergeError]

    def source(self, given: object) -> str | Path:
        """YAML text, or a `Path` where a program names a file; see `named_file`."""
        return named_file(given, self.what, self.error)

    def load(self, source: str | Path) -> dict[str, Any]:
        """The mapping in a YAML text or file; see `load_mapping`."""
        return load_mapping(source, self.what, self.error)

    def load_all(self, source: str | Path) -> list[dict[str, Any]]:
        """The mappings of all documents in a YAML text or file; see `load_mappings`."""
        return load_mappings(source, self.what, self.error)

    def require_plain(self, document: Any) -> None:
        """Raises where a program's or a form's values are none that a document could hold; see `check_plain`."""
        check_plain(document, self.what, self.error)

    def require_known(self, given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        """Raises for the keys of `given` that are not in `known`, naming the nearest known one of each."""
        refuse_unknown(given, known, where, self.error)

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        """`value` as a dict."""
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise self.error(f"`{where}` must be a mapping of names to values, got {brief(value)}.")
        return dict(value)

    def listed(self, value: Any, where: str) -> list[Any]:
        """`value` as a list."""
        if not isinstance(value, (list, tuple)):
            raise self.error(f"`{where}` must be a list, got {brief(value)}.")
        return list(value)

    def text(self, document: Mapping[str, Any], key: str) -> str | None:
        """The text at `key`; None where there is none."""
        value = document.get(key)
        if value is not None and not isinstance(value, str):
            # YAML reads a bare `no` (Norwegian) as false.
            quoted = " (in quotes)" if isinstance(value, bool) else ""
            raise self.error(f"`{key}` of the {self.what} must be text{quoted}, got {brief(value)}.")
        return value

    def whole(self, value: Any, where: str, least: int, most: int | None = None) -> int:
        """`value` as a whole number of at least `least` and, where that is given, at most `most`."""
        if type(value) is not int or value < least:
            raise self.error(f"{where} must be a whole number of at least {least}, got {brief(value)}.")
        if most is not None and value > most:
            raise self.error(f"{where} must be at most {most:,}, got {brief(value)}.")
        return value

    def build(self, kind: type[T], value: Any, where: str) -> T:
        """A dataclass from plain values, whose annotations say what each may be; lists become tuples."""
        given = self.mapping(value or {}, where)
        known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
        self.require_known(given, known, where)
        made = {}
        for name, item in given.items():
            kinds = _kinds(known[name].type)
            if isinstance(item, list) and tuple in kinds:
                made[name] = tuple(item)
                continue
            if not any(_FITS[one](item) for one in kinds if one in _FITS):
                raise self.error(
                    f"{where}.{name} must be {' or '.join(_NAMES[one] for one in kinds)}, got {brief(item)}."
                )
            made[name] = item
        if missing := [name for name, one in known.items() if name not in made and _is_required(one)]:
            raise self.error(f"{where} needs `{missing[0]}`.")
        return kind(**made)


class Faults:
    """What is wrong with a document, told all at once; `lines`: the sentences, in the order of finding."""

    def __init__(self) -> None:
        self.lines: dict[str, None] = {}

    def tried(self, read: Callable[..., T], *given: Any) -> T | None:
        """What `read` gives; None where it raises, which is kept."""
        try:
            return read(*given)
        except HubmergeError as exc:
            self.lines |= dict.fromkeys(str(exc).splitlines())
            return None

    def require_none(self, error: type[HubmergeError]) -> None:
        """Raises `error` for all of them."""
        if self.lines:
            raise error("\n".join(self.lines))


def refuse_unknown(given: Mapping[str, Any], known: Iterable[str], where: str, error: type[HubmergeError]) -> None:
    """Raises `error` for the keys of `given` that are not in `known`, in a line each with the nearest known one."""
    names = list(known)
    if unknown := [unknown_key(key, given[key], names, where) for key in given if key not in names]:
        raise error("\n".join(unknown))


def unknown_key(key: object, value: object, known: Iterable[str], where: str) -> str:
    """The sentence about a key that is not among the `known` ones."""
    near = nearest(str(key), known)
    hint = f"did you mean {near!r}?" if near else f"known keys: {', '.join(sorted(known))}."
    return f"Unknown key {str(key)[:60]!r} in {where}: {missing_colon(key, value) or hint}"


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _kinds(annotation: Any) -> list[type]:
    """The plain types of an annotation: int and NoneType for `int | None`, tuple for `tuple[str, ...]`."""
    parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return [get_origin(part) or part for part in parts]
