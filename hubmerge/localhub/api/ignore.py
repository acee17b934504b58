"""Which files a .gitignore leaves out of an upload (the part of gitignore's language that projects use)."""

import fnmatch
import re
from collections.abc import Callable, Sequence

MOST_RULES = 10_000
"""Characters of all rules that are read; projects have a tenth of that. More are matched against nothing."""

_ANY = None  # in a pattern: any number of folders
_Part = re.Pattern[str] | None


def ignore_rule(text: str) -> Callable[[str], bool]:
    """A predicate over paths: the last pattern that matches decides, '!' takes back, as in git.

    It takes time that grows with the lengths of pattern and path alone, however many stars there are.
    Raises `ValueError` for more than `MOST_RULES` characters of rules.
    """
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if sum(map(len, lines)) > MOST_RULES:
        raise ValueError(f"The rules of .gitignore have more than {MOST_RULES:,} characters; leave some out.")
    patterns = [_compile(line) for line in lines]

    def ignored(path: str) -> bool:
        parts = path.split("/")
        return next((ignores for pattern, ignores in reversed(patterns) if _matches(pattern, parts)), False)

    return ignored


def _compile(line: str) -> tuple[list[_Part], bool]:
    ignores = not line.startswith("!")
    glob = line if ignores else line[1:]
    names = glob.strip("/").split("/")
    parts: list[_Part] = [] if "/" in glob.rstrip("/") else [_ANY]
    parts += [_ANY if name == "**" else re.compile(fnmatch.translate(name)) for name in names]
    # A pattern that names a folder covers everything inside it.
    return parts + ([re.compile(""), _ANY] if glob.endswith("/") else [_ANY]), ignores


def _matches(pattern: Sequence[_Part], parts: Sequence[str]) -> bool:
    """Whether the pattern fits all parts of a path; where it does not, only the last `_ANY` before takes one more."""
    at = place = 0
    again: tuple[int, int] | None = None
    while place < len(parts):
        if at < len(pattern) and (part := pattern[at]) is _ANY:
            again = at, place
            at += 1
        elif at < len(pattern) and part is not _ANY and part.match(parts[place]):
            at, place = at + 1, place + 1
        elif again is None:
            return False
        else:
            again = again[0], again[1] + 1
            at, place = again[0] + 1, again[1]
    return all(part is _ANY for part in pattern[at:])
