"""The page's templates, and the small pieces of HTML that all tabs have."""

from pathlib import Path

from hubmerge.markup import Markup, Templates

render = Templates(Path(__file__).parent / "templates").render
"""A template of this room's `templates/`, with values in it."""


def note(text: str, kind: str = "problem", level: str = "", role: str = "", tag: str = "div") -> Markup:
    """A line: a problem (of the level "warning", or an error), a thing that is `fine`, `empty`, or said in `quiet`."""
    return render("note", text=text, kind=kind, level=level, role=role, tag=tag)


def lead(text: str) -> Markup:
    """What a tab is for, at its top."""
    return note(text, "lead", tag="p")
