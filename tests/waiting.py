"""Waiting for what another thread or process does; the limit ends what hangs, and judges no machine."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: object, *, seconds: float = 120.0, every: float = 0.01) -> T:
    """What `condition` returns once that is true, asked `every` so many seconds; else fails with `what`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what() if callable(what) else what} (waited {seconds:.0f} s)"
        time.sleep(every)
    return found
