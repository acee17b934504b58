"""ZeroGPU: Spaces whose GPU is lent for the length of one call, by the Hub's package `spaces`.

There a decorated function runs in a forked process, which alone has the GPU and may be kept for the next call. What
goes in and comes out is pickled: so a model is named and loaded in there, where it stays until another is asked for. In
the page's own process torch claims a GPU that is none, and nothing may be put on it.

Answers of the chat and searches go through such calls. A search takes one after another: each goes on from its journal.
Its last part, from choosing the winner to the tested model, has no journal and must fit into one call. A call in a
visitor's request is charged to the visitor; those of a search, which outlives the request, to the Space. Merges stay on
the CPU. Elsewhere nothing is wrapped, and this module imports nothing that the page does without.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from hubmerge.errors import HubmergeError, Interrupted, ResourceError
from hubmerge.evaluate.generation import stream_chat
from hubmerge.evaluate.models import load_model
from hubmerge.evolve.search import Search
from hubmerge.hub import Source
from hubmerge.progress import Event, Progress
from hubmerge.reference import ModelRef

CHAT_SECONDS = 60
"""Of the GPU that an answer asks for; what it does not need goes back."""
SEARCH_SECONDS = 120
"""Of the GPU that a search asks for at a time."""
WORKING_SECONDS = 90
"""After which a search gives the GPU back at its next report, well before it would be taken away."""
QUEUE = 1000
"""Calls that may wait there; gradio would let one wait."""

_READ_TOO = (".json", ".jinja", ".model", ".txt")  # files beside the weights that loading may read

T = TypeVar("T")


def on_zero_gpu(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this Space says that its GPU is lent by the call."""
    return environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


@dataclass(frozen=True)
class ZeroGpu:
    """The page's computing functions, each wrapped by `spaces.GPU`."""

    _speak: Callable[..., Generator[str, None, None]]
    _slice: Callable[..., Generator[Event, None, None]]

    @classmethod
    def borrow(cls, environ: Mapping[str, str] = os.environ) -> "ZeroGpu | None":
        """None elsewhere. Must be called before the page is launched: a Space says then what needs its GPU."""
        if not on_zero_gpu(environ):
            return None
        try:
            import spaces  # a Space on this hardware has it
        except ImportError:
            return None
        return cls(
            spaces.GPU(_speak, duration=CHAT_SECONDS),
            spaces.GPU(_search_slice, duration=SEARCH_SECONDS),
        )

    def speak(
        self,
        model: Source | str,
        token: str | None,
        messages: Sequence[Mapping[str, str]],
        *,
        stop: threading.Event | None = None,
        **settings: Any,
    ) -> Iterator[str]:
        """As `stream_chat`, on the GPU; `model` is one of the Hub, opened, or a folder."""
        ref: ModelRef | str = model if isinstance(model, str) else fetched(model)
        with closing(self._speak(ref, token, list(messages), settings)) as pieces:
            for piece in _told(pieces):
                yield piece
                if stop is not None and stop.is_set():
                    return

    def search(self, search: Search, folder: Path, *, resume: bool, token: str | None, progress: Progress) -> None:
        """Runs a search in `folder` to its end, in as many calls as it takes; then `evolve` has only to read it.

        Raises `ResourceError` where a call brings it no further, or the GPU is refused.
        """
        from hubmerge.evolve.records.folder import RESULTS_FILE

        shown, before = 0, None
        while not (folder / RESULTS_FILE).exists():
            points, event = 0, Event("open", 0, 0)
            with closing(self._slice(search.to_dict(), str(folder), resume, token, WORKING_SECONDS)) as events:
                for event in _told(events):
                    # Each call reports again what the ones before have measured.
                    points += bool(event.data)
                    if not event.data or points > shown:
                        progress(event)
            reached = (points, event.stage, event.done)
            if reached == before and not (folder / RESULTS_FILE).exists():
                raise ResourceError(
                    f"The search got no further than {event.stage} in {WORKING_SECONDS} seconds of ZeroGPU, all that "
                    "one call has; choose fewer examples or smaller models, or run it on other hardware."
                )
            resume, shown, before = True, max(shown, points), reached


def _told(items: Iterable[T]) -> Iterator[T]:
    """`items`; what `spaces` and the process with the GPU say of errors, as one of ours."""
    try:
        yield from items
    except gr.Error as error:
        raise ResourceError(str(error.message)) from None


def fetched(source: Source) -> ModelRef:
    """The pinned name of a model whose files are on this machine: no time of the GPU goes into a download, and who has
    no token can open it."""
    weights = {tensor.file for tensor in source.tensors.values()}
    for name in source.files:
        if name in weights or name.endswith(_READ_TOO):
            source.local_path(name)
    if source.adapter is not None:
        source.adapter.local_path()
    return source.ref if source.is_folder else source.pinned


# What follows runs in the process with the GPU.

_held: dict[tuple[ModelRef | str, str | None], tuple[Any, Any]] = {}


def _speak(
    ref: ModelRef | str, token: str | None, messages: list[Mapping[str, str]], settings: dict[str, Any]
) -> Generator[str, None, None]:
    try:
        if (ref, token) not in _held:
            _held.clear()
            _held[ref, token] = load_model(ref, token=token)
        yield from stream_chat(*_held[ref, token], messages, **settings)
    except HubmergeError as error:  # `spaces` keeps the text of no other error than gradio's
        raise gr.Error(str(error), print_exception=False) from None


def _search_slice(
    search: dict[str, Any], folder: str, resume: bool, token: str | None, seconds: float
) -> Generator[Event, None, None]:
    """Runs a search for so many seconds, or to its end, and yields its events."""
    from hubmerge.evolve.run import evolve

    events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
    closed, end = threading.Event(), time.monotonic() + seconds

    def report(event: Event) -> None:
        if closed.is_set() or time.monotonic() > end:
            raise Interrupted("The GPU goes back.")
        events.put(event)

    def work() -> None:
        try:
            _held.clear()
            evolve(Search.from_dict(search), Path(folder), resume=resume, token=token, progress=report)
            events.put(None)
        except Interrupted:
            events.put(None)
        except BaseException as error:  # the reader below must wake up and see it, whatever it is
            events.put(error)

    thread = threading.Thread(target=work, name="search", daemon=True)
    thread.start()
    try:
        while (event := events.get()) is not None:
            if isinstance(event, HubmergeError):
                raise gr.Error(str(event), print_exception=False)
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        closed.set()
        thread.join()
