"""What people look at in a notebook or an interpreter: a table there, lines here, instead of every field."""

from abc import abstractmethod
from collections.abc import Sequence

from markupsafe import Markup

from .text import printable

Table = tuple[str, Sequence[Sequence[str]]]
"""A heading, and rows of equally many words."""


class Shown:
    """Something that tells of itself in a table.

    >>> class Sum(Shown):
    ...     def told(self):
    ...         return "a sum", [("of", "<1>, 2"), ("is", "3")]
    >>> Sum()
    a sum
      of  <1>, 2
      is  3
    >>> Sum()._repr_html_()
    '<table><caption>a sum</caption><tr><td>of<td>&lt;1&gt;, 2<tr><td>is<td>3</table>'
    """

    @abstractmethod
    def told(self) -> Table:
        """What there is to know."""

    def __repr__(self) -> str:
        heading, rows = _clean(self.told())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n  ".join([heading, *lines])

    def _repr_html_(self) -> str:
        """For notebooks."""
        heading, rows = _clean(self.told())
        cells = (Markup("<tr>") + Markup().join(Markup("<td>{}").format(word) for word in row) for row in rows)
        return str(Markup("<table><caption>{}</caption>{}</table>").format(heading, Markup().join(cells)))


def _clean(table: Table) -> Table:
    heading, rows = table
    return printable(heading), [[printable(word) for word in row] for row in rows]
