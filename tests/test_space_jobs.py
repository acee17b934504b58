"""Jobs of the Space: isolation, cancelling, bounds, and what survives a restart."""

import json
import threading
import time

import pytest
from waiting import until

from hubmerge.errors import HubmergeError, NotFoundError, RecipeError, ResourceError
from hubmerge.progress import Event
from space.work.jobs import Jobs


def wait(jobs, owner, job, status):
    """The job once it has `status`; fails with what it has instead."""
    until(lambda: jobs.get(owner, job.id).status == status, lambda: jobs.get(owner, job.id))
    return jobs.get(owner, job.id)


def count_to_three(work):
    for done in range(1, 4):
        work.report(Event("count", done, 3, "steps", data={"step": done}))
    return {"sum": 6, "token": work.token}


def until_cancelled(work):
    (work.folder / "begun").touch()
    while True:
        work.report(Event("wait", 0, 0))
        time.sleep(0.005)


def test_a_job_reports_ends_and_shows_only_to_its_owner(tmp_path):
    jobs = Jobs(tmp_path, {"count": count_to_three})
    job = jobs.submit("alice", "count", "counting", {"to": 3}, token="hf_secret")
    done = wait(jobs, "alice", job, "done")
    assert done.result["sum"] == 6 and done.event["done"] == 3 and done.event["unit"] == "steps"
    assert jobs.points("alice", job.id) == [{"step": 1}, {"step": 2}, {"step": 3}]
    assert jobs.of("alice") == [done] and jobs.of("bob") == []
    for reach in (jobs.get, jobs.cancel, jobs.resume, jobs.points, jobs.folder, jobs.remove):
        with pytest.raises(NotFoundError):
            reach("bob", job.id)
    jobs.close()


def test_closed_jobs_are_waited_for(tmp_path):
    held = threading.Event()
    jobs = Jobs(tmp_path, {"wait": until_cancelled, "hold": lambda work: {"held": held.wait()}})
    waiting, holding = (jobs.submit("alice", kind, "", {}) for kind in ("wait", "hold"))
    for job in (waiting, holding):
        wait(jobs, "alice", job, "running")
    jobs.close()
    assert not jobs.wait(0.0)  # one of them does not report
    held.set()
    assert jobs.wait(60.0)
    assert jobs.get("alice", waiting.id).status == "lost"  # the next server goes on with it


def test_no_token_is_written(tmp_path):
    jobs = Jobs(tmp_path, {"count": lambda work: {"had": work.token is not None}})
    job = jobs.submit("alice", "count", "counting", {}, token="hf_secret")
    assert wait(jobs, "alice", job, "done").result == {"had": True}
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any("hf_secret" in text for text in written)
    jobs.close()


def test_cancel_reaches_running_and_waiting_jobs_and_resume_goes_on(tmp_path):
    resumed = []

    def work(work):
        resumed.append(work.resume)
        return until_cancelled(work) if not work.resume else {"kept": (work.folder / "begun").exists()}

    jobs = Jobs(tmp_path, {"work": work}, workers=1)
    first = jobs.submit("alice", "work", "first", {})
    second = jobs.submit("alice", "work", "second", {})
    wait(jobs, "alice", first, "running")
    assert jobs.cancel("alice", second.id).status == "cancelled"
    jobs.cancel("alice", first.id)
    wait(jobs, "alice", first, "cancelled")
    jobs.resume("alice", first.id)
    assert wait(jobs, "alice", first, "done").result == {"kept": True}
    assert resumed == [False, True]
    jobs.close()


def test_errors_become_sentences(tmp_path, capsys):
    def wrong(work):
        raise RecipeError("The recipe needs a base_model.")

    def bug(work):
        raise KeyError("hf_secret")

    jobs = Jobs(tmp_path, {"wrong": wrong, "bug": bug})
    assert wait(jobs, "a", jobs.submit("a", "wrong", "", {}), "failed").error == "The recipe needs a base_model."
    failed = wait(jobs, "a", jobs.submit("a", "bug", "", {}), "failed")
    assert "KeyError" in failed.error and "hf_secret" not in failed.error
    assert "Traceback" in capsys.readouterr().err
    jobs.close()


def test_one_person_cannot_fill_the_queue_or_starve_others(tmp_path):
    order, gate = [], threading.Event()

    def work(work):
        gate.wait()
        order.append(work.spec["name"])
        return {}

    jobs = Jobs(tmp_path, {"work": work}, workers=2, active_per_owner=3)
    mine = [jobs.submit("alice", "work", "", {"name": f"alice {n}"}) for n in range(3)]
    with pytest.raises(ResourceError, match="3 jobs under way"):
        jobs.submit("alice", "work", "", {"name": "one too many"})
    theirs = jobs.submit("bob", "work", "", {"name": "bob"})
    gate.set()
    for owner, job in [*(("alice", job) for job in mine), ("bob", theirs)]:
        wait(jobs, owner, job, "done")
    assert sorted(order) == ["alice 0", "alice 1", "alice 2", "bob"]
    jobs.close()


def test_the_next_worker_goes_to_whoever_has_least_at_work(tmp_path):
    order, gates = [], {name: threading.Event() for name in ("a0", "a1", "a2", "b")}

    def work(work):
        order.append(work.spec["name"])
        gates[work.spec["name"]].wait()
        return {}

    jobs = Jobs(tmp_path, {"work": work}, workers=2)
    first = [jobs.submit("alice", "work", "", {"name": f"a{n}"}) for n in range(3)]
    for job in first[:2]:
        wait(jobs, "alice", job, "running")
    bob = jobs.submit("bob", "work", "", {"name": "b"})
    gates["a0"].set()
    wait(jobs, "bob", bob, "running")
    assert jobs.get("alice", first[2].id).status == "queued"
    for gate in gates.values():
        gate.set()
    wait(jobs, "alice", first[2], "done")
    jobs.close()


def test_a_restarted_server_knows_its_jobs_and_resumes_them(tmp_path):
    before = Jobs(tmp_path, {"work": until_cancelled})
    job = before.submit("alice", "work", "long", {"n": 1})
    wait(before, "alice", job, "running")
    # A killed server writes nothing more: what is on disk says "running".
    stored = json.loads((tmp_path / job.id / "job.json").read_text())
    assert stored["status"] == "running"
    after = Jobs(tmp_path, {"work": lambda work: {"resume": work.resume, "n": work.spec["n"]}})
    assert after.get("alice", job.id).status == "lost"
    after.resume("alice", job.id)
    assert wait(after, "alice", job, "done").result == {"resume": True, "n": 1}
    before.close()
    after.close()


def test_a_torn_point_and_a_foreign_file_do_not_stop_a_restart(tmp_path):
    jobs = Jobs(tmp_path, {"count": count_to_three})
    job = jobs.submit("alice", "count", "counting", {})
    wait(jobs, "alice", job, "done")
    jobs.close()
    with (tmp_path / job.id / "points.jsonl").open("a") as file:
        file.write('{"step": 4')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "job.json").write_text('{"id": 3, "unknown": true}')
    again = Jobs(tmp_path, {})
    assert [job.id for job in again.of("alice")] == [job.id]
    assert len(again.points("alice", job.id)) == 3
    again.close()


def test_old_jobs_are_cleaned_up_with_their_files(tmp_path):
    jobs = Jobs(tmp_path, {"count": count_to_three}, keep_seconds=1e-9)
    old = jobs.submit("alice", "count", "old", {})
    wait(jobs, "alice", old, "done")
    new = jobs.submit("alice", "count", "new", {})
    with pytest.raises(HubmergeError):
        jobs.get("alice", old.id)
    assert not (tmp_path / old.id).exists()
    wait(jobs, "alice", new, "done")
    jobs.close()
