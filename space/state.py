"""What the handlers of one page share, and what belongs to one visitor."""

import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from hubmerge.errors import NotFoundError
from hubmerge.evaluate.studio import Studios
from hubmerge.hub import Source, open_source
from hubmerge.reference import ModelRef

from .forms.tools import Made
from .settings import Settings
from .visitors.access import Token, require_hub_id
from .wording import short, slug
from .work.job import Job
from .work.jobs import USER, Jobs
from .work.timed_cache import TimedCache
from .work.tools import FILES, TOOLS
from .work.turns import Turns
from .work.zero_gpu import ZeroGpu

SOURCE_SECONDS = 300.0
"""How long a card may show a model as it was: a branch can move."""
LOOKING = 2**29
"""Bytes that a stranger's model may take to read a picture."""
IDLE_SECONDS = 600.0
"""How long a model stays in memory after the last question to it."""


@dataclass(frozen=True)
class Examples:
    """What the page opens with: models and a task already chosen, as `make space` does with the demo zoo; and what a
    visitor may ask them (none: problems of the task)."""

    base_model: str | None = None
    models: tuple[str, ...] = ()
    task: dict[str, Any] | str | None = None
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """One running page: its settings, its jobs, and the components that every tab uses.

    `owner` and `kept` live in the browser: the key to the visitor's jobs, and the recipe as it was left. They are made
    outside of every tab, because gradio brings a tab's components to life only when it is first opened.
    `ready` is the event after which a freshly loaded page knows its owner; tabs chain what they show to it.
    `seen` holds, for each kind of job, the mark of the newest one as the browser shows it. The browser keeps it: one
    answer can overtake another on its way, and then what the server sent last is not what is shown.
    """

    settings: Settings
    jobs: Jobs
    examples: Examples
    owner: gr.BrowserState
    kept: gr.BrowserState
    timer: gr.Timer
    blocks: gr.Blocks
    ready: Any
    seen: Mapping[str, gr.Textbox]
    gpu: ZeroGpu | None = None
    sources: TimedCache[Source] = field(default_factory=lambda: TimedCache(256, SOURCE_SECONDS))
    loaded: TimedCache[tuple[Any, Any]] = field(default_factory=lambda: TimedCache(2, IDLE_SECONDS, in_use=True))
    drawn: TimedCache[str] = field(default_factory=lambda: TimedCache(32, 3600.0))
    users: TimedCache[str] = field(default_factory=lambda: TimedCache(1024, SOURCE_SECONDS))
    turns: Turns = field(default_factory=lambda: Turns(2, 4))
    studios: Studios = field(default_factory=Studios)
    lookers: Studios = field(default_factory=lambda: Studios(LOOKING, limited=True))

    def open(self, name: str, token: Token) -> Source:
        """The headers of a model by Hub ID, read with this visitor's rights and kept for a few minutes."""
        ref = require_hub_id(self.settings, ModelRef.parse(name))
        return self.sources.get((ref, token), lambda: open_source(ref, token=token))


def new_owner_key() -> str:
    """A key for a visitor whose browser has none yet; whoever holds it sees the visitor's jobs."""
    return secrets.token_urlsafe(24)


class Owner(str):
    """Whose jobs are shown: a digest of what the visitor alone holds. `person` is who counts as one."""

    person: str = ""


def owner_of(key: str | None, request: gr.Request | None, user: str | None = None) -> Owner:
    """The owner under which a visitor's jobs are filed: a digest of the browser's key, or else of the session's.

    The person is `user`, where the Hub knows one by the token that was sent, and else the address.
    """
    session = request.session_hash if request else None
    owner = Owner(_digest(str(key or session or new_owner_key())))
    if user is not None:
        owner.person = USER + _digest(user)
    elif request is not None and (address := _address(request)):
        owner.person = _digest(address)
    return owner


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _address(request: gr.Request) -> str:
    """Where a call comes from: as the last proxy saw it, which alone cannot be invented."""
    if not os.environ.get("SPACE_ID"):
        return ""  # a person's own machine, where all are one
    forwarded = str(request.headers.get("x-forwarded-for", "")).rpartition(",")[2].strip()
    return forwarded or str(getattr(request.client, "host", "") or "")


PRODUCT = "job:"
"""Begins the value of a choice that is the result of a job rather than a model of the Hub."""


def products(jobs: Jobs, owner: str, *, answering: bool = False) -> list[tuple[str, str]]:
    """(label, value) of all that the owner's jobs have made, newest first; `answering`: of models alone."""
    kinds = ["merge", "evolve", *(kind for kind in TOOLS if not (answering and kind in FILES))]
    words = {"merge": "Merged", "evolve": "Evolved"}
    done = [job for job in jobs.of(owner, *kinds) if job.status == "done"]
    return [(f"{words.get(job.kind, 'Made')}: {job.title}", PRODUCT + job.id) for job in done]


def product_job(jobs: Jobs, owner: str, value: str | None) -> Job:
    """The finished job behind a choice. Raises `NotFoundError` for anything else."""
    if not value or not value.startswith(PRODUCT):
        raise NotFoundError("Choose a model that was made on this page.")
    job = jobs.get(owner, value.removeprefix(PRODUCT))
    if job.status != "done" or "folder" not in job.result:
        raise NotFoundError(f"{job.title!r} has no finished model; run it again.")
    return job


def made_here(jobs: Jobs, owner: str, value: str | None) -> Made | str | None:
    """What the owner's job behind a choice has made, for other jobs to read; any other choice as it is.

    Raises `NotFoundError` for a job that has made no whole model.
    """
    if value is None or not value.startswith(PRODUCT):
        return value
    job = product_job(jobs, owner, value)
    if job.kind in FILES:
        raise NotFoundError(f"{job.title!r} is no whole model; choose a merge, a search, or the model it was made of.")
    folder = Path(str(job.result["folder"]))
    named = folder.with_name(slug(job.title) or folder.name)
    # Cards and files are called after the folder, and that is called alike in every job.
    with suppress(FileExistsError):
        named.symlink_to(folder.name)
    return Made(named if named.is_symlink() else folder, job.title)


def title_of(method: str, models: list[str]) -> str:
    """A job's name for people: "ties of math + japanese"."""
    return f"{method} of {' + '.join(short(name) for name in models)}"
