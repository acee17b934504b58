"""The tables that gradio keeps of a page, one copy a visitor: what is on it, and what its events do.

gradio goes through them while another thread of the same visitor adds to them - two drawings of the form at once, or a
program's call beside a browser's - and Python ends that with "dictionary changed size during iteration".
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr


class Steady(dict[Any, Any]):
    """A dict that is gone through as it was when that began.

    >>> table = Steady(a=1)
    >>> for name in table:
    ...     table[name * 2] = 2
    >>> table.values()
    [1, 2]
    """

    # A list of a dict's own view is made in one step: no other thread runs meanwhile.
    def __iter__(self) -> Iterator[Any]:
        return iter(list(super().keys()))

    def keys(self) -> Any:
        """Those of now."""
        return list(super().keys())

    def values(self) -> Any:
        """Those of now."""
        return list(super().values())

    def items(self) -> Any:
        """Those of now."""
        return list(super().items())

    def __copy__(self) -> "Steady":
        return Steady(self.items())


def steady(blocks: gr.Blocks) -> None:
    """Gives a page, and so each visitor's copy of it, such tables; called when it is built."""
    config = blocks.default_config
    config.blocks, config.fns = Steady(config.blocks), Steady(config.fns)
