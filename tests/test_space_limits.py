"""What a page takes on: what is too large is refused from headers, and a job is stopped at its time."""

import threading
import time

import pytest
from waiting import until

from hubmerge.errors import HubmergeError, ResourceError
from hubmerge.evolve.search import Search
from hubmerge.hub import open_source
from hubmerge.progress import Event
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from space.limits import Limits
from space.settings import Settings
from space.work.job import Work
from space.work.jobs import Jobs
from space.work.runners import runners

SMALL = 1e-6  # GB: the siblings have some 40 kB


@pytest.fixture
def recipe(siblings) -> Recipe:
    models = [{"model": str(siblings[name]), "parameters": {"weight": 0.5}} for name in ("math", "japanese")]
    return Recipe.from_dict({"merge_method": "linear", "models": models})


@pytest.fixture
def search(tiny_search) -> Search:
    return tiny_search()


def test_a_model_or_a_result_that_is_too_large_is_refused_by_its_plan(recipe, siblings) -> None:
    assert not Limits().plan(recipe, None).errors
    assert not Limits(model_gb=1, disk_gb=1, minutes=1).plan(recipe, None).errors
    for limits, says in (
        (Limits(model_gb=SMALL), rf"{siblings['math']} has [\d.]+ kB of weights .* at most 1e-06 GB .*_MAX_MODEL_GB"),
        (Limits(disk_gb=SMALL), r"The merge takes up to [\d.]+ MB of disk .* at most 1e-06 GB .*_MAX_DISK_GB"),
    ):
        with pytest.raises(ResourceError, match=says):
            limits.plan(recipe, None).require()


def test_a_model_is_too_large_to_talk_to(siblings) -> None:
    source = open_source(ModelRef(str(siblings["math"])))
    Limits(model_gb=1).require_model(source)
    with pytest.raises(ResourceError, match="MAX_MODEL_GB"):
        Limits(model_gb=SMALL).require_model(source)


@pytest.mark.parametrize("limits", [Limits(model_gb=SMALL), Limits(disk_gb=SMALL)])
@pytest.mark.parametrize("kind", ["merge", "evolve"])
def test_jobs_are_refused_before_they_write_anything(recipe, search, tmp_path, kind, limits) -> None:
    spec = {"recipe": recipe.to_yaml()} if kind == "merge" else {"search": search.to_dict()}
    what = {"merge": "The merge takes", "evolve": "The winner of this search takes"}[kind]
    with pytest.raises(ResourceError, match="MAX_MODEL_GB" if limits.model_gb else what):
        runners(limits)[kind](Work(spec, tmp_path, None, lambda event: None, False))
    assert not list(tmp_path.iterdir())


def test_a_job_ends_at_its_time_and_can_be_resumed(tmp_path) -> None:
    def long(work: Work):
        while not work.resume:
            work.report(Event("wait", 0, 0))
            time.sleep(0.005)
        return {"resumed": True}

    jobs = Jobs(tmp_path, {"long": long}, most_minutes=0.002)
    job = jobs.submit("alice", "long", "long", {})
    now = ended(jobs, job)
    assert now.status == "cancelled" and now.seconds >= 0.12
    assert "0.002 minutes" in now.error and "HUBMERGE_SPACE_MAX_MINUTES" in now.error and "Resume" in now.error
    jobs.resume("alice", job.id)
    now = ended(jobs, job)
    assert now.status == "done" and now.result == {"resumed": True} and not now.error
    jobs.close()


def test_a_search_stopped_at_its_time_goes_on_from_its_journal(search, tmp_path) -> None:
    from hubmerge.evolve.records.journal import read_evaluations

    begun, late = threading.Event(), threading.Event()

    def slowly(work: Work):
        def report(event: Event) -> None:
            if event.stage == "search" and event.done == 3 and not work.resume:
                begun.set()
                late.wait()
            work.report(event)

        return runners(Limits())["evolve"](Work(work.spec, work.folder, work.token, report, work.resume))

    jobs = Jobs(tmp_path, {"evolve": slowly}, most_minutes=1)
    job = jobs.submit("alice", "evolve", "search", {"search": search.to_dict()})
    begun.wait()
    jobs._most_minutes = 1e-9
    late.set()
    now = ended(jobs, job)
    assert now.status == "cancelled" and "Resume" in now.error
    journal = next(tmp_path.rglob("journal.jsonl"))
    before = read_evaluations(journal)
    assert 3 <= len(before) < 8
    jobs._most_minutes = 1
    jobs.resume("alice", job.id)
    assert ended(jobs, job).status == "done"
    assert read_evaluations(journal)[: len(before)] == before
    jobs.close()


def ended(jobs: Jobs, job):
    until(lambda: not jobs.get("alice", job.id).active, lambda: jobs.get("alice", job.id))
    return jobs.get("alice", job.id)


def test_limits_come_from_the_environment(tmp_path) -> None:
    environment = {"HUBMERGE_SPACE_DIR": str(tmp_path)}
    assert Settings.from_environment(environment).limits == Limits()
    given = {f"HUBMERGE_SPACE_MAX_{name}": value for name, value in (("MODEL_GB", "20"), ("MEMORY_GB", "1.5"))}
    limits = Settings.from_environment({**environment, **given}).limits
    assert limits == Limits(20.0, memory_gb=1.5) and limits.memory == 1_500_000_000 and Limits().memory is None
    for wrong in ("-1", "nan", "much"):
        with pytest.raises(HubmergeError, match="HUBMERGE_SPACE_MAX_MINUTES must be"):
            Settings.from_environment({**environment, "HUBMERGE_SPACE_MAX_MINUTES": wrong})
