"""A job as others see it, and what whoever does it is given."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubmerge.progress import Progress

from ..visitors.access import Token

ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class Job:
    """One piece of work as it stands.

    `status`: queued, running, done, failed, cancelled, or lost (the server stopped). `version` rises with each change.
    `person`: who counts as one where jobs are shared out, which an owner is not: keys and tokens can be invented.
    `before`: seconds at work in earlier shifts, from which it made room for others.
    """

    id: str
    owner: str
    kind: str
    title: str
    spec: Mapping[str, Any]
    status: str = "queued"
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    event: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    version: int = 0
    person: str = ""
    before: float = 0.0

    @property
    def active(self) -> bool:
        """Whether the job is waiting or at work."""
        return self.status in ACTIVE

    @property
    def who(self) -> str:
        """Who counts as one where jobs are shared out."""
        return self.person or self.owner

    @property
    def seconds(self) -> float:
        """How long it has been at work, in all its shifts."""
        return self.before + ((self.ended or time.time()) - self.started if self.started else 0.0)


@dataclass(frozen=True)
class Work:
    """What a runner is given: the spec, a folder of its own, the visitor's token, and where to tell how far it is.

    `report` raises `Interrupted` once the job is cancelled, its time is up or others are to have their turn. `resume`
    is true where the folder holds an earlier attempt.
    """

    spec: Mapping[str, Any]
    folder: Path
    token: Token
    report: Progress
    resume: bool


Runner = Callable[[Work], Mapping[str, Any]]
"""Does one kind of work and returns its result as plain JSON values."""
