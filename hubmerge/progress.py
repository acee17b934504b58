"""How long work tells the terminal, the Space or a notebook where it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One step of long work.

    `done` of `total`, counted in `unit` ("B", "tensors", "evaluations"); `total` 0 means unknown. `kept` of what is
    done was there before this run, and took no time of it.
    `data` carries what a chart needs (for a search: generation, best fitness).
    """

    stage: str
    done: int
    total: int
    unit: str = ""
    note: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    kept: int = 0


Progress = Callable[[Event], None]
"""Receives events. It may raise `errors.Interrupted` to stop the work; the work then keeps its journal."""


def silent(event: Event) -> None:
    """Ignores every event."""
