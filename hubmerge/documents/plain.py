"""Plain values, and how many of them a document of others may hold."""

import gc
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import HubmergeError
from ..text import has_token

MAX_DEPTH = 100
"""Levels of lists and mappings, in YAML and in JSON."""
MOST_JSON_VALUES = 8_000_000
"""Values in a JSON document: a tokenizer of a million tokens has less than half of that."""

WHOLE = range(-(2**63), 2**64)
"""Whole numbers that a document may hold, but for JSON."""
SURROGATE = re.compile("[\ud800-\udfff]")


def check_plain(document: Any, what: str, error: type[HubmergeError]) -> None:
    """Raises `error` where the values that a program or a form gives are none that a document could hold.

    `what` names them in messages ("recipe"). The bounds are those of YAML, but for the number of values.
    """
    waiting, values = [(document, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if depth > MAX_DEPTH or values > MOST_JSON_VALUES:
            raise error(f"The {what} is nested more than {MAX_DEPTH} levels deep, or has too many values.")
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and ("\0" in value or SURROGATE.search(value)):
            raise error(f"The {what} cannot be read: text holds a NUL or half of a surrogate pair.")
        elif isinstance(value, str) and has_token(value):
            raise error(f"The {what} holds what looks like an access token, and the result would tell it; take it out.")
        elif isinstance(value, int) and value not in WHOLE:
            raise error(f"The {what} cannot be read: a whole number has more than 64 bits.")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none, nor is an integer that no float can hold."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps Python from looking for circles while very many values are made that hold none.

    It looks again and again at all that there is, which takes as long as to read a journal or to plan from headers.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
