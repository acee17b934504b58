"""What the terminal shows, as a picture: SVG of its text, which a browser draws and a reader reads aloud."""

import os
from collections.abc import Callable
from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from .console import SafeConsole
from .errors import HubmergeError
from .files import write_file

_WIDTH = 120
# Dark on white: what is dim there is 40% of the way to white, and still has a contrast of 5.7.
_PAPER = TerminalTheme(
    (255, 255, 255),
    (0, 0, 0),
    [(0, 0, 0), (164, 14, 38), (17, 99, 41), (125, 78, 0), (5, 80, 174), (130, 80, 223), (27, 124, 131), (87, 96, 106)],
)
# The form of rich's own, without its fonts from elsewhere and its window, and with words for those who do not see it.
_FORM = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{width}} {{height}}" role="img" aria-labelledby="t d">
<title id="t">{title}</title>
<desc id="d">{text}</desc>
<style>
.{{unique_id}}-matrix {{{{ font: {{char_height}}px monospace; }}}}
{{styles}}
</style>
<defs>
<clipPath id="{{unique_id}}-clip-terminal"><rect x="0" y="0" width="{{terminal_width}}" height="{{terminal_height}}"/>
</clipPath>
{{lines}}
</defs>
<rect width="100%" height="100%" fill="#fff"/>
<g transform="translate({{terminal_x}}, 16)" aria-hidden="true" class="{{unique_id}}-matrix">
{{backgrounds}}
{{matrix}}
</g>
</svg>
"""


def drawn(show: Callable[[Console], None], title: str) -> str:
    """SVG of what `show` prints to the console that it is given: self-contained, its text in it as text."""
    page = SafeConsole(record=True, file=StringIO(), width=_WIDTH, force_terminal=False)
    show(page)
    text = page.export_text(clear=False).rstrip()
    form = _FORM.format(title=_plain(title), text=_plain(text))
    return page.export_svg(title="", theme=_PAPER, code_format=form, unique_id="hubmerge")


def write_drawn(path: Path, svg: str) -> None:
    """Writes such a picture. Raises `HubmergeError` where something else is in its place, which would be lost."""
    if os.path.lexists(path) and not (path.is_file() and path.read_bytes().startswith(_FORM[:40].encode())):
        raise HubmergeError(f"{path} is there already and is no drawing of hubmerge; move it away, or name another.")
    write_file(path, svg.encode())


def _plain(text: str) -> str:
    """Text for XML, and for a form that is filled in once more."""
    return escape(text).replace("{", "{{").replace("}", "}}")
