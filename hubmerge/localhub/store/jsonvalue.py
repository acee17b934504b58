"""Values as JSON can hold them."""

import math
from typing import Any

DEEPEST = 64  # levels
LARGEST_BITS = 4096  # of a whole number: far more than any means, and few enough digits to write


def plain(value: Any, levels: int = DEEPEST) -> Any:
    """The value with everything JSON cannot hold (dates, NaN, odd keys, half characters) made into text or null.

    Raises:
        ValueError: it is nested too deep.
    """
    if isinstance(value, (dict, list, tuple, set, frozenset)) and not levels:
        raise ValueError(f"more than {DEEPEST} levels")
    if isinstance(value, dict):
        return {_text(key): plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, levels - 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= LARGEST_BITS else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        return "a number too large to write"
    return str(value).encode(errors="replace").decode()
