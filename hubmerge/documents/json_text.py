"""JSON that programs leave, read into plain values, bounded by its brackets and commas before a value is built."""

import json
import math
import re
from itertools import accumulate
from typing import Any, NoReturn

from ..errors import HubmergeError
from .plain import MAX_DEPTH, MOST_JSON_VALUES

LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON document."""
MOST_DIGITS = 100
"""Digits of a whole number in JSON; a tokenizer's "no limit" has 31."""


def parse_json(
    source: str | bytes,
    what: str,
    error: type[HubmergeError],
    *,
    finite: bool = True,
    unique: bool = False,
    mend: bool = False,
    largest: int = LARGEST_JSON,
    hint: str = "",
) -> Any:
    """The value of a JSON text.

    `what` names it in messages ("config.json of org/name"), `hint` says what to do ("fetch it again"). Without `finite`
    the Infinity and NaN that Python writes are read; with `unique` a key given twice is refused, where others keep the
    last; with `mend` half of a surrogate pair becomes a question mark, so that one stranger's text among many does not
    spoil the rest. Raises `error` for everything that is not JSON, is too large, too deep, has a whole number of more
    than `MOST_DIGITS` digits or half of a surrogate pair.
    """

    def refuse(problem: str) -> NoReturn:
        raise error(f"{what} cannot be read: {problem}{f'; {hint}' if hint else ''}.")

    try:
        data = source.encode() if isinstance(source, str) else bytes(source)
        if len(data) > largest:
            refuse(f"it has {len(data):,} bytes, and at most {largest:,} are read")
        text = data.decode("utf-8-sig")
    except UnicodeError:
        refuse("it is not UTF-8 text")
    if mend and b"\\u" in data:
        data = _ESCAPES.sub(lambda match: match[0] if match["whole"] else b"?", data)
        text = data.decode("utf-8-sig")
    if problem := _excess(data):
        refuse(problem)
    # A call for each number takes as long as all the rest: only where one may be too long or too large.
    shape = data.translate(_SHAPE)
    long = _LONG in shape
    large = long or _has_exponent(shape)
    try:
        return json.loads(
            text,
            parse_int=_whole if long else None,
            parse_float=_finite if finite and large else None,
            parse_constant=_no_constant if finite and any(name in data for name in _CONSTANTS) else None,
            object_pairs_hook=_unique if unique else None,
        )
    except _Unfit as exc:
        refuse(str(exc))
    except json.JSONDecodeError as exc:
        refuse(f"not valid JSON at line {exc.lineno}, column {exc.colno} ({exc.msg})")
    except (ValueError, RecursionError):
        refuse("it is not valid JSON")


def parse_object(source: str | bytes, what: str, error: type[HubmergeError], **options: Any) -> dict[str, Any]:
    """The JSON object in a text; raises `error` for any other value too. Options as of `parse_json`."""
    document = parse_json(source, what, error, **options)
    if not isinstance(document, dict):
        hint = f"; {options['hint']}" if options.get("hint") else ""
        raise error(f"{what} cannot be read: it is not a JSON object{hint}.")
    return document


_KEPT = b'"\\[]{},'
_DROPPED = bytes(set(range(256)) - set(_KEPT))
_STRING = re.compile(rb'"[^"]*"')
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ESCAPES = re.compile(rb"(?P<whole>\\\\|" + _PAIR.pattern + rb")|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_LONG = b"0" * (MOST_DIGITS + 1)
_EXPONENTS = (b"0e000", b"0e+000")
"""How a number begins its exponent that no float can hold, but for those that are `_LONG`."""
_CONSTANTS = (b"NaN", b"Infinity")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def _excess(data: bytes) -> str | None:
    """What of a JSON text is too much, seen from its brackets and commas alone: no value is built of it yet."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"  ")
        if _HALF.search(data) and _HALF.search(_PAIR.sub(b"", data)):
            return "it holds half of a surrogate pair, which is no character"
        data = data.replace(b'\\"', b"")
    if len(data) <= MOST_JSON_VALUES and data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return None
    frame = _STRING.sub(b"", data.translate(None, _DROPPED))
    values = frame.count(b",") + frame.count(b"[") + frame.count(b"{")
    if values > MOST_JSON_VALUES:
        return f"it has more than {MOST_JSON_VALUES:,} values"
    depth = max(accumulate(map(_STEP.__getitem__, frame.translate(None, b',"\\'))), default=0)
    return f"it is nested more than {MAX_DEPTH} levels deep" if depth > MAX_DEPTH else None


def _has_exponent(shape: bytes) -> bool:
    """Whether a number may have an exponent that no float can hold; digests have the same letters, in strings."""
    if not any(exponent in shape for exponent in _EXPONENTS):
        return False
    rest = shape if b"\\" in shape else _STRING.sub(b"", shape)
    return any(exponent in rest for exponent in _EXPONENTS)


class _Unfit(Exception):
    pass


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _Unfit(f"it has a whole number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise _Unfit(f"{digits[:60]} is no finite number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Unfit(f"{name} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Unfit(f"it names {name!r} twice")
            seen.add(name)
    return document
