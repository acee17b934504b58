"""A job as a person reads it: title, state, bar, figures, and the sentence of an error."""

from hubmerge.markup import Markup

from ..wording import duration, size
from ..work.job import Job
from .parts import render

_MEASURED = {
    "merge": ("measure", "merge"),
    "evolve": ("search",),
    "publish": ("push",),
    "extract": ("factor", "merge"),
    "moe": ("gates", "merge"),
    "transplant": ("merge",),
    "gguf": ("write", "read back"),
}
"""The long stages of each kind of job, whose share is drawn; what is before, between and after them has none."""
_ENDED = {"done": "done", "failed": "failed", "cancelled": "stopped", "lost": "interrupted"}


def describe_job(job: Job) -> Markup:
    """A job as HTML."""
    event = job.event
    done, total = int(event.get("done", 0)), int(event.get("total", 0))
    stopping = job.status == "running" and event.get("note") == "stopping"
    word = "stopping" if stopping else _ENDED.get(job.status, job.status)
    figures = _figures(job, done, total)
    if job.status == "queued":
        figures = "makes room for others; goes on by itself" if job.before else "waiting for a free worker"
    share = _share(job, done, total)
    return render("job", job=job, word=word, share=share, figures=figures, took=duration(job.seconds))


def _share(job: Job, done: int, total: int) -> float | None:
    """How much of its stage is done, in percent; None where nobody can say. A full bar would say that a job is done
    which is at work."""
    whole = job.event.get("stage") in _MEASURED.get(job.kind, ()) and total > 0
    if job.status == "running" and not (whole and done < total):
        return None
    return 100.0 if job.status == "done" else min(100.0, 100.0 * done / total) if whole else 0.0


def _figures(job: Job, done: int, total: int) -> str:
    if job.status == "done":
        return str(job.result.get("summary", "finished"))
    stage, unit = str(job.event.get("stage", "starting")), str(job.event.get("unit", ""))
    amount = ""
    if done or total:
        if unit == "B":
            amount = f"{size(done)} of {size(total)}" if total else size(done)
        else:
            amount = f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"
    note = str(job.event.get("note", ""))
    if stage == "read" and total and done >= total:
        note = "scoring follows"
    return " · ".join(part for part in (stage, amount, note) if part and part != "stopping")
