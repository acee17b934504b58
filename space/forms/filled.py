"""A form's fields as one value, from what its components hold."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from hubmerge.errors import HubmergeError

from ..visitors.guard import require_types

Form = TypeVar("Form")


def names(form: type[Any]) -> list[str]:
    """The fields of a form, in the order in which their values come."""
    return [field.name for field in fields(form)]


def as_number(text: str) -> float | str | None:
    """What is typed where a number may stand: None where there is nothing, the text where it is no number.

    >>> as_number(" 16 "), as_number("1.5"), as_number(""), as_number("much"), as_number("1e999")
    (16, 1.5, None, 'much', '1e999')
    """
    said = text.strip()
    for kind in (int, float):
        with suppress(ValueError):
            if len(said) < 20 and math.isfinite(value := kind(said)):
                return value
    return said or None


def filled(form: type[Form], values: Sequence[Any]) -> Form:
    """The form with these values, one for each field in their order.

    Raises `HubmergeError` where a program sends another type of value than the component would, or not so many.
    """
    if len(values) != len(names(form)):
        raise HubmergeError(f"This form has {len(names(form))} fields, and {len(values)} values came.")
    require_types(get_type_hints(form), values)
    return form(*values)
