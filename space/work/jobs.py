"""Long work that outlives the page that started it: a bounded pool of threads and a folder that remembers every job.

Each job belongs to an owner; no call shows or touches another owner's. A job is described by its `kind` (which runner)
and its `spec` (plain JSON), so that a server started anew can run it again from what it left on disk. Tokens are
handed to the runner in memory and never written.
"""

import json
import secrets
import shutil
import threading
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hubmerge.documents import parse_object
from hubmerge.errors import AccessError, HubmergeError, Interrupted, NotFoundError, ResourceError
from hubmerge.files import make_folder, replace_file
from hubmerge.hub.patience import stoppable
from hubmerge.progress import Event
from hubmerge.text import has_token

from ..visitors.access import Token
from ..wording import duration
from .job import ACTIVE, Job, Runner, Work
from .line import Entry, ready
from .shifts import Shifts

USER = "user "
"""Begins a person that the Hub knows by name; any other is an address."""
SAVE_EVERY = 1.0
"""Seconds between two writes of a running job's progress."""
PEOPLE_AT_AN_ADDRESS = 4
"""How many people's jobs those who are known by their address alone have between them."""
IN_SHIFTS = ("merge", "evolve", "extract", "moe", "transplant")
"""Kinds of work that go on from where they were, and so may make room for others in between."""


class Jobs:
    """The jobs of a server. Safe to call from any thread; `close` stops the workers at their next report.

    A job is stopped at its next report when it has been at work for `most_minutes` (0: never); it can be resumed.
    After `shift_minutes` (0: never) it makes room while others wait, and goes on by itself when it is its turn again.
    """

    def __init__(
        self,
        folder: Path,
        runners: Mapping[str, Runner],
        *,
        workers: int = 2,
        active_per_owner: int = 3,
        keep_seconds: float = 0.0,
        most_minutes: float = 0.0,
        shift_minutes: float = 0.0,
    ) -> None:
        self._folder, self._runners = folder, dict(runners)
        self._active_per_owner, self._keep_seconds, self._most_minutes = active_per_owner, keep_seconds, most_minutes
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._points: dict[str, list[dict[str, Any]]] = {}
        self._cancelled: set[str] = set()
        self._shifts = Shifts(shift_minutes)
        self._leaving: set[str] = set()
        self._queue: list[Entry] = []
        self._saved: dict[str, float] = {}
        self._workers = workers
        self._closed = False
        make_folder(folder, HubmergeError)
        self._load()
        names = (f"hubmerge-job-{number}" for number in range(workers))
        self._threads = [threading.Thread(target=self._serve, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def submit(self, owner: str, kind: str, title: str, spec: Mapping[str, Any], token: Token = None) -> Job:
        """Queues new work.

        Raises `ResourceError` where the owner already has as many jobs under way as allowed, `AccessError` where an
        access token was typed into it: a job is kept on disk, and becomes a card.
        """
        assert kind in self._runners, kind
        # Text by text: written as JSON, the n of a line's end would stand before a token.
        if any(map(has_token, _texts([title, spec]))):
            raise AccessError("This holds an access token of the Hub; take it out: hubmerge asks for none.")
        document = json.loads(json.dumps(spec))  # a copy of plain values
        person = getattr(owner, "person", "")
        job = Job(secrets.token_hex(8), str(owner), kind, title, document, created=time.time(), person=person)
        with self._changed:
            self.forget_old()
            self._enqueue(job, token, resume=False)
        return job

    def resume(self, owner: str, job_id: str, token: Token = None) -> Job:
        """Runs a job that failed, was cancelled or was lost again, in its folder."""
        with self._changed:
            job = self._owned(owner, job_id)
            if job.active or job.status == "done":
                return job
            job = replace(job, status="queued", error="", started=0.0, ended=0.0, before=0.0, version=job.version + 1)
            self._shifts.forget(job_id)
            self._enqueue(job, token, resume=True)
        return job

    def restart_lost(self, kinds: Collection[str], token: Token = None) -> None:
        """Goes on with the jobs of these kinds that were under way when the server stopped."""
        with self._changed:
            lost = [job for job in self._jobs.values() if job.status == "lost" and job.kind in kinds]
        for job in sorted(lost, key=lambda job: job.created):
            with suppress(ResourceError):  # fewer at a time are allowed than before; its owner can resume it
                self.resume(job.owner, job.id, token)

    def cancel(self, owner: str, job_id: str) -> Job:
        """Asks a job to stop: at once where it still waits, at its next report where it runs."""
        with self._changed:
            job = self._owned(owner, job_id)
            if job.status == "queued":
                self._queue = [entry for entry in self._queue if entry[0] != job_id]
                return self._update(job_id, status="cancelled", ended=time.time())
            if job.status == "running":
                self._cancelled.add(job_id)
                return self._update(job_id, event={**job.event, "note": "stopping"})
            return job

    def remove(self, owner: str, job_id: str) -> None:
        """Deletes a job that is not under way, with its folder."""
        with self._changed:
            if not self._owned(owner, job_id).active:
                self._forget(job_id)

    def get(self, owner: str, job_id: str) -> Job:
        """One job of the owner. Raises `NotFoundError` for any other id."""
        with self._changed:
            return self._owned(owner, job_id)

    def known(self, job_id: str) -> Job | None:
        """One job, whosever it is; None where there is none. For whoever has been told its address."""
        with self._changed:
            return self._jobs.get(job_id)

    def of(self, owner: str, *kinds: str) -> list[Job]:
        """The owner's jobs, of these kinds where given, newest first."""
        with self._changed:
            mine = [job for job in self._jobs.values() if job.owner == owner and (not kinds or job.kind in kinds)]
        return sorted(mine, key=lambda job: job.created, reverse=True)

    def counts(self) -> Mapping[str, int]:
        """How many jobs of all owners are running and queued."""
        with self._changed:
            states = [job.status for job in self._jobs.values()]
        return {status: states.count(status) for status in ACTIVE}

    def points(self, owner: str, job_id: str) -> list[dict[str, Any]]:
        """The `data` of every event that carried some, in order: what a chart draws."""
        with self._changed:
            self._owned(owner, job_id)
            return list(self._points.get(job_id, ()))

    def folder(self, owner: str, job_id: str) -> Path:
        """The folder a job works in."""
        with self._changed:
            return self._folder / self._owned(owner, job_id).id / "work"

    def forget_old(self) -> None:
        """Deletes the jobs that ended longer ago than they are kept, with their folders."""
        if self._keep_seconds:
            oldest = time.time() - self._keep_seconds
            with self._changed:
                for job in [job for job in self._jobs.values() if not job.active and job.ended < oldest]:
                    self._forget(job.id)

    def close(self) -> None:
        """Stops taking work and interrupts what runs; the workers end at their next report."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._cancelled.update(job.id for job in self._jobs.values() if job.status == "running")
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Waits for the workers of closed jobs to end; false where one has not after so many seconds."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _enqueue(self, job: Job, token: Token, resume: bool) -> None:
        active = [other for other in self._jobs.values() if other.active]
        most = self._active_per_owner
        at_the_address = sum(bool(job.person) and other.person == job.person for other in active)
        for under_way, limit in (
            (sum(other.owner == job.owner for other in active), most),
            (at_the_address, most * (1 if job.person.startswith(USER) else PEOPLE_AT_AN_ADDRESS)),
        ):
            if under_way >= limit:
                raise ResourceError(
                    f"You already have {under_way} jobs under way, the most this page takes on; wait for one or "
                    "cancel it."
                )
        self._jobs[job.id] = job
        self._points.setdefault(job.id, [])
        self._cancelled.discard(job.id)
        self._save(job)
        self._queue.append((job.id, token, resume))
        self._changed.notify_all()

    def _ready(self, without: str | None = None) -> list[Entry]:
        return ready(self._queue, self._jobs, self._workers, without)

    def _makes_room(self, job: Job) -> bool:
        """Whether a job has had its shift, and another's would have its place that is not being made room for yet."""
        if job.kind not in IN_SHIFTS or not self._queue or not self._shifts.over(job.id, job.seconds - job.before):
            return False
        if sum(other.status == "running" for other in self._jobs.values()) < self._workers:
            return False
        line = [self._jobs[entry[0]] for entry in self._ready(without=job.id)]
        return sum(other.who != job.who for other in line[: line.index(job)]) > len(self._leaving)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ready())
                if self._closed:
                    return
                entry = self._ready()[0]
                self._queue.remove(entry)
                job_id, token, resume = entry
                if resume:  # the runner reports again what an earlier attempt did
                    self._points[job_id] = []
                    (self._folder / job_id / "points.jsonl").unlink(missing_ok=True)
                job = self._update(job_id, status="running", started=time.time())
            self._run(job, token, resume)

    def _run(self, job: Job, token: Token, resume: bool) -> None:
        folder = self._folder / job.id / "work"
        folder.mkdir(parents=True, exist_ok=True)
        work = Work(job.spec, folder, token, lambda event: self._report(job.id, event), resume)
        outcome: dict[str, Any]
        try:
            with stoppable(lambda: self._check(job.id)):
                outcome = {"status": "done", "result": json.loads(json.dumps(self._runners[job.kind](work)))}  # a copy
        except Interrupted:
            outcome = {}
        except HubmergeError as error:
            outcome = {"status": "failed", "error": str(error)}
        except Exception as error:
            # A bug of ours: the log gets the traceback, the person a sentence.
            traceback.print_exc()
            outcome = {"status": "failed", "error": f"Something went wrong inside hubmerge ({type(error).__name__})."}
        with self._changed:
            outcome = outcome or self._stopped(job.id)
            self._leaving.discard(job.id)
            self._update(job.id, **{"ended": time.time(), **outcome})
            if outcome["status"] == "queued":
                self._queue.append((job.id, token, True))
            self._changed.notify_all()

    def _stopped(self, job_id: str) -> dict[str, Any]:
        """What becomes of a job that was interrupted."""
        job = self._jobs[job_id]
        if self._closed:
            return {"status": "lost"}
        if job_id in self._cancelled:
            return {"status": "cancelled"}
        if job_id not in self._leaving:
            error = (
                f"The job was stopped after {self._most_minutes:g} minutes, the most this page gives one at a time "
                "(HUBMERGE_SPACE_MAX_MINUTES); Resume goes on where it was."
            )
            return {"status": "cancelled", "error": error}
        reached = (len(self._points[job_id]), job.event.get("stage"), job.event.get("done", 0))
        if not self._shifts.another(job_id, reached):
            error = (
                f"Others wait, and {duration(job.seconds - job.before)} at a time bring this job no further; "
                "Resume it when fewer people are here, or choose fewer examples or smaller models."
            )
            return {"status": "cancelled", "error": error}
        return {"status": "queued", "before": job.seconds, "started": 0.0, "ended": 0.0}

    def _check(self, job_id: str) -> None:
        """Raises `Interrupted` where the job is to end: at a report, and while it waits for the Hub."""
        if self._closed or job_id in self._cancelled:
            raise Interrupted("The job was stopped.")
        with self._changed:
            job = self._jobs[job_id]
            if self._most_minutes and job.seconds > self._most_minutes * 60:
                raise Interrupted("The job has used up its time.")
            if job_id in self._leaving or self._makes_room(job):
                self._leaving.add(job_id)
                raise Interrupted("It is the turn of others.")

    def _report(self, job_id: str, event: Event) -> None:
        with self._changed:
            self._check(job_id)
            if event.data:
                point = json.loads(json.dumps(dict(event.data), default=str))  # a copy
                self._points[job_id].append(point)
                with (self._folder / job_id / "points.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(point) + "\n")
            shown = {key: value for key, value in asdict(event).items() if key != "data"}
            self._update(job_id, event=shown, save=time.monotonic() - self._saved.get(job_id, 0.0) > SAVE_EVERY)

    def _update(self, job_id: str, *, save: bool = True, **changes: Any) -> Job:
        job = self._jobs[job_id]
        job = self._jobs[job_id] = replace(job, version=job.version + 1, **changes)
        if save:
            self._save(job)
        return job

    def _owned(self, owner: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise NotFoundError(f"There is no job {job_id[:40]!r} of yours; it may have been cleaned up.")
        return job

    def _save(self, job: Job) -> None:
        folder = self._folder / job.id
        replace_file(folder / "job.json", json.dumps(asdict(job), ensure_ascii=False))
        self._saved[job.id] = time.monotonic()

    def _load(self) -> None:
        for path in self._folder.glob("*/job.json"):
            try:
                job = Job(**parse_object(path.read_bytes(), path.name, HubmergeError))
            except (OSError, HubmergeError, TypeError):
                continue  # written by another version of the page
            if job.active:
                job = replace(job, status="lost", ended=job.ended or time.time(), version=job.version + 1)
            self._jobs[job.id] = job
            self._points[job.id] = _read_points(path.with_name("points.jsonl"))

    def _forget(self, job_id: str) -> None:
        for table in (self._jobs, self._points, self._saved):
            table.pop(job_id, None)
        self._cancelled.discard(job_id)
        self._shifts.forget(job_id)
        shutil.rmtree(self._folder / job_id, ignore_errors=True)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _read_points(path: Path) -> list[dict[str, Any]]:
    points = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                points.append(parse_object(line, path.name, HubmergeError))
            except HubmergeError:
                break  # the last line of a server that was killed
    return points
