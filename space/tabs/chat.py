"""Chat: talk to any model of the session (chosen, merged, evolved) or of the Hub, token by token, until stopped; a
model that draws has a prompt box instead."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, TaskError
from hubmerge.evaluate.task import load_task

from ..client import Proposals, proposed
from ..forms.filled import filled, names
from ..state import Page, owner_of, products
from ..theme import html
from ..views.parts import lead
from ..visitors.access import visitor_token
from ..visitors.guard import shows_errors
from .answer import WAITING, Question, Turns, answers, require_short
from .pick import Pick
from .prompts import prompt_box

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Chat:
    """The component that other tabs set."""

    model: gr.Dropdown


@dataclass(frozen=True)
class _Talk:
    """The tab's components: all that is about words, what is typed, and one for each field of a `Question`."""

    box: gr.Column
    message: gr.Textbox
    talk: gr.Chatbot
    beside: gr.Chatbot
    model: gr.Dropdown
    other: gr.Dropdown
    system: gr.Textbox
    temperature: gr.Slider
    length: gr.Slider
    picture: gr.File


def chat_tab(page: Page, pick: Pick, tab: gr.Tab) -> Chat:
    """Builds the tab."""
    html(lead("Ask the models you chose, and what became of them, the same thing."))
    ui = _components(page)
    _answer(page, ui)

    def choices(
        models: list[str] | None, base: str | None, now: str | None, key: str | None, request: gr.Request
    ) -> Sequence[Any]:
        listed = _choices(page, owner_of(key, request), models or (), base)
        values = [value for _, value in listed]
        told = proposed((now, now or (values[0] if values else None)))
        return gr.Dropdown(choices=listed), gr.Dropdown(choices=listed), told

    prompt_box(page, pick, ui.box, ui.model, ui.other)
    first = Proposals(ui.model)
    inputs = [pick.models, pick.base, ui.model, page.owner]
    first.enter(tab.select(choices, inputs, [ui.model, ui.other, first.told], **_QUIET))
    # A conversation that the second model was not part of means nothing to it.
    ui.other.change(lambda name: gr.Chatbot([], visible=bool(name)), [ui.other], [ui.beside], **_QUIET)
    return Chat(ui.model)


def _components(page: Page) -> _Talk:
    known = _choices(page, "", page.examples.models, page.examples.base_model)
    with gr.Row():
        model = gr.Dropdown(
            known,
            value=None,
            allow_custom_value=True,
            label="Model",
            info="of this session, or any Hub ID",
            min_width=280,
            elem_id="hm-chat-model",
        )
        other = gr.Dropdown(
            known,
            value=None,
            allow_custom_value=True,
            label="Beside it",
            info="a second model that is asked the same; leave it empty for one",
            min_width=280,
            elem_id="hm-chat-other",
        )
    with gr.Column() as box:
        with gr.Row():
            talk = _chatbot("hm-chat", True, _questions(page) if page.examples.prompts else None)
            beside = _chatbot("hm-chat-beside", False)
        message = gr.Textbox(
            placeholder="Your message",
            show_label=False,
            label="Message",
            submit_btn=True,
            max_lines=6,
            elem_id="hm-message",
        )
        with gr.Accordion("A picture to ask about", open=False, visible=page.gpu is None):
            picture = gr.File(
                file_types=[".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"],
                label="A picture, for models that see; while it is here, each question is about it alone",
                height=110,
                elem_id="hm-chat-picture",
            )
        with gr.Accordion("Settings of the answer", open=False):
            with gr.Row():
                temperature = gr.Slider(
                    0, 1.5, value=0, step=0.05, label="Temperature", info="0: the likeliest word each time"
                )
                length = gr.Slider(16, 1024, value=256, step=16, label="Longest answer", info="tokens")
            system = gr.Textbox(label="System prompt", lines=2, placeholder="none")
    return _Talk(box, message, talk, beside, model, other, system, temperature, length, picture)


def _answer(page: Page, ui: _Talk) -> None:
    """A message, or one of the examples, is answered; a new one, the stop button and leaving end an answer."""
    stops: dict[str, threading.Event] = {}

    @shows_errors
    def ask(text: str, talk: Turns, beside: Turns, model: str | None) -> tuple[str, Turns, Turns]:
        if not model:
            raise TaskError("Choose a model to talk to first.")
        if not text.strip():
            raise TaskError("Write a message first.")
        require_short([{"content": text}])
        said = {"role": "user", "content": text}
        return "", [*talk, said], [*beside, said]

    @shows_errors
    def answer(
        key: str | None, request: gr.Request, oauth: gr.OAuthToken | None, *values: Any
    ) -> Iterator[tuple[Any, Any, gr.Textbox]]:
        question, session = filled(Question, values), request.session_hash or ""
        # One answer a session: a new question ends the one that is still being written.
        if session in stops:
            stops[session].set()
        stops[session] = halt = threading.Event()
        owner, token = owner_of(key, request), visitor_token(page.settings, oauth)
        yield *question.with_answers(["…"] * len(question.asked)), gr.Textbox(submit_btn=False, stop_btn=True)
        try:
            with closing(answers(page, owner, question, token, halt)) as pieces:
                for said in pieces:
                    if stops.get(session) is not halt:
                        return  # what is shown is the new question's now
                    yield *question.with_answers(said), gr.skip()
            yield gr.skip(), gr.skip(), gr.Textbox(submit_btn=True, stop_btn=False)
        finally:
            if stops.get(session) is halt:
                del stops[session]

    def halt(request: gr.Request) -> None:
        if running := stops.get(request.session_hash or ""):
            running.set()

    def answered(event: Any) -> None:
        event.success(
            answer,
            [page.owner, *(getattr(ui, name) for name in names(Question))],
            [ui.talk, ui.beside, ui.message],
            concurrency_limit=WAITING,
            concurrency_id="chat",
            trigger_mode="multiple",  # while an answer is being written as well
            **_QUIET,
        )

    shown = [ui.message, ui.talk, ui.beside]
    answered(ui.message.submit(ask, [ui.message, ui.talk, ui.beside, ui.model], shown, **_QUIET))
    ui.message.stop(halt, None, None, queue=False, **_QUIET)
    page.blocks.unload(halt)
    if page.examples.task or page.examples.prompts:
        if not page.examples.prompts:  # before the tab is opened: reading a task takes a while
            page.ready.then(lambda: gr.Chatbot(examples=_questions(page)), None, [ui.talk], **_QUIET)
        answered(ui.talk.example_select(_chosen, [ui.talk, ui.beside], shown, **_QUIET))


def _choices(page: Page, owner: str, models: Sequence[str], base: str | None) -> list[tuple[str, str]]:
    hub = [(name, name) for name in dict.fromkeys([*models, *([base] if base else [])])]
    return [*products(page.jobs, owner, answering=True), *hub]


def _questions(page: Page) -> list[Any]:
    """What to start with: the page's own prompts, else three problems of its task; none where that cannot be read."""
    if page.examples.prompts:
        return [{"text": prompt} for prompt in page.examples.prompts]
    try:
        task = load_task(page.examples.task)  # type: ignore[arg-type]
    except HubmergeError:
        return []
    return [{"text": example.prompt} for example in (task.test or task.search)[:3]]


def _chosen(talk: Turns, beside: Turns, event: gr.SelectData) -> tuple[str, Turns, Turns]:
    text = event.value["text"] if isinstance(event.value, dict) else str(event.value)
    said = {"role": "user", "content": text}
    return "", [*talk, said], [*beside, said]


def _chatbot(elem_id: str, visible: bool, examples: list[Any] | None = None) -> gr.Chatbot:
    return gr.Chatbot(
        examples=examples,
        placeholder="### Ask something\nThe answer streams in as the model writes it.",
        height=420,
        layout="bubble",
        show_label=False,
        visible=visible,
        min_width=280,
        elem_id=elem_id,
        buttons=["copy", "copy_all"],
        feedback_options=None,
        allow_tags=False,
    )
