"""What a candidate is asked."""

from dataclasses import dataclass

from .racing import Race


@dataclass(frozen=True)
class Job:
    """What a candidate is asked: examples of one split, all of them or those at the positions `items`, in that order.

    `weights`: what each of them counts in the score (None: the same). With a `race` it may be asked only the first.
    """

    split: str = "search"
    items: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
    race: Race | None = None
