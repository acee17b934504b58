"""The prompt box of models that draw: prompts, seeds, steps, and a gallery of what each model made of the same."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from hubmerge.errors import TaskError

from ..forms.filled import as_number, filled, names
from ..state import Page, owner_of
from ..theme import html, optional_number
from ..views.parts import note
from ..visitors.access import visitor_token
from ..visitors.guard import shows_errors
from .answer import WAITING
from .drawing import (
    MOST_STEPS,
    STRANGERS_STEPS,
    Wish,
    asked,
    drawings,
    draws,
    models_of,
    paced,
)
from .pick import Pick

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_OPTIONAL = {"side": "The side of a picture", "guidance": "Guidance"}
_PAUSE = 0.5
"""Seconds between two looks at what is drawn that are sent."""
_NOTHING = "The pictures appear here: a row a model, the same prompts and seeds for each."


def prompt_box(page: Page, pick: Pick, words: gr.Column, model: gr.Dropdown, other: gr.Dropdown) -> None:
    """Builds the box, which takes the place of `words` while `model` is one that draws."""
    on_space = page.settings.on_space
    with gr.Column(visible=False, elem_id="hm-draw") as box, gr.Row():
        with gr.Column(scale=5, min_width=300):
            prompts = gr.Textbox(
                label="Prompts",
                info="one a line",
                lines=3,
                max_lines=8,
                placeholder="a torii at night",
                elem_id="hm-prompt",
            )
            with gr.Row():
                seeds = gr.Textbox(
                    "1", label="Seeds", info="each prompt with each", min_width=120, elem_id="hm-draw-seeds"
                )
                steps = gr.Slider(
                    1,
                    STRANGERS_STEPS if on_space else MOST_STEPS,
                    value=20,
                    step=1,
                    label="Steps",
                    min_width=160,
                    elem_id="hm-draw-steps",
                )
            sources = gr.Checkbox(
                False,
                label="Beside its sources",
                info="those that it was made of, or that you chose, draw the same",
                elem_id="hm-draw-sources",
            )
            with gr.Accordion("Settings of the pictures", open=False):
                with gr.Row():
                    side = optional_number("Side, pixels", elem_id="hm-draw-side")
                    guidance = optional_number("Guidance", elem_id="hm-draw-guidance")
                negative = gr.Textbox(label="What it is not to show", placeholder="nothing")
            with gr.Row():
                go = gr.Button("Draw", variant="primary", min_width=120, elem_id="hm-draw-button")
                stop = gr.Button("Stop", min_width=120, visible=False, elem_id="hm-draw-stop")
        with gr.Column(scale=7, min_width=300):
            said = html(note(_NOTHING, "empty"), elem_id="hm-draw-said")
            gallery = gr.Gallery(
                show_label=False,
                visible=False,
                columns=2,
                height="auto",
                object_fit="contain",
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                elem_id="hm-gallery",
            )
    halts: dict[str, threading.Event] = {}

    @shows_errors
    def turn(model: str | None, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> tuple[Any, Any]:
        drawing = draws(page, owner_of(key, request), model, visitor_token(page.settings, oauth))
        return gr.Column(visible=not drawing), gr.Column(visible=drawing)

    # Not "draw": gradio names what has no name of its own by its function, and that one is the endpoint's.
    @shows_errors
    def draw_all(
        chosen: list[str] | None,
        base: str | None,
        key: str | None,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
        *values: Any,
    ) -> Iterator[tuple[Any, ...]]:
        typed = zip(names(Wish), values, strict=False)
        given = [_number(value, _OPTIONAL[name]) if name in _OPTIONAL else value for name, value in typed]
        wish, session = filled(Wish, given), request.session_hash or ""
        owner, token = owner_of(key, request), visitor_token(page.settings, oauth)
        wanted = asked(wish, on_space)
        models = models_of(page, owner, wish, [*(chosen or []), *([base] if base else [])])
        # One drawing a session: a new one ends the one before.
        if session in halts:
            halts[session].set()
        halts[session] = halt = threading.Event()
        columns, shown = len(wanted.prompts) * len(wanted.seeds), 0
        yield (
            gr.Gallery([], visible=True, columns=columns),
            gr.skip(),
            gr.Button(visible=False),
            gr.Button(visible=True),
        )
        try:
            with closing(drawings(page, owner, models, wanted, token, halt)) as pieces:
                line = ""
                for made, line in paced(pieces, _PAUSE):
                    if halts.get(session) is not halt:
                        return  # what is shown is the new one's now
                    pictures = gr.skip() if len(made) == shown else [(one.picture, one.caption) for one in made]
                    shown = len(made)
                    yield pictures, _said(line), gr.skip(), gr.skip()
        finally:
            if halts.get(session) is halt:
                del halts[session]
        yield gr.skip(), gr.skip(), gr.Button(visible=True), gr.Button(visible=False)

    def halt(request: gr.Request) -> None:
        if running := halts.get(request.session_hash or ""):
            running.set()

    model.change(turn, [model, page.owner], [words, box], **_QUIET)
    fields = {
        "model": model,
        "other": other,
        "prompts": prompts,
        "negative": negative,
        "seeds": seeds,
        "steps": steps,
        "side": side,
        "guidance": guidance,
        "sources": sources,
    }
    outputs = [gallery, said, go, stop]
    event = go.click(
        draw_all,
        [pick.models, pick.base, page.owner, *(fields[name] for name in names(Wish))],
        outputs,
        concurrency_limit=WAITING,
        concurrency_id="chat",
        trigger_mode="multiple",
        **_QUIET,
    )
    event.failure(lambda: (gr.Button(visible=True), gr.Button(visible=False)), None, [go, stop], **_QUIET)
    stop.click(halt, None, None, queue=False, **_QUIET)
    page.blocks.unload(halt)


def _number(text: Any, what: str) -> float | None:
    value = as_number(text) if isinstance(text, str) else text
    if isinstance(value, str):
        raise TaskError(f"{what} must be a number, or nothing for the pipeline's own, got {value[:40]!r}.")
    return value


def _said(line: str) -> str:
    return "".join(str(note(one, "quiet", tag="p")) for one in line.splitlines())
