"""Shapes of values: what may be in a document that a stranger sends. Whatever is not named is refused.

A shape is a function (value, where) that raises `AccessError`; its sentence names the place, never the value.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from hubmerge.errors import AccessError

Shape = Callable[[Any, str], None]


def _unless(fits: bool, where: str, expected: str) -> None:
    if not fits:
        raise AccessError(f"{where} must be {expected} on this page.")


def text(most: int = 200) -> Shape:
    """Text of at most so many characters."""
    return lambda value, where: _unless(
        isinstance(value, str) and len(value) <= most, where, f"text of at most {most:,} characters"
    )


def nothing(value: Any, where: str) -> None:
    """An empty value: as if it was left out."""
    _unless(value is None, where, "left out")


def flag(value: Any, where: str) -> None:
    """true or false."""
    _unless(isinstance(value, bool), where, "true or false")


def whole(low: int, high: int) -> Shape:
    """A whole number in a range."""
    return lambda value, where: _unless(
        type(value) is int and low <= value <= high, where, f"a whole number from {low:,} to {high:,}"
    )


def number(low: float = -1e9, high: float = 1e9) -> Shape:
    """A number in a range; neither infinity nor NaN are any."""
    return lambda value, where: _unless(
        type(value) in (int, float) and low <= value <= high and math.isfinite(value),
        where,
        f"a number from {low:g} to {high:g}",
    )


def one_of(*names: str) -> Shape:
    """One of some words."""
    return lambda value, where: _unless(isinstance(value, str) and value in names, where, f"one of {', '.join(names)}")


def either(expected: str, *shapes: Shape) -> Shape:
    """A value of one of some shapes; `expected` says which."""

    def check(value: Any, where: str) -> None:
        for shape in shapes:
            try:
                shape(value, where)
            except AccessError:
                continue
            return
        _unless(False, where, expected)

    return check


def listed(shape: Shape, most: int) -> Shape:
    """A list of at most so many values of a shape."""

    def check(value: Any, where: str) -> None:
        _unless(isinstance(value, list) and len(value) <= most, where, f"a list of at most {most:,}")
        for place, item in enumerate(value, 1):
            shape(item, f"{where}, number {place},")

    return check


def named(shape: Shape, most: int) -> Shape:
    """A mapping of names that are free to values of a shape."""

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, Mapping) and len(value) <= most and all(_is_name(key) for key in value)
        _unless(fits, where, f"a mapping of at most {most:,} names to values")
        for key, item in value.items():
            shape(item, f"{where}.{key}")

    return check


def table(required: Mapping[str, Shape], optional: Mapping[str, Shape], why: str = "") -> Shape:
    """A mapping with these keys and no other; `why` is what is said of another."""
    known = {**required, **optional}

    def check(value: Any, where: str) -> None:
        _unless(isinstance(value, Mapping), where, "a mapping of names to values")
        for key in value:
            if not isinstance(key, str) or key not in known:
                shown = f"`{key}`" if _is_name(key) else "A key that is no name"
                raise AccessError(f"{shown} is not taken in {where} on this page{why}; it takes {', '.join(known)}.")
        for key in required:
            _unless(key in value, f"{where}.{key}", "there")
        for key, item in value.items():
            known[key](item, f"{where}.{key}")

    return check


def file_inside(value: Any, where: str) -> None:
    """A path inside of a repository of the Hub."""
    fits = isinstance(value, str) and 0 < len(value) <= 300 and value.isprintable() and "\\" not in value
    path = PurePosixPath(value) if fits else PurePosixPath("/")
    plain = not path.is_absolute() and ".." not in path.parts and not value.startswith("~") and "://" not in value
    _unless(fits and plain, where, "the plain name of a file inside the dataset's repository")


def repository(value: Any, where: str) -> None:
    """A repository of the Hub by its ID."""
    fits = isinstance(value, str) and len(value) <= 96 and 1 <= len(value.split("/")) <= 2
    parts = value.split("/") if fits else []
    plain = all(
        part and part[0].isalnum() and all(c.isascii() and (c.isalnum() or c in "-_.") for c in part) for part in parts
    )
    _unless(fits and plain and ".." not in value, where, "the ID of a repository of the Hub, as org/name,")


def dataset(value: Any, where: str) -> None:
    """A dataset of the Hub by its ID, with or without a revision."""
    name, _, revision = value.partition("@") if isinstance(value, str) else (value, "", "")
    repository(name, where)
    text()(revision, where)


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and 0 < len(key) <= 60 and key.isprintable()
