"""A job on the page: what it is, how far, how it ended; Cancel and Resume. After a reload it finds its job again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..state import Page, owner_of
from ..theme import html, into_view
from ..views.job import describe_job
from ..visitors.access import visitor_token
from ..visitors.guard import shows_errors
from ..work.job import Job
from ..work.tools import FILES


@dataclass(frozen=True)
class Panel:
    """What others need of a job panel: the buttons that go on with a finished model, and how to redraw it.

    `refresh` with `inputs` and `outputs` is an event handler; `watch` calls it as long as a job is under way.
    """

    kind: str
    chat: gr.Button
    publish: gr.Button
    refresh: Callable[..., Any]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


def mark(job: Job | None) -> str:
    """Changes with all that a panel shows of a job: the clock of a running one moves even where nothing is reported."""
    return f"{job.id}:{job.version}:{job.seconds:.0f}" if job else "none"


def panel(
    page: Page,
    kind: str,
    kinds: Sequence[str] = (),
    *,
    extra: Sequence[Any] = (),
    draw: Callable[[str, Job | None], Sequence[Any]] | None = None,
    pause: bool = False,
) -> Panel:
    """Builds the panel of the owner's newest job of `kind`, or of any of several `kinds`.

    `extra` are further components to redraw with it; `draw(owner, job)` returns a value for each. `pause`: to stop it
    loses nothing, and the button says so.
    """
    view = html(visible=False, elem_id=f"hm-{kind}-job")
    with gr.Row():
        word = "Pause" if pause else "Cancel"
        cancel = gr.Button(word, size="sm", visible=False, min_width=110, scale=0, elem_id=f"hm-{kind}-cancel")
        resume = gr.Button("Resume", size="sm", visible=False, min_width=110, scale=0, elem_id=f"hm-{kind}-resume")
        chat = gr.Button("Chat with it", size="sm", visible=False, min_width=110, scale=0, elem_id=f"hm-{kind}-chat")
        publish = gr.Button("Publish it", size="sm", visible=False, min_width=110, scale=0, elem_id=f"hm-{kind}-on")
    seen, kinds = page.seen[kind], kinds or (kind,)
    outputs = [view, cancel, resume, chat, publish, seen, *extra]

    def refresh(key: str | None, last: str, request: gr.Request) -> Sequence[Any]:
        owner = owner_of(key, request)
        job = next(iter(page.jobs.of(owner, *kinds)), None)
        now = mark(job)
        if now == last:
            return [gr.skip()] * len(outputs)
        more = draw(owner, job) if draw else ()
        made = job is not None and job.status == "done" and "folder" in job.result
        return [
            gr.HTML(describe_job(job) if job else "", visible=job is not None),
            gr.Button(visible=job is not None and job.active),
            gr.Button(visible=job is not None and job.status in ("failed", "cancelled", "lost")),
            gr.Button(visible=made and job is not None and job.kind not in FILES),
            gr.Button(visible=made),
            now,
            *more,
        ]

    @shows_errors
    def stop(key: str | None, request: gr.Request) -> None:
        owner = owner_of(key, request)
        for job in page.jobs.of(owner, *kinds):
            if job.active:
                page.jobs.cancel(owner, job.id)
                return

    @shows_errors
    def again(key: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> gr.Timer:
        owner = owner_of(key, request)
        newest = next(iter(page.jobs.of(owner, *kinds)), None)
        if newest:
            page.jobs.resume(owner, newest.id, visitor_token(page.settings, oauth))
        return gr.Timer(active=True)

    inputs = [page.owner, seen]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    cancel.click(stop, [page.owner], None, **quiet).then(refresh, inputs, outputs, **quiet)
    resume.click(again, [page.owner], [page.timer], **quiet).then(refresh, inputs, outputs, **quiet)
    return Panel(kind, chat, publish, refresh, inputs, outputs)


def begins(page: Page, job: Panel, button: gr.Button, start: Callable[..., Any], inputs: Sequence[Any]) -> None:
    """Lets `button` start a job by `start`, which gives the page's timer, and shows its panel."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    begun = button.click(start, inputs, [page.timer], **quiet).success(job.refresh, job.inputs, job.outputs, **quiet)
    begun.success(None, js=into_view(f"hm-{job.kind}-job"), **quiet)


def watch(page: Page, panels: Sequence[Panel], beat: gr.Timer) -> None:
    """Draws all panels once the page is ready, at each tick of its timer, which then stops itself, and at each `beat`.

    All at one call: each makes the browser look at the whole page. The answer to a last tick can come after that of the
    button that began the next job, and stop the timer again: hence the beat.
    """

    def look(key: str | None, request: gr.Request, *seen: str) -> Sequence[Any]:
        # Asked before: what ends while it is drawn is drawn by the next tick.
        active = any(job.active for job in page.jobs.of(owner_of(key, request)))
        marks = zip(panels, seen, strict=True)
        return [*(part for one, last in marks for part in one.refresh(key, last, request)), gr.Timer(active=active)]

    drawn = [part for one in panels for part in one.outputs]
    for event in (page.ready.then, page.timer.tick, beat.tick):
        event(
            look,
            [page.owner, *page.seen.values()],
            [*drawn, page.timer],
            show_progress="hidden",
            api_visibility="private",
        )
