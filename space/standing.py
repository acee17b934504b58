"""What stands in a box that several handlers write, of which each was told what stood there when it was asked.

Handlers of one visitor are answered one after another (`ONE_BY_ONE`), but each brings the text that the browser showed
when it was asked. So the texts that handlers wrote are kept on the server, and one that another has replaced meanwhile
gives way to the newest; what a person typed is no text that a handler wrote.
"""

import time
from typing import Any

IN_FLIGHT = 60.0
"""Seconds that a question may be on its way. A text that was replaced before is one that a person has typed again."""
_MOST = 32
ONE_BY_ONE: dict[str, Any] = {"concurrency_id": "recipe", "concurrency_limit": 1}

Kept = list[tuple[str, float]]
"""The texts that handlers wrote, the newest last, and when each was replaced (monotonic; of the newest nothing)."""


def standing(text: str, kept: Kept) -> str:
    """The text that stands: the newest that was written, where `text` is one that it has replaced since it was asked
    for; else `text`.

    >>> standing("a", after("b", after("a", []))), standing("typed", after("b", after("a", [])))
    ('b', 'typed')
    """
    since = time.monotonic() - IN_FLIGHT
    replaced = (one for one, when in kept[:-1] if when > since)
    return kept[-1][0] if kept and text.strip() != kept[-1][0].strip() and _among(text, replaced) else text


def after(text: str, kept: Kept) -> Kept:
    """What is kept when `text` is written."""
    if kept and kept[-1][0] == text:
        return kept
    before = [*kept[:-1], (kept[-1][0], time.monotonic())] if kept else []
    return [*before, (text, 0.0)][-_MOST:]


def _among(text: str, texts: Any) -> bool:
    return any(text.strip() == one.strip() for one in texts)
