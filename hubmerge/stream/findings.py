"""What is wrong with a merge, found before a byte of weights moves."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import HubmergeError, PlanError
from ..text import sentences


@dataclass(frozen=True)
class Finding:
    """One finding in one sentence, clean as an error's is. `error` is the class that an "error" raises as; `about`: the
    key of the document that it is of, for who asked that otherwise than in a document."""

    level: Literal["error", "warning"]
    message: str
    error: type[HubmergeError] = PlanError
    about: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", sentences(self.message))


def error(message: str, kind: type[HubmergeError] = PlanError) -> Finding:
    """A finding that forbids the merge."""
    return Finding("error", message, kind)


def warning(message: str, about: str = "") -> Finding:
    """Something to know that does not forbid the merge."""
    return Finding("warning", message, about=about)


def raise_errors(findings: Iterable[Finding]) -> None:
    """Raises all errors among `findings` as one exception; does nothing where there is none.

    Its class is that of the errors where they share one, else `PlanError`.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if not errors:
        return
    kinds = {finding.error for finding in errors}
    raise (kinds.pop() if len(kinds) == 1 else PlanError)("\n".join(finding.message for finding in errors))


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
