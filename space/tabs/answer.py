"""The answers of one or two models to a question, token by token, in the turn of whoever asked."""

import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from hubmerge.amounts import size
from hubmerge.errors import HubmergeError, Interrupted, ResourceError, TaskError
from hubmerge.evaluate.examples import Example
from hubmerge.evaluate.generation import stream_chat
from hubmerge.evaluate.models import fetch, load_model, load_processor
from hubmerge.evaluate.pictures import MOST_PIXELS, Picture, pixels_of
from hubmerge.evaluate.seeing import stream_answer
from hubmerge.hub import Source, open_source
from hubmerge.hub.patience import stoppable
from hubmerge.progress import Event
from hubmerge.reference import ModelRef
from hubmerge.stream.carried import Carried

from ..state import PRODUCT, Owner, Page, product_job
from ..visitors.access import Token
from ..visitors.stranger import LONGEST_ANSWER
from ..work.turns import Together
from ..work.zero_gpu import fetched

LONGEST_MESSAGE = 20_000
"""Characters of one message or system prompt; a longer one is refused rather than tokenised."""
HOTTEST = 10.0
"""Temperature at most; the least beside 0 is a hundredth, below which the likeliest token is all that is left."""
PAUSE = 0.1
"""Seconds between two pieces of an answer that are sent: the browser goes over the whole page for each."""
STRANGERS_PIXELS = 16_000_000
"""Of a picture that a stranger shows to a model."""
MOST_NUMBERS = 2**22
"""That a stranger's model may make of a picture: some 1,180 by 1,180 pixels."""
LOOKING_SECONDS = 60.0
"""For trying what it makes of it."""
WAITING = 48
"""Questions of all people that are held at a time, two of them at work."""

Turns = list[dict[str, Any]]
"""A conversation as gradio keeps it."""


@dataclass(frozen=True)
class Question:
    """What the Chat tab says, a field for each of its components; the last turn of `talk` and `beside` is the question.

    `other`: a second model, that goes on with the conversation `beside`. `length`: tokens of the longest answer.
    `picture`: a file with one, which the question is about, and then what was said before is not.
    """

    talk: Turns
    beside: Turns
    model: str
    other: str | None
    system: str | None
    temperature: float
    length: float
    picture: str | None

    @property
    def asked(self) -> list[tuple[str, Turns]]:
        """Each model and what is said to it."""
        return [(self.model, self.talk), *([(self.other, self.beside)] if self.other else [])]

    def with_answers(self, said: Sequence[str]) -> tuple[Turns, Turns]:
        """Both conversations as they are shown while these are the answers."""
        turns = [
            [*talk, {"role": "assistant", "content": text}] for (_, talk), text in zip(self.asked, said, strict=True)
        ]
        return turns[0], turns[1] if self.other else self.beside


def answers(
    page: Page, owner: Owner, question: Question, token: Token, halt: threading.Event
) -> Generator[list[str], None, None]:
    """What each model has said so far, until all is said or `halt` is set."""
    person = owner.person or owner
    answer: dict[str, Any] = {
        "temperature": question.temperature,
        "max_new_tokens": int(question.length),
        "picture": Path(question.picture) if question.picture else None,
    }
    settings: dict[str, Any] = {"stop": halt, "turn": Together(lambda: page.turns.of(person, halt))}

    def speak(model: str, turns: Turns) -> Iterator[str]:
        said, messages = "", _messages(turns, question.system)
        try:
            _require_fair(page, messages, **answer)
            asked: str | Source = model
            if not model.startswith(PRODUCT):
                asked = _opened(page, model, token)
                yield from _coming(asked, halt)
            pieces = reply(page, owner, asked, messages, token, **answer, **settings)
            yield "…"  # ready: both are, before one of them takes the turn
            for piece in pieces:
                said += piece
                yield said
            yield said or "(the model ended at once)"
        except HubmergeError as error:
            yield f"⚠️ {escape(str(error))}"

    said = ["…"] * len(question.asked)
    try:
        with page.turns.asking(person):
            # In turns, a piece of each, so that both are seen to write.
            speaking = dict(enumerate(speak(model, turns) for model, turns in question.asked))
            shown_at = -PAUSE
            while speaking:
                for place in list(speaking):
                    text = next(speaking[place], None)
                    if text is None:
                        del speaking[place]
                    else:
                        said[place] = text
                if time.monotonic() - shown_at >= PAUSE:
                    yield said
                    shown_at = time.monotonic()
    except ResourceError as error:
        said = [f"⚠️ {escape(str(error))}"] * len(said)
    yield said


def _opened(page: Page, model: str, token: Token) -> Source:
    """A model of the Hub: this visitor's rights are checked also where its weights are in memory already."""
    source = page.open(model, token)
    page.settings.limits.require_model(source)
    return source


def _coming(source: Source, halt: threading.Event) -> Iterator[str]:
    """Brings all of a model onto this machine; meanwhile, how much of it is here. `halt`, or leaving, ends that."""
    newest, left = [Event("fetch", 0, 0)], threading.Event()

    def check() -> None:
        if halt.is_set() or left.is_set():
            raise Interrupted("The question was taken back while its model was fetched.")

    def work() -> None:
        with stoppable(check):
            fetch(source, lambda event: newest.__setitem__(0, event))

    with ThreadPoolExecutor(1, "hubmerge-fetch") as pool:
        try:
            done = pool.submit(copy_context().run, work)
            while wait([done], PAUSE).not_done:
                if (event := newest[0]).total:
                    yield f"… {size(event.done)} of {size(event.total)} fetched"
            done.result()
        finally:
            left.set()


def reply(
    page: Page,
    owner: str,
    model: str | Source,
    messages: Sequence[dict[str, str]],
    token: Token,
    *,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    turn: AbstractContextManager[None],
    stop: threading.Event | None = None,
    picture: Path | None = None,
) -> Iterator[str]:
    """The answer of `model` (a Hub ID, opened or not, or one of the owner's products) to a conversation, piece by
    piece; where there is a `picture`, to its last message alone, which is about that.

    `turn` is held while it loads and while it writes; not while the Hub is waited for, or what a repository brought
    makes the prompt.
    """
    _require_fair(page, messages, temperature, max_new_tokens, picture)
    seen = None if picture is None else _picture(picture, STRANGERS_PIXELS if page.settings.on_space else MOST_PIXELS)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "stop": stop}
    if isinstance(model, str) and model.startswith(PRODUCT):
        opened: Source | str = str(product_job(page.jobs, owner, model).result["folder"])
    else:
        opened = _opened(page, model, token) if isinstance(model, str) else model
        fetch(opened)
    if picture is not None and page.settings.on_space:
        with turn:
            _require_small(page, opened, picture, messages[-1]["content"], stop or threading.Event())
    if page.gpu is not None:
        return _within(turn, page.gpu.speak(opened, token, messages, **settings))
    key = opened if isinstance(opened, str) else opened.identity
    with turn:
        memory = page.settings.limits.memory
        network, tokenizer = page.loaded.get(key, lambda: load_model(opened, token=token, memory=memory))
    if seen is not None:
        source = open_source(ModelRef(opened)) if isinstance(opened, str) else opened
        system = next((one["content"] for one in messages if one["role"] == "system"), None)
        question = Example(messages[-1]["content"], "", where=seen.where.file.name, image=seen)
        processor = load_processor(Carried(source))
        return _within(turn, stream_answer(network, processor, question, system=system, memory=memory, **settings))
    return stream_chat(network, tokenizer, messages, turn=turn, memory=memory, **settings)


def _require_fair(
    page: Page,
    messages: Sequence[Mapping[str, str]],
    temperature: float,
    max_new_tokens: int,
    picture: Path | None,
) -> None:
    """Raises `TaskError` for a question that is not answered, whichever model it is put to."""
    require_short([message for message in messages if message["role"] != "assistant"])
    if not 1 <= max_new_tokens <= LONGEST_ANSWER:
        raise TaskError(f"An answer may have 1 to {LONGEST_ANSWER:,} tokens, not {max_new_tokens:,}.")
    if not (temperature == 0 or 0.01 <= temperature <= HOTTEST):
        raise TaskError(f"The temperature must be 0, or from 0.01 to {HOTTEST:g}, not {temperature:g}.")
    if picture is not None and page.gpu is not None:
        raise TaskError("On ZeroGPU models are shown no pictures; ask without one, or start the page elsewhere.")


def _within(turn: AbstractContextManager[None], pieces: Iterator[str]) -> Iterator[str]:
    with turn:
        yield from pieces


def _picture(file: Path, most: int) -> Picture:
    """The picture in a file that somebody sent. Raises `TaskError` for what is none, and for one that is too large:
    that has more than `most` pixels."""
    picture = Picture.in_file(file)
    if (pixels := pixels_of(picture.where)) > most:
        raise TaskError(f"The picture {file.name} has {pixels:,} pixels; at most {most:,} are shown on this page.")
    return picture


def _require_small(page: Page, model: Source | str, picture: Path, text: str, stop: threading.Event) -> None:
    """Raises `HubmergeError` where a model's own settings make too much of a picture: that is tried in a process of its
    own, with little memory, before it is done in this one."""
    ref = model if isinstance(model, str) else str(fetched(model))
    with page.lookers.one(ref) as looker:
        asked = {"picture": str(picture), "text": text}
        for answer in looker.ask("look", ref, stop.is_set, LOOKING_SECONDS, **asked):
            if answer["numbers"] > MOST_NUMBERS:
                raise TaskError(
                    f"This model makes {answer['numbers']:,} numbers of the picture; at most {MOST_NUMBERS:,} are "
                    "given to a model on this page. Send a smaller picture, or start the page on your own machine."
                )


def require_short(messages: Sequence[Mapping[str, str]]) -> None:
    """Raises `TaskError` where one of the messages is too long."""
    longest = max((len(message["content"]) for message in messages), default=0)
    if longest > LONGEST_MESSAGE:
        raise TaskError(f"The message has {longest:,} characters; at most {LONGEST_MESSAGE:,} are sent.")


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
