"""Where the command line writes: consoles that nobody's text steers, and logs that people can read."""

from __future__ import annotations

import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from .text import printable, sentences


class SafeConsole(Console):
    """Shows the names and answers of strangers without being steered by them: what is not a character is spelled out.

    Rich's own codes (colours, a bar that is drawn again) are no text, and stay. A plain string is text alone: nothing
    in it is markup, an emoji or a number to be coloured. What has styles is made by `marked`.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                text = "\n".join(map(printable, segment.text.split("\n")))
                segment = Segment(text, segment.style)
            yield segment


class Wide:
    """Something that is drawn in as many columns, also where the terminal has less."""

    def __init__(self, drawn: RenderableType, columns: int) -> None:
        self.drawn, self.columns = drawn, columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield from console.render(self.drawn, options.update(width=max(options.max_width, self.columns)))


def marked(template: str, *values: object) -> Text:
    """`template` in rich's markup, with `values` as they are in the place of each {}.

    >>> marked("[bold]{}[/]: {}", "[red]", ":fire:").plain
    '[red]: :fire:'
    """
    text = Text.from_markup(template, emoji=False)
    holes = [at for hole in re.finditer("{}", text.plain) for at in hole.span()]
    made, left = Text(), iter(values)
    for at, piece in enumerate(text.divide(holes)):
        if at % 2:
            value = str(next(left))
            piece = Text(value, spans=[Span(0, len(value), span.style) for span in piece.spans])
        made.append_text(piece)
    return made


out = SafeConsole()
err = SafeConsole(stderr=True)


class _Record(logging.LogRecord):
    """What libraries log of a stranger's settings is shown as an error would be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0] is not None:  # a handler would take the error's own words
            self.exc_text = sentences(logging.Formatter().formatException(self.exc_info))

    def getMessage(self) -> str:
        return sentences(super().getMessage())


def _formatted_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    # Where in a library it comes from tells people nothing.
    return f"warning: {sentences(' '.join(str(message).split()))}\n"


def _tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(sentences("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def clean_logs() -> None:
    """From now on whatever this process logs, warns of or breaks at steers no terminal, holds no token, and has lines
    that people can read."""
    logging.setLogRecordFactory(_Record)
    warnings.formatwarning = _formatted_warning
    sys.excepthook = _tell_bug


class _Cleaned:
    """A stream to which nothing of strangers is written as it is."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(sentences(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def clean_output() -> None:
    """As `clean_logs`, of all that is printed: for a process that draws nothing on a terminal and serves strangers."""
    clean_logs()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Cleaned):
            setattr(sys, name, _Cleaned(stream))
