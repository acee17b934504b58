"""How a handler's error reaches the person: one sentence on the page, never a traceback."""

import functools
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import gradio as gr

from hubmerge.errors import HubmergeError

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character: JSON can say it, no file and no address can."""
_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@contextmanager
def _told(html: bool) -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except HubmergeError as error:
        said = escape(str(error)) if html else str(error)
        raise gr.Error(said, title="That did not work", duration=15, print_exception=False) from None
    except Exception as error:
        # A bug of ours: the log gets the traceback, the person a sentence.
        traceback.print_exc()
        said = f"Something went wrong inside hubmerge ({type(error).__name__}); please report it."
        raise gr.Error(said, title="That did not work", print_exception=False) from None


def shows_errors(handler: Callable[..., Any], *, html: bool = True) -> Callable[..., Any]:
    """`handler`, with hubmerge's errors shown as gradio shows errors: as HTML on the page, plain to a program.

    What a program sends need not be what the page's own controls send: arguments are held against the annotations.
    A generator stays one.
    """
    if hasattr(handler, "shows_errors"):
        return handler
    made = _guarded(handler, html)
    made.shows_errors = True  # type: ignore[attr-defined]
    return made


def _guarded(handler: Callable[..., Any], html: bool) -> Callable[..., Any]:
    kinds = _annotations(handler)
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streamed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _told(html):
                require_types(kinds, args, kwargs)
                yield from handler(*args, **kwargs)

        return streamed

    @functools.wraps(handler)
    def answered(*args: Any, **kwargs: Any) -> Any:
        with _told(html):
            require_types(kinds, args, kwargs)
            return handler(*args, **kwargs)

    return answered


def _annotations(handler: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each parameter, in order; `Any` for those without."""
    try:
        hints = get_type_hints(handler)
        return {
            name: hints.get(name, Any) for name, p in inspect.signature(handler).parameters.items() if p.kind in _PLAIN
        }
    except (NameError, TypeError, ValueError):
        return {}


def require_types(kinds: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any] = {}) -> None:
    """Raises `HubmergeError` for a value that is not of the type that `kinds` has for it, in this order or by name."""
    for (name, kind), value in [
        *zip(kinds.items(), args, strict=False),
        *(((n, kinds.get(n, Any)), v) for n, v in kwargs.items()),
    ]:
        if not _fits(value, kind):
            raise HubmergeError(f"`{name}` must be {_said(kind)}, and {_came(value)} came.")


def _came(value: Any) -> str:
    if isinstance(value, str) and _HALF.search(value):
        return "text with half a character"
    if type(value) is int and abs(value) >= 2**63:
        return f"a number of {len(str(abs(value)))} digits"
    return str(value) if type(value) in (int, float) else type(value).__name__


def _fits(value: Any, kind: Any) -> bool:
    parts = get_args(kind)
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return any(_fits(value, part) for part in parts)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    if kind is float:
        return type(value) in (int, float) and abs(value) < 1e300  # neither infinity nor NaN is
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    if kind is str:
        return isinstance(value, str) and not _HALF.search(value)  # an upload is a text with a name
    if kind in (bool, type(None)):
        return type(value) is kind
    return True


def _said(kind: Any) -> str:
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return " or ".join(_said(part) for part in get_args(kind))
    names = {str: "text", float: "a number", int: "a whole number", bool: "true or false", type(None): "empty"}
    return names.get(kind, "a list" if get_origin(kind) is list else "something else")
