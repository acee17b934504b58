"""A server that is killed goes on with its jobs when it is started again."""

import json
from typing import Any

import pytest
import yaml
from gradio_client import Client
from localhubtools import hold_delays
from space_server import Own, ended, in_this_process
from waiting import until

from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.localhub import Fault
from space import app
from space.state import PRODUCT, Page, owner_of
from space.tabs.publish import submit_publish

pytestmark = pytest.mark.slow

ME = {"Authorization": "Bearer hf_alice"}  # jobs of a client that sends a token are found again by it
BASE, MATH, JAPANESE = (f"alice/restart-{name}" for name in ("base", "math", "japanese"))
PUSHED, EVOLVED = "alice/restart-pushed", "alice/restart-evolved"
EVALUATIONS = 18


@pytest.fixture(scope="module")
def published(hub, siblings):
    from huggingface_hub import HfApi

    api = HfApi()
    for name, repo_id in (("base", BASE), ("math", MATH), ("japanese", JAPANESE)):
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(folder_path=siblings[name], repo_id=repo_id)
    return api


def search() -> str:
    rows = [{"question": f"w{n % 30} {n % 7} w{n // 30}", "answer": str(n % 7)} for n in range(60)]
    return yaml.safe_dump(
        {
            "models": [MATH, JAPANESE],
            "base_model": BASE,
            "merge_method": "task_arithmetic",
            "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}},
            "task": {
                "name": "sums",
                "examples": {"search": rows[:20], "validation": rows[20:40], "test": rows[40:]},
                "max_new_tokens": 24,
            },
            "searcher": {"name": "cmaes", "popsize": 6, "evaluations": EVALUATIONS, "seed": 1},
            "baselines": [],
        }
    )


def test_killed_in_a_search_and_in_a_push(hub, own_page: Own, published, monkeypatch: pytest.MonkeyPatch) -> None:
    delays, go_on = hold_delays(monkeypatch)

    def at_its_commit(request: Any) -> Fault | None:
        return Fault(delay=1, reset=True) if f"{PUSHED}/commit/" in request.url.path else None

    def searched() -> list[Any]:
        found = list((work / "jobs" / job).rglob("journal.jsonl"))
        return read_evaluations(found[0]) if found else []

    served = own_page.page()
    work = served.work / "jobs"
    hub.faults = at_its_commit
    try:
        client = Client(served.url, headers=ME, verbose=False)
        recipe = json.dumps({"merge_method": "linear", "models": [{"model": MATH}, {"model": JAPANESE}]})
        merged = client.predict(recipe, api_name="/merge")
        assert (now := ended(lambda: client.predict(merged, api_name="/job")))["status"] == "done", now
        pushed = client.predict(merged, PUSHED, api_name="/publish")
        until(lambda: delays, "no commit is sent")
        job = client.predict(search(), api_name="/evolve")
        until(lambda: len(searched()) >= 3, lambda: client.predict(job, api_name="/job"))
        own_page.kill()
        client.close()
    finally:
        hub.faults = None
        go_on.set()
    before = searched()
    assert 3 <= len(before) < EVALUATIONS
    assert not published.list_repo_commits(PUSHED)[1:]
    # The next server needs no process of its own: all that it knows is what the first left on disk.
    pages: list[Page] = []
    in_this_process(monkeypatch, work)
    monkeypatch.setattr(app, "add_endpoints", pages.append)
    app.build()
    [page], me = pages, owner_of("token hf_alice", None)

    def done(job_id: str) -> None:
        until(lambda: not page.jobs.get(me, job_id).active, lambda: page.jobs.get(me, job_id))
        assert (now := page.jobs.get(me, job_id)).status == "done", now

    for job_id in (pushed, job):
        done(job_id)
    after = searched()
    assert after[: len(before)] == before
    assert [evaluation.number for evaluation in after] == list(range(EVALUATIONS))
    done(submit_publish(page, me, PRODUCT + job, EVOLVED, True, "hf_alice").id)
    page.jobs.close()
    for repo_id in (PUSHED, EVOLVED):
        files = {sibling.rfilename for sibling in published.model_info(repo_id).siblings}
        assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files
