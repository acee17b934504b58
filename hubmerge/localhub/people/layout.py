"""The pages' templates: documents that load nothing from anywhere else, in which text of others is text."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from .markdown import render_markdown

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "form-action 'self'{}; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def count(number: int | None) -> str:
    """How many.

    >>> count(1234567)
    '1.23M'
    """
    if number is None:
        return ""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)


def size(number: int) -> str:
    """Bytes.

    >>> size(1_500_000)
    '1.5 MB'
    """
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number} bytes"


def when(date: str) -> str:
    """A commit's date, to the minute.

    >>> when("2026-01-02T03:04:05.000Z")
    '2026-01-02 03:04'
    """
    return date[:16].replace("T", " ")


def _markdown(text: str) -> Markup:
    return Markup(render_markdown(text, ""))


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_TEMPLATES.filters |= {"count": count, "size": size, "when": when, "markdown": _markdown}


def render(template: str, **values: Any) -> str:
    """A template of this room's `templates/` with these values: text is escaped, `Markup` is not."""
    return _TEMPLATES.get_template(f"{template}.html.jinja").render(values)


def page(
    request: Request, template: str, title: str, status: int = 200, sent_on_to: str = "", **values: Any
) -> Response:
    """A document of this template and with this title.

    Args:
        sent_on_to: the origin to which the answer to its form sends the browser, where that is another one.
    """
    identity = request.scope.get("identity")
    return HTMLResponse(
        render(template, title=title, status=status, user=identity.user if identity else None, **values),
        status,
        {**_HEADERS, "Content-Security-Policy": _POLICY.format(sent_on_to and f" {sent_on_to}")},
    )
