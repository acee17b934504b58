"""Which kind of quantised weights a model has: one row for each, the first that fits is taken."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .bitsandbytes import find_bitsandbytes, is_bitsandbytes
from .fp4 import find_fp4, is_fp4
from .grouped import find_grouped, is_grouped
from .packed import Quantised, Stored
from .rows import find_in_rows, is_in_rows
from .scaled import find_fp8, find_int8, is_fp8, is_int8


class Kind(NamedTuple):
    """`fits`: whether a quantization_config is of this kind; `find`: its weights (None: none is quantised)."""

    fits: Callable[[Mapping[str, Any]], bool]
    find: Callable[[Stored], Quantised | None]


KINDS = (
    Kind(is_fp8, find_fp8),
    Kind(is_int8, find_int8),
    Kind(is_fp4, find_fp4),
    Kind(is_in_rows, find_in_rows),
    Kind(is_grouped, find_grouped),
    Kind(is_bitsandbytes, find_bitsandbytes),
)


def is_known(how: Mapping[str, Any]) -> bool:
    """Whether weights that are quantised in this way can be read."""
    return any(kind.fits(how) for kind in KINDS)


def find_quantised(stored: Stored) -> Quantised | None:
    """How the quantised weights of a model are read; None where it has none."""
    return next(kind.find(stored) for kind in KINDS if kind.fits(stored.how))
