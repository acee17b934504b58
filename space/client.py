"""What runs in the visitor's browser, so that no answer that comes late takes back what a person does meanwhile."""

from typing import Any

import gradio as gr
from gradio.components import Component

CLOSE_LIST = "() => document.activeElement?.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))"
"""Closes the list of choices that is open."""
GROWING = "hm-growing"
"""The class of a box of one choice whose list grows while a person types."""
HEAD = f"""<script>
(() => {{
    const rule = document.head.appendChild(document.createElement('style'))
    const hide = ({{type, target}}) => {{
        const box = target.closest?.('.{GROWING}'), typed = box && type === 'input' && target.value
        rule.textContent = typed
            ? `#${{box.id}} [role=option]:not([aria-label*="${{CSS.escape(typed)}}" i]) {{ display: none }}` : ''
    }}
    for (const type of ['focusin', 'input']) document.addEventListener(type, hide)
}})()
</script>"""
"""Hides what does not fit what is typed into a growing box. gradio shows the whole list when a choice is added, until
the next key: what a person is about to click would make room for another choice."""
KEEP = """(told, ...now) => {
    const text = (value) => JSON.stringify(value?.length ? value : null)
    return now.map((value, place) => {
        const [then, other] = told?.[place] ?? []
        return text(then) === text(value) && text(other) !== text(value) ? other : {__type__: 'update'}
    })
}"""
"""What each box is to hold: what is told of it, where it is as it was found, and else what it holds."""


class Proposals:
    """What a handler has to say about `boxes` while a person may pick something else in them, which then stays.

    The handler has `told` among its outputs, for which it returns `proposed(...)`; `enter` sets the boxes after it.
    """

    def __init__(self, *boxes: Component) -> None:
        self.boxes = boxes
        self.told = gr.JSON(visible="hidden")

    def enter(self, event: Any) -> Any:
        """The event that follows `event`, and sets each box that is as the handler found it."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        return event.success(None, [self.told, *self.boxes], [*self.boxes], js=KEEP, **quiet)


def proposed(*boxes: tuple[Any, Any]) -> list[list[Any]]:
    """For each box what the handler found in it, and what is to stand there."""
    return [list(box) for box in boxes]
