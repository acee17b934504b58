"""A job whose end is far makes room for whoever waits, goes on by itself, and loses nothing."""

import threading
import time
from types import SimpleNamespace

import pytest
from test_space_fair import owner
from waiting import until

from hubmerge.errors import Interrupted
from hubmerge.hub.patience import stoppable
from hubmerge.progress import Event
from space.settings import Settings
from space.views.job import describe_job
from space.work.job import Job
from space.work.jobs import Jobs
from space.work.shifts import LONGEST, Shifts

MINUTE = 60.0


class Clock:
    """The time of day that jobs see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        shown = SimpleNamespace(time=lambda: self.now, monotonic=time.monotonic)
        for module in ("job", "jobs"):
            monkeypatch.setattr(f"space.work.{module}.time", shown)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


class Endless:
    """Work that reports until it is let go; `begun` and `reports` know it by the name in its spec."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, bool]] = []
        self.reports: dict[str, int] = {}
        self.points = False
        self.end = threading.Event()

    def __call__(self, work):
        name = work.spec["name"]
        self.begun.append((name, work.resume))
        data = {"attempt": len(self.begun)} if self.points else {}
        while not self.end.wait(0.002):
            self.reports[name] = self.reports.get(name, 0) + 1
            work.report(Event("merge", 0, 0, data=data))
        return {"name": name}

    def again(self, *names: str) -> None:
        """Returns once each of these has reported anew."""
        for name in names:
            seen = self.reports.get(name, 0)
            until(lambda name=name, seen=seen: self.reports.get(name, 0) > seen + 2, f"{name} does not report")


@pytest.fixture
def endless():
    made = Endless()
    yield made
    made.end.set()


def made(tmp_path, endless: Endless, **settings) -> Jobs:
    kinds = {"merge": endless, "publish": endless, "evolve": lambda work: {}}
    return Jobs(tmp_path, kinds, shift_minutes=10, **settings)


def begin(jobs: Jobs, person: str, kind: str = "merge", name: str | None = None) -> Job:
    return jobs.submit(owner(f"key of {person}", person), kind, "", {"name": name or person})


def state(jobs: Jobs, job: Job) -> Job:
    return jobs.get(job.owner, job.id)


def becomes(jobs: Jobs, job: Job, status: str) -> Job:
    until(lambda: state(jobs, job).status == status, lambda: state(jobs, job))
    return state(jobs, job)


def test_two_jobs_without_end_do_not_keep_the_workers_from_others(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless)
    held = [begin(jobs, "alice"), begin(jobs, "bob")]
    endless.again("alice", "bob")
    clock.now += 9 * MINUTE
    quick = begin(jobs, "carol", "evolve")
    endless.again("alice", "bob")
    assert state(jobs, quick).status == "queued" and len(endless.begun) == 2
    clock.now += 2 * MINUTE
    becomes(jobs, quick, "done")
    # The other may have made room for the one that did: both go on.
    until(lambda: len(endless.begun) >= 3, "nobody goes on")
    endless.again("alice", "bob")
    assert all(resumed for _, resumed in endless.begun[2:]), "it began anew"
    for job in held:
        becomes(jobs, job, "running")
    clock.now += MINUTE
    assert {state(jobs, job).seconds for job in held} == {12 * MINUTE}  # of all its shifts
    assert [state(jobs, job).status for job in held] == ["running", "running"]
    endless.end.set()
    for job in held:
        assert becomes(jobs, job, "done").result == job.spec
    jobs.close()


def test_nobody_makes_room_for_nobody_nor_for_oneself(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless)
    begin(jobs, "alice")
    begin(jobs, "bob")
    endless.again("alice", "bob")
    clock.now += 1000 * MINUTE
    endless.again("alice", "bob")
    begin(jobs, "alice", "evolve")
    begin(jobs, "bob", "evolve")
    endless.again("alice", "bob")
    assert jobs.counts() == {"running": 2, "queued": 2} and len(endless.begun) == 2
    jobs.close()


def test_a_push_is_not_taken_apart(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless, workers=1)
    begin(jobs, "alice", "publish")
    endless.again("alice")
    clock.now += 1000 * MINUTE
    begin(jobs, "bob", "evolve")
    endless.again("alice")
    assert jobs.counts() == {"running": 1, "queued": 1}
    endless.end.set()
    until(lambda: jobs.counts() == {"running": 0, "queued": 0}, jobs.counts)
    jobs.close()


def test_what_gets_no_further_is_stopped_and_said(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless, workers=1)
    job = begin(jobs, "alice")
    for shift in (10, 10, 20, 40, 80):
        endless.again("alice")
        clock.now += (shift - 1) * MINUTE
        other = begin(jobs, "bob", "evolve")
        endless.again("alice")
        assert state(jobs, other).status == "queued", shift
        clock.now += 2 * MINUTE
        becomes(jobs, other, "done")
    ended = becomes(jobs, job, "cancelled")
    assert "1 h 21 min at a time bring this job no further; Resume it when fewer people are here" in ended.error
    jobs.resume(job.owner, job.id)
    endless.again("alice")
    assert state(jobs, job).seconds == 0 and not state(jobs, job).error
    jobs.close()


def test_the_most_of_a_job_counts_all_its_shifts(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless, workers=1, most_minutes=25)
    job = begin(jobs, "alice")
    endless.again("alice")
    clock.now += 20 * MINUTE
    becomes(jobs, begin(jobs, "bob", "evolve"), "done")
    endless.again("alice")
    clock.now += 6 * MINUTE
    assert "after 25 minutes" in becomes(jobs, job, "cancelled").error
    jobs.close()


def test_one_that_makes_room_says_so_and_can_be_cancelled(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless, workers=1)
    job = begin(jobs, "alice")
    endless.again("alice")
    clock.now += 11 * MINUTE
    begin(jobs, "bob", "publish")
    waits = becomes(jobs, job, "queued")
    assert waits.seconds == 11 * MINUTE and "makes room for others; goes on by itself" in describe_job(waits)
    assert jobs.cancel(job.owner, job.id).status == "cancelled"
    jobs.close()


def test_points_are_told_once(tmp_path, clock, endless) -> None:
    jobs = made(tmp_path, endless, workers=1)
    endless.points = True
    job = begin(jobs, "alice")
    endless.again("alice")
    clock.now += 11 * MINUTE
    becomes(jobs, begin(jobs, "bob", "evolve"), "done")
    until(lambda: len(endless.begun) == 2, "it does not go on")
    endless.again("alice")
    assert {point["attempt"] for point in jobs.points(job.owner, job.id)} == {2}
    jobs.close()


def test_shifts_double_while_they_bring_nothing() -> None:
    shifts = Shifts(10)
    assert not shifts.over("a", 600) and shifts.over("a", 601)
    assert shifts.another("a", (3, "search", 3)) and shifts.another("a", (5, "search", 5))
    assert shifts.another("a", (5, "validate", 0)) and shifts.over("a", 601)
    assert shifts.another("a", (5, "validate", 0)) and not shifts.over("a", 1200) and shifts.over("a", 1201)
    assert [shifts.another("a", (5, "validate", 0)) for _ in range(3)] == [True, True, False]
    assert not shifts.over("a", LONGEST * 600) and shifts.over("b", 601)
    shifts.forget("a")
    assert shifts.over("a", 601) and not Shifts(0).over("a", 1e9)


def test_the_length_comes_from_the_environment(tmp_path) -> None:
    here = {"HUBMERGE_SPACE_DIR": str(tmp_path)}
    assert Settings.from_environment(here).shift_minutes == 10
    assert Settings.from_environment({**here, "HUBMERGE_SPACE_SHIFT_MINUTES": "0"}).shift_minutes == 0


def test_a_search_stops_between_two_answers_of_one_candidate(tiny_search) -> None:
    from hubmerge.evaluate.task import load_task
    from hubmerge.evolve.examples.asked import Asked as Asked
    from hubmerge.evolve.workers.judge import make_judge

    search, looks = tiny_search(), []
    judge = make_judge(search, load_task(search.task))

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise Interrupted("stopped")

    with stoppable(check), pytest.raises(Interrupted):
        judge.measure(search.models[0], Asked("search"))
    assert len(looks) == 2
