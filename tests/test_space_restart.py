"""A server that is killed goes on with its jobs when it is started again."""

from pathlib import Path

import pytest
import yaml
from gradio_client import Client
from space_server import ended, running
from waiting import until

from hubmerge.evolve.journal import read_evaluations

pytestmark = pytest.mark.slow

ME = {"Authorization": "Bearer hf_alice"}  # jobs of a client that sends a token are found again by it
BASE, MATH, JAPANESE = (f"alice/restart-{name}" for name in ("base", "math", "japanese"))
EVALUATIONS = 60


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


def test_killed_in_a_search_and_in_a_push(hub, published, tmp_path: Path) -> None:
    environment = hub.environment("alice")
    with running(environment, tmp_path) as (url, process):
        client = Client(url, headers=ME, verbose=False)
        job = client.predict(search(), api_name="/evolve")

        def told():
            return client.predict(job, api_name="/job")

        def searched() -> int:
            progress = told()["progress"]
            return progress["done"] if progress.get("stage") == "search" else 0

        until(lambda: searched() >= 8, told, every=0.1)
        process.kill()
        process.wait()
    journal = next((tmp_path / "jobs").rglob("journal.jsonl"))
    before = read_evaluations(journal)
    assert 8 <= len(before) < EVALUATIONS
    with running(environment, tmp_path) as (url, process):
        client = Client(url, headers=ME, verbose=False)
        assert (now := ended(told))["status"] == "done", now
        after = read_evaluations(journal)
        assert after[: len(before)] == before
        assert [evaluation.number for evaluation in after] == list(range(EVALUATIONS))
        pushed = client.predict(job, "alice/restart-pushed", True, api_name="/publish")
        process.kill()
        process.wait()
    with running(environment, tmp_path) as (url, _):
        client = Client(url, headers=ME, verbose=False)
        job = pushed
        assert (now := ended(told))["status"] == "done", now
    files = {sibling.rfilename for sibling in published.model_info("alice/restart-pushed").siblings}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files
