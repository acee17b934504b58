"""Multiple choice in the shapes that datasets have it: a list, {text, label}, or a field for every choice."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import TaskError
from .examples import Row, as_text, fill

_ONE_FIELD = re.compile(r"\{(\w+)\}")


def read_choices(given: str | Sequence[str], answer: str, row: Row, where: str) -> tuple[tuple[str, ...], str]:
    """The choices of a row, and the text of the right one.

    given: the name of a field that holds a list, or {text: [...], label: [...]} as in ARC; or a list of templates.
    answer: a template. A number in its field counts the choices from 0; text is a label where there are labels, the
    text of a choice, or, written in digits, again the number. Raises `TaskError` for anything else.
    """
    choices, labels = _choices(given, row, where)
    field = _ONE_FIELD.fullmatch(answer) if isinstance(answer, str) else None
    value = row.get(field[1]) if field else None
    if type(value) is int:
        return choices, _at(choices, value, where)
    text = fill(answer, row, where)
    if text in labels:
        return choices, choices[labels.index(text)]
    if text not in choices and text.isdecimal() and len(text) < 10:
        return choices, _at(choices, int(text), where)
    return choices, text


def _choices(given: str | Sequence[str], row: Row, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(given, str):
        return tuple(fill(template, row, where) for template in given), ()
    if given not in row:
        raise TaskError(f"{where}: there is no field {given!r} with choices in this row; name one of its fields.")
    value: Any = row[given]
    labels: Any = ()
    if isinstance(value, Mapping):
        value, labels = value.get("text"), value.get("label") or ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TaskError(f"{where}: the field {given!r} must hold a list of choices, got {type(value).__name__}.")
    place = f"{where}: each of the choices in the field {given!r}"
    return tuple(as_text(one, place) for one in value), tuple(map(str, labels))


def _at(choices: Sequence[str], index: int, where: str) -> str:
    if not 0 <= index < len(choices):
        raise TaskError(f"{where}: the right choice is a number beyond those of the {len(choices)} choices (from 0).")
    return choices[index]
