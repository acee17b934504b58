"""Places that people take in turn: however much one of them asks, another's first request is the next."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from hubmerge.errors import ResourceError


class Turns:
    """So many places at work. A free one goes to whoever has the fewest at work and was served longest ago.

    One person never has all of them, where there are several, nor more than `questions_each` open questions.
    """

    def __init__(self, places: int, questions_each: int) -> None:
        self._free, self._most, self._questions_each = places, max(1, places - 1), questions_each
        self._changed = threading.Condition()
        self._waiting: list[tuple[str, object]] = []
        self._working: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        self._served: dict[str, int] = {}
        self._count = 0

    @contextmanager
    def asking(self, person: str) -> Iterator[None]:
        """Counts a question of the person, from before its model is fetched until it is answered.

        Raises `ResourceError` where as many of theirs are open as may be.
        """
        with self._changed:
            if self._open[person] >= self._questions_each:
                raise ResourceError(
                    f"{self._questions_each} of your questions wait already; ask again after an answer."
                )
            self._open[person] += 1
        try:
            yield
        finally:
            with self._changed:
                self._open[person] -= 1
                self._open = +self._open

    @contextmanager
    def of(self, person: str, stop: threading.Event | None = None) -> Iterator[None]:
        """Holds a place for the person, once it is their turn; `stop`, once it is set, ends the wait.

        Raises `ResourceError` where the wait was ended.
        """
        ticket = (person, object())
        with self._changed:
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
            self._working[person] += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._working[person] -= 1
                self._working = +self._working
                if len(self._served) > 1_000:
                    self._served.clear()
                self._changed.notify_all()

    def _next(self) -> tuple[str, object] | None:
        may = [ticket for ticket in self._waiting if self._working[ticket[0]] < self._most]
        return min(may, key=lambda t: (self._working[t[0]], self._served.get(t[0], 0)), default=None)


class Together:
    """One turn for several that speak on one thread, a piece of each: two turns could wait for each other for ever.

    The first to enter takes it, the last to leave gives it back.
    """

    def __init__(self, turn: Callable[[], AbstractContextManager[None]]) -> None:
        self._turn, self._inside, self._held = turn, 0, ExitStack()

    def __enter__(self) -> None:
        if not self._inside:
            self._held.enter_context(self._turn())
        self._inside += 1

    def __exit__(self, *exc: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._held.close()
