"""Values as JSON can hold them."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """The value with everything JSON cannot hold (dates, NaN, odd keys) made into text or null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
