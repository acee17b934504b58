"""Small pieces of Markdown that hold whatever text they are given."""

import re
from collections.abc import Iterable, Sequence

# An underscore between letters, and a sharp within a line, mean nothing.
_SPECIAL = re.compile(r"([\\`*\[\]|~!]|(?<![^\W_])_|_(?![^\W_])|^#|#$)")


def escape(text: object) -> str:
    """`text` as literal Markdown on one line, also inside a table cell."""
    flat = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def link(text: object, url: str | None) -> str:
    """A link with literal text; just the text where `url` is not a plain http(s) address."""
    if url and re.fullmatch(r"https?://[^\s()<>\"'`|\\]+", url):
        return f"[{escape(text)}]({url})"
    return escape(text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already (see `escape`); columns whose header ends in ">" align right."""
    names = [name.removesuffix(">") for name in header]
    marks = ["---:" if name.endswith(">") else "---" for name in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, marks, *rows))


def fence(text: str, language: str = "") -> str:
    """A code block that no text can leave: its fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"
