"""How a handler's error reaches the person: one sentence on the page, never a traceback."""

import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError

from .wording import escape


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

    A generator stays one.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streamed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _told(html):
                yield from handler(*args, **kwargs)

        return streamed

    @functools.wraps(handler)
    def answered(*args: Any, **kwargs: Any) -> Any:
        with _told(html):
            return handler(*args, **kwargs)

    return answered
