"""The Space as strangers use it: nobody reaches the server's token, its files, or another visitor's jobs."""

import json

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi
from space_server import ended

from hubmerge.deploy import MARKER

pytestmark = pytest.mark.slow

PUBLIC, PRIVATE = "alice/visitors-public", "alice/visitors-private"
RECIPE = "merge_method: linear\nmodels:\n- {model: MODEL}\n- {model: alice/visitors-public}\n"
SEARCH = """
models: [alice/visitors-public]
merge_method: linear
genome: {genes: {weight: [0, 2]}}
task: TASK
"""


@pytest.fixture(scope="module")
def address(public_page, siblings):
    """Of a Space whose owner gave it a token that reads everything of alice."""
    api = HfApi()
    for repo_id, name, private in ((PUBLIC, "math", False), (PRIVATE, "japanese", True)):
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(folder_path=siblings[name], repo_id=repo_id)
    with public_page.quietly() as url:
        yield url


@pytest.fixture(scope="module")
def visitor(address):
    client = Client(address, verbose=False)
    yield client
    client.close()


def test_what_was_deployed_is_what_runs(public_page, visitor):
    assert json.loads((public_page.home / MARKER).read_text())["files"]
    for package in ("hubmerge", "space"):  # where they are imported from, there they are compiled
        assert list((public_page.home / package / "__pycache__").glob("__init__.*.pyc"))
    assert visitor.predict(api_name="/health")["running"] >= 0


def test_the_owners_token_is_out_of_reach(visitor):
    assert visitor.predict("visitors", api_name="/search") == [PUBLIC]
    assert visitor.predict(RECIPE.replace("MODEL", PUBLIC + "@main"), api_name="/plan")["tensors"] == 29
    with pytest.raises(AppError, match="no such repository, or it is private"):
        visitor.predict(RECIPE.replace("MODEL", PRIVATE), api_name="/plan")
    with pytest.raises(AppError, match="sign in with Hugging Face"):
        visitor.predict("0" * 16, "alice/stolen", api_name="/publish")


def test_folders_and_files_of_the_server_are_out_of_reach(visitor, siblings):
    with pytest.raises(AppError, match="folder of this server"):
        visitor.predict(RECIPE.replace("MODEL", str(siblings["math"])), api_name="/plan")
    with pytest.raises(AppError, match="folder of this server"):
        visitor.predict(str(siblings["math"]), "hello", api_name="/chat")
    for task in ("/etc/passwd", "{examples: {folder: /etc, test: passwd.csv}}"):
        for endpoint in ("/evolve", "/plan"):
            with pytest.raises(AppError, match="names files of this server"):
                visitor.predict(SEARCH.replace("TASK", task), api_name=endpoint)


def test_a_search_is_planned_where_a_merge_is(visitor):
    rows = [{"question": f"w{number}", "answer": f"{number}"} for number in range(27)]
    task = json.dumps(
        {"examples": {"search": rows[:9], "validation": rows[9:18], "test": rows[18:]}, "max_new_tokens": 8}
    )
    told = visitor.predict(SEARCH.replace("TASK", task), api_name="/plan")
    [phase] = told["phases"]
    assert (phase["space"], phase["searcher"]) == ("ps", "cmaes") and phase["genes"][0] > 1
    assert told["search"].startswith("models:") and list(told["sources"]) == [PUBLIC]
    assert 0 < told["output_bytes"] < told["peak_memory"]
    assert not [one for one in told["problems"] if one["level"] == "error"]
    with pytest.raises(AppError, match="on the page: Evolve, for programs /evolve"):
        visitor.predict(SEARCH.replace("TASK", task), api_name="/merge")
    with pytest.raises(AppError, match="on the page: Merge, for programs /merge"):
        visitor.predict(RECIPE.replace("MODEL", PUBLIC), api_name="/evolve")


def test_anybody_may_ask_for_the_health_and_learns_counts_alone(visitor):
    told = visitor.predict(api_name="/health")
    assert set(told) == {"running", "waiting", "memory_used", "memory_total", "disk_free"}
    assert all(isinstance(value, int) for value in told.values())
    assert 0 < told["memory_used"] <= told["memory_total"]


def test_a_job_is_its_owners_alone(visitor, address):
    job = visitor.predict(RECIPE.replace("MODEL", PUBLIC + "@main"), api_name="/merge")
    told = ended(lambda: visitor.predict(job, api_name="/job"))
    assert told["status"] == "done", told
    assert "folder" not in told["result"]
    assert isinstance(visitor.predict(job, "w1 2 w3", max_new_tokens=4, api_name="/chat"), str)
    stranger = Client(address, verbose=False)
    for endpoint in ("/job", "/cancel"):
        with pytest.raises(AppError, match="no job"):
            stranger.predict(job, api_name=endpoint)
    with pytest.raises(AppError, match="no such repository"):
        stranger.predict(job, "hello", api_name="/chat")
    stranger.close()
