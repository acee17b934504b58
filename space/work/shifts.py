"""How long a job stays at work while others wait: a shift, after which it makes room and goes on from where it was."""

from collections.abc import Sequence
from typing import Any

LONGEST = 8
"""A shift becomes at most so many times as long as the first, for work that cannot be taken up in the middle."""

Reached = Sequence[Any]
"""How far a job is: its points, the stage, what is done of it."""


class Shifts:
    """The shifts of jobs by id: the first has `minutes` (0: no job ever makes room).

    One that brings a job no further than the shift before it did is followed by one of twice the length.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60
        self._times: dict[str, int] = {}
        self._reached: dict[str, Reached] = {}

    def over(self, job_id: str, seconds: float) -> bool:
        """Whether a job that has been at work for so long has had its shift."""
        return bool(self._seconds) and seconds > self._seconds * self._times.get(job_id, 1)

    def another(self, job_id: str, reached: Reached) -> bool:
        """Ends a shift; whether to give the job another, which makes no sense where the longest brought nothing."""
        points, stage, done = self._reached.get(job_id, (-1, "", 0))
        if reached[0] <= points and reached[1] == stage and reached[2] <= done:
            if self._times.get(job_id, 1) >= LONGEST:
                return False
            self._times[job_id] = 2 * self._times.get(job_id, 1)
        self._reached[job_id] = reached
        return True

    def forget(self, job_id: str) -> None:
        """Begins anew with a job."""
        self._times.pop(job_id, None)
        self._reached.pop(job_id, None)
