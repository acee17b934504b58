"""Chat: talk to any model of the session (chosen, merged, evolved) or of the Hub, token by token, until stopped."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, ResourceError, TaskError
from hubmerge.evaluate.generation import stream_chat
from hubmerge.evaluate.models import fetch, load_model
from hubmerge.evaluate.task import load_task
from hubmerge.hub import Source

from ..state import PRODUCT, Page, owner_of, product_job, products
from ..theme import html
from ..visitors.access import Token, visitor_token
from ..visitors.guard import shows_errors
from ..visitors.stranger import LONGEST_ANSWER
from ..wording import escape
from ..work.turns import Together
from .pick import Pick

LONGEST_MESSAGE = 20_000
"""Characters of one message or system prompt; a longer one is refused rather than tokenised."""
HOTTEST = 10.0
"""Temperature at most; the least beside 0 is a hundredth, below which the likeliest token is all that is left."""
PAUSE = 0.1
"""Seconds between two pieces of an answer that are sent: the browser goes over the whole page for each."""
WAITING = 48
"""SearchExamples of all people that are held at a time, two of them at work."""

Turns = list[dict[str, Any]]
"""A conversation as gradio keeps it."""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Chat:
    """The component that other tabs set."""

    model: gr.Dropdown


def chat_tab(page: Page, pick: Pick, tab: gr.Tab) -> Chat:
    """Builds the tab."""
    html('<p class="hm-lead">Ask the models you chose, and what became of them, the same thing.</p>')
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
    with gr.Accordion("Settings of the answer", open=False):
        with gr.Row():
            temperature = gr.Slider(
                0, 1.5, value=0, step=0.05, label="Temperature", info="0: the likeliest word each time"
            )
            length = gr.Slider(16, 1024, value=256, step=16, label="Longest answer", info="tokens")
        system = gr.Textbox(label="System prompt", lines=2, placeholder="none")
    stops: dict[str, threading.Event] = {}

    @shows_errors
    def ask(text: str, talk: Turns, beside: Turns, model: str | None) -> tuple[str, Turns, Turns]:
        if not model:
            raise TaskError("Choose a model to talk to first.")
        if not text.strip():
            raise TaskError("Write a message first.")
        _require_short([{"content": text}])
        said = {"role": "user", "content": text}
        return "", [*talk, said], [*beside, said]

    @shows_errors
    def answer(
        talk: Turns,
        beside: Turns,
        model: str,
        other: str | None,
        system: str | None,
        temperature: float,
        length: float,
        key: str | None,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
    ) -> Iterator[tuple[Any, Any, gr.Textbox]]:
        # One answer a session: a new question ends the one that is still being written.
        session = request.session_hash or ""
        if session in stops:
            stops[session].set()
        stops[session] = halt = threading.Event()
        owner, token = owner_of(key, request), visitor_token(page.settings, oauth)
        asked = [(model, talk), *([(other, beside)] if other else [])]

        person = owner.person or owner
        turn = Together(lambda: page.turns.of(person, halt))
        settings: dict[str, Any] = {
            "temperature": temperature,
            "max_new_tokens": int(length),
            "stop": halt,
            "turn": turn,
        }

        def speak(model: str, turns: Turns) -> Iterator[str]:
            said = ""
            try:
                pieces = reply(page, owner, model, _messages(turns, system), token, **settings)
                yield "…"  # ready: both are, before one of them takes the turn
                for piece in pieces:
                    said += piece
                    yield said
                yield said or "(the model ended at once)"
            except HubmergeError as error:
                yield f"⚠️ {escape(str(error))}"

        said = ["…"] * len(asked)

        def shown() -> tuple[Any, Any]:
            turns = [_with(turns, text) for (_, turns), text in zip(asked, said, strict=True)]
            return turns[0], turns[1] if other else beside

        yield *shown(), gr.Textbox(submit_btn=False, stop_btn=True)
        try:
            with page.turns.asking(person):
                # In turns, a piece of each, so that both are seen to write.
                speaking = dict(enumerate(speak(model, turns) for model, turns in asked))
                shown_at = -PAUSE
                while speaking:
                    for place in list(speaking):
                        text = next(speaking[place], None)
                        if text is None:
                            del speaking[place]
                        else:
                            said[place] = text
                    if time.monotonic() - shown_at >= PAUSE:
                        yield *shown(), gr.skip()
                        shown_at = time.monotonic()
        except ResourceError as error:
            said = [f"⚠️ {escape(str(error))}"] * len(asked)
        finally:
            if stops.get(session) is halt:
                del stops[session]
        yield *shown(), gr.Textbox(submit_btn=True, stop_btn=False)

    def halt(request: gr.Request) -> None:
        if running := stops.get(request.session_hash or ""):
            running.set()

    def choices(
        models: list[str] | None, base: str | None, now: str | None, key: str | None, request: gr.Request
    ) -> tuple[gr.Dropdown, gr.Dropdown]:
        listed = _choices(page, owner_of(key, request), models or (), base)
        values = [value for _, value in listed]
        return gr.Dropdown(choices=listed, value=now or (values[0] if values else None)), gr.Dropdown(choices=listed)

    def answered(event: Any) -> None:
        event.success(
            answer,
            [talk, beside, model, other, system, temperature, length, page.owner],
            [talk, beside, message],
            concurrency_limit=WAITING,
            concurrency_id="chat",
            **_QUIET,
        )

    answered(message.submit(ask, [message, talk, beside, model], [message, talk, beside], **_QUIET))
    message.stop(halt, None, None, queue=False, **_QUIET)
    page.blocks.unload(halt)
    tab.select(choices, [pick.models, pick.base, model, page.owner], [model, other], **_QUIET)
    # A conversation that the second model was not part of means nothing to it.
    other.change(lambda name: gr.Chatbot([], visible=bool(name)), [other], [beside], **_QUIET)
    if page.examples.task or page.examples.prompts:
        if not page.examples.prompts:  # before the tab is opened: reading a task takes a while
            page.ready.then(lambda: gr.Chatbot(examples=_questions(page)), None, [talk], **_QUIET)
        answered(talk.example_select(_chosen, [talk, beside], [message, talk, beside], **_QUIET))
    return Chat(model)


def reply(
    page: Page,
    owner: str,
    model: str,
    messages: Sequence[dict[str, str]],
    token: Token,
    *,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    turn: AbstractContextManager[None],
    stop: threading.Event | None = None,
) -> Iterator[str]:
    """The answer of `model` (a Hub ID or one of the owner's products) to a conversation, piece by piece.

    `turn` is held while it loads and while it writes; not while the Hub is waited for, or what a repository brought
    makes the prompt.
    """
    _require_short([message for message in messages if message["role"] != "assistant"])
    if not 1 <= max_new_tokens <= LONGEST_ANSWER:
        raise TaskError(f"An answer may have 1 to {LONGEST_ANSWER:,} tokens, not {max_new_tokens:,}.")
    if not (temperature == 0 or 0.01 <= temperature <= HOTTEST):
        raise TaskError(f"The temperature must be 0, or from 0.01 to {HOTTEST:g}, not {temperature:g}.")
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "stop": stop}
    if model.startswith(PRODUCT):
        opened: Source | str = str(product_job(page.jobs, owner, model).result["folder"])
    else:
        # Opening checks this visitor's rights, also where the weights are in memory already.
        opened = page.open(model, token)
        page.settings.limits.require_model(opened)
    if not isinstance(opened, str):
        fetch(opened)
    if page.gpu is not None:
        return _within(turn, page.gpu.speak(opened, token, messages, **settings))
    key = opened if isinstance(opened, str) else opened.identity
    with turn:
        network, tokenizer = page.loaded.get(key, lambda: load_model(opened, token=token))
    return stream_chat(network, tokenizer, messages, turn=turn, **settings)


def _within(turn: AbstractContextManager[None], pieces: Iterator[str]) -> Iterator[str]:
    with turn:
        yield from pieces


def _choices(page: Page, owner: str, models: Sequence[str], base: str | None) -> list[tuple[str, str]]:
    hub = [(name, name) for name in dict.fromkeys([*models, *([base] if base else [])])]
    return [*products(page.jobs, owner), *hub]


def _require_short(messages: Sequence[Mapping[str, str]]) -> None:
    longest = max((len(message["content"]) for message in messages), default=0)
    if longest > LONGEST_MESSAGE:
        raise TaskError(f"The message has {longest:,} characters; at most {LONGEST_MESSAGE:,} are sent.")


def _with(talk: Turns, said: str) -> Turns:
    return [*talk, {"role": "assistant", "content": said}]


def _messages(talk: Sequence[dict[str, Any]], system: str | None) -> list[dict[str, str]]:
    system = (system or "").strip()
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": str(turn.get("role")), "content": _plain(turn.get("content"))} for turn in talk]


def _plain(content: Any) -> str:
    # gradio hands a message back as a list of parts.
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


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
