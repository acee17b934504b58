"""Chat: talk to any model of the session (chosen, merged, evolved) or of the Hub, token by token, until stopped."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, TaskError
from hubmerge.evaluate.generation import stream_chat
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.task import load_task

from .access import Token, visitor_token
from .guard import shows_errors
from .pick import Pick
from .state import PRODUCT, Page, owner_of, product_job, products
from .theme import html
from .wording import escape

LONGEST_MESSAGE = 20_000
"""Characters of one message; a longer one is refused rather than tokenised."""

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Chat:
    """The component that other tabs set."""

    model: gr.Dropdown


def chat_tab(page: Page, pick: Pick, tab: gr.Tab) -> Chat:
    """Builds the tab."""
    html('<p class="hm-lead">Ask the models you chose, and what became of them, the same thing.</p>')
    model = gr.Dropdown(
        _choices(page, "", page.examples.models, page.examples.base_model),
        value=None,
        allow_custom_value=True,
        label="Model",
        info="of this session, or any Hub ID",
        elem_id="hm-chat-model",
    )
    talk = gr.Chatbot(
        placeholder="### Ask something\nThe answer streams in as the model writes it.",
        height=420,
        layout="bubble",
        show_label=False,
        elem_id="hm-chat",
        buttons=["copy", "copy_all"],
        feedback_options=None,
        allow_tags=False,
    )
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
    def ask(text: str, talk: list[dict[str, Any]], model: str | None) -> tuple[str, list[dict[str, Any]]]:
        if not model:
            raise TaskError("Choose a model to talk to first.")
        if not text.strip():
            raise TaskError("Write a message first.")
        if len(text) > LONGEST_MESSAGE:
            raise TaskError(f"The message has {len(text):,} characters; at most {LONGEST_MESSAGE:,} are sent.")
        return "", [*talk, {"role": "user", "content": text}]

    @shows_errors
    def answer(
        talk: list[dict[str, Any]],
        model: str,
        system: str | None,
        temperature: float,
        length: float,
        key: str | None,
        request: gr.Request,
        oauth: gr.OAuthToken | None,
    ) -> Iterator[tuple[list[dict[str, Any]], gr.Textbox]]:
        # One answer a session: a new question ends the one that is still being written.
        session = request.session_hash or ""
        if session in stops:
            stops[session].set()
        stops[session] = halt = threading.Event()
        said = ""
        yield _with(talk, "…"), gr.Textbox(submit_btn=False, stop_btn=True)
        try:
            for piece in reply(
                page,
                owner_of(key, request),
                model,
                _messages(talk, system),
                visitor_token(page.settings, oauth),
                temperature=temperature,
                max_new_tokens=int(length),
                stop=halt,
            ):
                said += piece
                yield _with(talk, said), gr.skip()
            said = said or "(the model ended at once)"
        except HubmergeError as error:
            said = f"⚠️ {escape(str(error))}"
        finally:
            if stops.get(session) is halt:
                del stops[session]
        yield _with(talk, said), gr.Textbox(submit_btn=True, stop_btn=False)

    def halt(request: gr.Request) -> None:
        if running := stops.get(request.session_hash or ""):
            running.set()

    def choices(
        models: list[str] | None, base: str | None, now: str | None, key: str | None, request: gr.Request
    ) -> gr.Dropdown:
        listed = _choices(page, owner_of(key, request), models or (), base)
        values = [value for _, value in listed]
        return gr.Dropdown(choices=listed, value=now or (values[0] if values else None))

    def answered(event: Any) -> None:
        event.success(
            answer,
            [talk, model, system, temperature, length, page.owner],
            [talk, message],
            concurrency_limit=2,
            concurrency_id="chat",
            **_QUIET,
        )

    answered(message.submit(ask, [message, talk, model], [message, talk], **_QUIET))
    message.stop(halt, None, None, queue=False, **_QUIET)
    page.blocks.unload(halt)
    tab.select(choices, [pick.models, pick.base, model, page.owner], [model], **_QUIET)
    if page.examples.task:
        tab.select(lambda: gr.Chatbot(examples=_questions(page)), None, [talk], **_QUIET)
        answered(talk.example_select(_chosen, [talk], [message, talk], **_QUIET))
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
    stop: threading.Event | None = None,
) -> Iterator[str]:
    """The answer of `model` (a Hub ID or one of the owner's products) to a conversation, piece by piece."""
    if model.startswith(PRODUCT):
        folder = str(product_job(page.jobs, owner, model).result["folder"])
        network, tokenizer = page.loaded.get(folder, lambda: load_model(folder))
    else:
        # Opening checks this visitor's rights, also where the weights are in memory already.
        source = page.open(model, token)
        pinned = source.ref.pinned(source.commit)
        network, tokenizer = page.loaded.get(source.identity, lambda: load_model(pinned, token=token))
    yield from stream_chat(
        network, tokenizer, messages, max_new_tokens=max_new_tokens, temperature=temperature, stop=stop
    )


def _choices(page: Page, owner: str, models: Sequence[str], base: str | None) -> list[tuple[str, str]]:
    hub = [(name, name) for name in dict.fromkeys([*models, *([base] if base else [])])]
    return [*products(page.jobs, owner), *hub]


def _with(talk: Sequence[dict[str, Any]], said: str) -> list[dict[str, Any]]:
    return [*talk, {"role": "assistant", "content": said}]


def _messages(talk: Sequence[dict[str, Any]], system: str | None) -> list[dict[str, str]]:
    system = (system or "").strip()
    first = [{"role": "system", "content": system}] if system else []
    return first + [{"role": turn["role"], "content": _plain(turn["content"])} for turn in talk]


def _plain(content: Any) -> str:
    # gradio hands a message back as a list of parts.
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def _questions(page: Page) -> list[Any]:
    """Three problems of the examples' task to start with; none where it cannot be read."""
    try:
        task = load_task(page.examples.task)  # type: ignore[arg-type]
    except HubmergeError:
        return []
    return [{"text": example.prompt} for example in (task.test or task.search)[:3]]


def _chosen(talk: list[dict[str, Any]], event: gr.SelectData) -> tuple[str, list[dict[str, Any]]]:
    text = event.value["text"] if isinstance(event.value, dict) else str(event.value)
    return "", [*talk, {"role": "user", "content": text}]
