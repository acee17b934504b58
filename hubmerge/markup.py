"""HTML from templates, in which text of others is text and stays so."""

import unicodedata
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["Markup", "Templates", "clean"]


class Templates:
    """The templates of a folder, each a file NAME.html.jinja.

    What is put into one is escaped, also inside an attribute in quotes, and cleaned; only what a template made, which
    is `Markup`, goes in as it is.
    """

    def __init__(self, folder: Path) -> None:
        self._made = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    def render(self, name: str, /, **values: object) -> Markup:
        """A template with these values in it."""
        return Markup(self._made.get_template(f"{name}.html.jinja").render(values))


def clean(text: object) -> str:
    """`text` without what could not stand in a page: control characters, halves of surrogates, hidden directions."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Cf") else "\ufffd"
        for character in str(text)
    )


def _shown(value: object) -> str:
    return value if isinstance(value, Markup) else clean(value)
