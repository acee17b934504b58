"""What is wrong with a merge, found before a byte of weights moves."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import HubmergeError, PlanError
from ..text import sentences


@dataclass(frozen=True)
class Problem:
    """One finding in one sentence, clean as an error's is. `error` is the class that an "error" raises as."""

    level: Literal["error", "warning"]
    message: str
    error: type[HubmergeError] = PlanError

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", sentences(self.message))


def error(message: str, kind: type[HubmergeError] = PlanError) -> Problem:
    """A problem that forbids the merge."""
    return Problem("error", message, kind)


def warning(message: str) -> Problem:
    """Something to know that does not forbid the merge."""
    return Problem("warning", message)


def raise_errors(problems: Iterable[Problem]) -> None:
    """Raises all errors among `problems` as one exception; does nothing where there is none.

    Its class is that of the errors where they share one, else `PlanError`.
    """
    errors = [problem for problem in problems if problem.level == "error"]
    if not errors:
        return
    kinds = {problem.error for problem in errors}
    raise (kinds.pop() if len(kinds) == 1 else PlanError)("\n".join(problem.message for problem in errors))


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
