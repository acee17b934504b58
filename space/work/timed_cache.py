"""Values that are kept for a while so that they need not be made again."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class TimedCache(Generic[V]):
    """The last `most` values asked for; two threads asking for one key make it once.

    Each is kept for at most `seconds` after it was made or, with `in_use`, after it was last asked for. One that is too
    old is never given out; `sweep` lets go of it.
    """

    def __init__(self, most: int, seconds: float, *, in_use: bool = False) -> None:
        self._most, self._seconds, self._in_use = most, seconds, in_use
        self._values: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of `key`, made by `make` where there is none that is fresh. Errors of `make` are not kept."""
        with self._lock:
            own = self._locks.setdefault(key, threading.Lock())
        try:
            with own:
                with self._lock:
                    at, value = self._values.get(key, (0.0, None))
                    if value is not None and self._fresh(at):
                        self._values[key] = (time.monotonic() if self._in_use else at, value)
                        self._values.move_to_end(key)
                        return value
                value = make()
                with self._lock:
                    self._values[key] = (time.monotonic(), value)
                    self._values.move_to_end(key)
                    while len(self._values) > self._most:
                        oldest, _ = self._values.popitem(last=False)
                        self._locks.pop(oldest, None)
                return value
        finally:
            with self._lock:
                if key not in self._values:
                    self._locks.pop(key, None)

    def sweep(self) -> int:
        """Lets go of all values that are too old; returns how many."""
        with self._lock:
            stale = [key for key, (at, _) in self._values.items() if not self._fresh(at)]
            for key in stale:
                del self._values[key]
                self._locks.pop(key, None)
        return len(stale)

    def _fresh(self, at: float) -> bool:
        return time.monotonic() - at < self._seconds
