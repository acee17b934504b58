"""Places that people take in turn: however much one of them asks, another's first request is the next."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hubmerge.errors import ResourceError


class Turns:
    """So many places at work. A free one goes to whoever has the fewest at work and was served longest ago."""

    def __init__(self, places: int, waiting_each: int) -> None:
        self._free, self._waiting_each = places, waiting_each
        self._changed = threading.Condition()
        self._waiting: list[tuple[str, object]] = []
        self._working: dict[str, int] = {}
        self._served: dict[str, int] = {}
        self._count = 0

    @contextmanager
    def of(self, person: str, stop: threading.Event | None = None) -> Iterator[None]:
        """Holds a place for the person, once it is their turn; `stop`, once it is set, ends the wait.

        Raises `ResourceError` where as many of theirs wait already as may, or the wait was ended.
        """
        ticket = (person, object())
        with self._changed:
            if sum(waits == person for waits, _ in self._waiting) >= self._waiting_each:
                raise ResourceError(f"{self._waiting_each} of your questions wait already; ask again after an answer.")
            self._waiting.append(ticket)
            while not (self._free and self._next() is ticket):
                if stop is not None and stop.is_set():
                    self._waiting.remove(ticket)
                    self._changed.notify_all()
                    raise ResourceError("The question was taken back before its turn.")
                self._changed.wait(0.5 if stop is not None else None)
            self._waiting.remove(ticket)
            self._free -= 1
            self._count += 1
            self._served[person] = self._count
            self._working[person] = self._working.get(person, 0) + 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._working[person] -= 1
                if not self._working[person]:
                    del self._working[person]
                if len(self._served) > 1_000:
                    self._served.clear()
                self._changed.notify_all()

    def _next(self) -> tuple[str, object]:
        return min(self._waiting, key=lambda t: (self._working.get(t[0], 0), self._served.get(t[0], 0)))
