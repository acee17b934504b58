"""Small pieces of HTML that hold whatever text they are given. They are XML too, so a test can read them strictly."""

import html
from collections.abc import Iterable, Sequence

from .canvas import clean, is_number


def text(value: object) -> str:
    """`value` as literal text, also inside an attribute."""
    return html.escape(clean(value))


def name(value: object) -> str:
    """A name from outside, kept from turning the direction of the text around it."""
    return f"<bdi>{text(value)}</bdi>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; columns whose header ends in ">" are numbers. `marked` rows stand out."""
    right = [title.endswith(">") for title in header]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="number">{cell}</{tag}>' if number else f"<{tag}>{cell}</{tag}>"
            for cell, number in zip(cells, right, strict=True)
        )

    head = line("th", [text(title.removesuffix(">")) for title in header])
    body = "".join(
        f'<tr class="marked">{line("td", row)}</tr>' if number in marked else f"<tr>{line('td', row)}</tr>"
        for number, row in enumerate(rows)
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, the values HTML already."""
    lines = "".join(f"<div><dt>{text(key)}</dt><dd>{value}</dd></div>" for key, value in pairs)
    return f'<dl class="facts">{lines}</dl>' if lines else ""


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """The figures of a headline: what it is, the figure, and a line below it (HTML already)."""
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span>{text(label)}</span><strong>{figure}</strong><small>{below}</small></div>'
            for label, figure, below in items
        )
        + "</div>"
    )


def code(content: str) -> str:
    """Text as it is, in a box that scrolls."""
    return f"<pre><code>{text(content.rstrip())}</code></pre>"


def details(summary: str, content: str) -> str:
    """Something long, folded."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def percent(value: object) -> str:
    """A share as a percentage, a dash where there is none."""
    return f"{100 * value:.1f}%" if is_number(value) else "–"  # type: ignore[operator]


def probability(value: object) -> str:
    """A p-value."""
    if not is_number(value):
        return "–"
    return "&lt; .001" if value < 0.001 else f"{value:.3f}"  # type: ignore[operator]


def seconds(value: float) -> str:
    """A time in the unit that suits it.

    >>> seconds(4.21), seconds(90), seconds(9000)
    ('4.2 s', '1.5 min', '2.5 h')
    """
    for limit, unit in ((3600, "h"), (60, "min")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.1f} s"
