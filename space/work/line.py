"""Who is next: the line of jobs that wait, fair among people."""

from collections.abc import Mapping, Sequence

from ..visitors.access import Token
from .job import Job

Entry = tuple[str, Token, bool]
"""A job's id, its owner's token, and whether it goes on from an earlier attempt."""


def ready(queue: Sequence[Entry], jobs: Mapping[str, Job], workers: int, without: str | None = None) -> list[Entry]:
    """What may begin now, the next first; `without`: as it were if that running job waited, last in line.

    Next is the first in line among those whose people have the fewest jobs at work. A person never has all workers, so
    that nobody waits for the end of what a single other began.
    """
    running = [job for job in jobs.values() if job.status == "running" and job.id != without]
    people, owners = [job.who for job in running], [job.owner for job in running]

    def at_work(entry: Entry) -> tuple[int, int]:
        job = jobs[entry[0]]
        return people.count(job.who), owners.count(job.owner)

    line = [*queue, *([] if without is None else [(without, None, True)])]
    may = [entry for entry in line if not jobs[entry[0]].person or at_work(entry)[0] < max(1, workers - 1)]
    return sorted(may, key=at_work)
