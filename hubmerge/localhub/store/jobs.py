"""Jobs that clients asked for: what each is to run, where it stands, and what it printed.

A local Hub runs none of them. Whoever does - a test, a person with the machines for it - says so by `move` and `log`.
"""

import secrets
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .disk import names_in, read_json, write_json

KEPT = (
    *("command", "arguments", "environment", "flavor", "dockerImage", "spaceId"),
    *("labels", "volumes", "timeoutSeconds", "attempts"),
)
"""What is remembered of what was sent."""

WAITING, RUNNING, ENDINGS = "SCHEDULING", "RUNNING", ("COMPLETED", "CANCELED", "ERROR", "DELETED")


class Job:
    """One job: what was sent, but of its secrets the names alone; `lines` are its log.

    `token` is the secret HF_TOKEN that came with it. It is in memory alone, and never in an answer.
    """

    def __init__(self, path: Path, told: dict[str, Any], token: str | None = None) -> None:
        self.token = token
        self._path, self._told = path, told
        self._log = path.with_suffix(".log")
        self._guard = threading.Lock()
        self.lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []

    @property
    def told(self) -> Mapping[str, Any]:
        """What the Hub tells of it, as huggingface_hub's JobInfo reads it."""
        return self._told

    @property
    def id(self) -> str:
        """Its name: 24 hex digits."""
        return str(self._told["id"])

    @property
    def stage(self) -> str:
        """Where it stands, as huggingface_hub's JobStage names it."""
        return str(self._told["status"]["stage"])

    @property
    def labels(self) -> Mapping[str, str]:
        """What its owner marked it with."""
        return self._told.get("labels") or {}

    def log(self, line: str) -> None:
        """Adds a line to what it printed."""
        with self._guard, self._log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            self.lines.append(line)

    def move(self, stage: str, message: str | None = None) -> None:
        """Says where it stands now; what has ended stays so."""
        with self._guard:
            if self.stage in ENDINGS:
                return
            when = {} if stage == WAITING else {"startedAt" if stage == RUNNING else "finishedAt": _now()}
            self._told = {**self._told, **when, "status": {"stage": stage, "message": message}}
            write_json(self._path, self._told)


class Jobs:
    """All jobs of a Hub, each a file of its folder and one with its log."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        paths = [root / name for name in names_in(root) if name.endswith(".json")]
        self._known = {path.stem: Job(path, read_json(path)) for path in paths}

    def add(self, namespace: str, owner: Mapping[str, str], spec: Mapping[str, Any]) -> Job:
        """Remembers a job that somebody asked for."""
        hidden = spec.get("secrets") or {}
        told = {name: spec[name] for name in KEPT if name in spec}
        told |= {"id": secrets.token_hex(12), "owner": {**owner, "name": namespace}, "createdAt": _now()}
        told |= {"status": {"stage": WAITING, "message": None}, "secrets": dict.fromkeys(hidden, "")}
        path = self._root / f"{told['id']}.json"
        write_json(path, told)
        job = Job(path, told, hidden.get("HF_TOKEN"))
        with self._guard:
            self._known[job.id] = job
        return job

    def find(self, namespace: str, id: str) -> Job | None:
        """The job of this name, where the namespace has one."""
        job = self._known.get(id)
        return job if job is not None and job.told["owner"]["name"] == namespace else None

    def all(self, namespace: str | None = None) -> list[Job]:
        """Every job, or those of a namespace, the newest first."""
        with self._guard:
            jobs = [job for job in self._known.values() if namespace in (None, job.told["owner"]["name"])]
        return sorted(jobs, key=lambda job: str(job.told["createdAt"]), reverse=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
