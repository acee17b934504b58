"""The examples that one candidate is asked."""

from dataclasses import dataclass

from .racing import Race


@dataclass(frozen=True)
class Asked:
    """Examples of one split: all of them, or those at `positions`, in that order.

    `weights`: what each of them counts in the score (None: the same). With a `race` a candidate may be asked only the
    first of them.
    """

    split: str = "search"
    positions: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
    race: Race | None = None


EVERYTHING = Asked()
"""The whole search split."""
