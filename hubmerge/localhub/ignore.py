"""Which files a .gitignore leaves out of an upload (the part of gitignore's language that projects use)."""

import re
from collections.abc import Callable


def ignore_rule(text: str) -> Callable[[str], bool]:
    """A predicate over paths: the last pattern that matches decides, '!' takes back, as in git."""
    patterns = [_compile(line) for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]

    def ignored(path: str) -> bool:
        verdict = False
        for pattern, ignores in patterns:
            if pattern.match(path):
                verdict = ignores
        return verdict

    return ignored


def _compile(line: str) -> tuple[re.Pattern[str], bool]:
    ignores = not line.startswith("!")
    glob = line.lstrip("!") if not ignores else line
    anchored = "/" in glob.rstrip("/")
    folder_only = glob.endswith("/")
    glob = glob.strip("/")
    expression = "" if anchored else "(?:.*/)?"
    position = 0
    while position < len(glob):
        if glob.startswith("**/", position):
            expression, position = expression + "(?:.*/)?", position + 3
        elif glob.startswith("**", position):
            expression, position = expression + ".*", position + 2
        elif glob[position] == "*":
            expression, position = expression + "[^/]*", position + 1
        elif glob[position] == "?":
            expression, position = expression + "[^/]", position + 1
        else:
            expression, position = expression + re.escape(glob[position]), position + 1
    # A pattern that names a folder covers everything inside it.
    return re.compile(expression + ("/.*" if folder_only else "(?:/.*)?") + r"\Z", re.DOTALL), ignores
