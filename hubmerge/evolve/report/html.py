"""The templates of the page, and figures and names as it shows them."""

from pathlib import Path

from ...markup import Markup, Templates, clean
from .canvas import is_number

render = Templates(Path(__file__).parent / "templates").render
"""A template of this room's `templates/`. The page is XML too, so a test can read it strictly."""


def name(value: object) -> Markup:
    """A name from outside, kept from turning the direction of the text around it."""
    return Markup("<bdi>{}</bdi>").format(clean(value))


def percent(value: object) -> str:
    """A share as a percentage, a dash where there is none."""
    return f"{100 * value:.1f}%" if is_number(value) else "–"  # type: ignore[operator]


def probability(value: object) -> str:
    """A p-value."""
    if not is_number(value):
        return "–"
    return "< .001" if value < 0.001 else f"{value:.3f}"  # type: ignore[operator]


def seconds(value: float) -> str:
    """A time in the unit that suits it.

    >>> seconds(4.21), seconds(90), seconds(9000)
    ('4.2 s', '1.5 min', '2.5 h')
    """
    for limit, unit in ((3600, "h"), (60, "min")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.1f} s"
