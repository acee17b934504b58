"""What has to be said plainly of a winner, in the terminal, the report and the card."""

from collections.abc import Iterable
from typing import Any

Score = tuple[str, float, Any]
"""A line of the table: whose, its value of 0..1, of how many examples."""


def remarks(evolved: Score | None, others: Iterable[Score], same: Any = None) -> tuple[str, ...]:
    """That the winner is a model that it was made of (its title: `same`), or that by its line and those of all `others`
    it is no better than what it is compared with; nothing where neither holds."""
    if isinstance(same, str):
        return (f"The winner is {same}, unchanged: the search found nothing better.",)
    best = max(others, key=lambda one: one[1], default=None)
    if evolved is None or best is None or evolved[1] > best[1]:
        return ()
    return (
        f"The winner is no better than {best[0]}: {evolved[1]:.1%} against {best[1]:.1%} on the test split "
        f"(n = {best[2]}).",
    )
