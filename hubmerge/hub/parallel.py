"""Several small requests at a time, their answers in order."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_READERS = 8
T = TypeVar("T")
R = TypeVar("R")


def in_parallel(read: Callable[[T], R], these: Sequence[T]) -> Iterator[R]:
    """What reading each of them gives, in their order."""
    if not these:
        return
    with ThreadPoolExecutor(min(_READERS, len(these))) as pool:
        # Each in a copy of this thread's context, so that what stops this thread stops them.
        reading = [pool.submit(copy_context().run, read, one) for one in these]
        try:
            yield from (future.result() for future in reading)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
