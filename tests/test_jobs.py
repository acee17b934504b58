"""`--on jobs:FLAVOR`: a command becomes a job of the Hub, is followed, found again and stopped, and its result comes
here."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hubtools import publish
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from jobtools import apart, here

from hubmerge import __version__
from hubmerge.errors import HubmergeError
from hubmerge.jobs.asked import mirror_of
from hubmerge.jobs.running import Jobs
from hubmerge.jobs.script import Work
from hubmerge.localhub import LocalHub

NAMES = ("base", "math", "japanese")
ROWS = [{"question": f"{n} w{n}", "answer": str(n)} for n in range(12)]
TASK = {"name": "tiny", "examples": {"search": ROWS[:4], "test": ROWS[4:]}, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def models(hub: LocalHub, siblings: dict[str, Path]) -> dict[str, str]:
    """The siblings on the Hub, by name."""
    for name in NAMES:
        publish(f"alice/job-{name}", {path.name: path.read_bytes() for path in siblings[name].iterdir()})
    return {name: f"alice/job-{name}" for name in NAMES}


@pytest.fixture
def search(models: dict[str, str], tmp_path: Path) -> Path:
    """A search over them, in a file."""
    document = {
        "base_model": models["base"],
        "models": [models["math"], models["japanese"]],
        "merge_method": "task_arithmetic",
        "genome": {"granularity": "model", "genes": {"weight": [0, 2]}},
        "task": TASK,
        "baselines": [],
        "searcher": {"name": "cmaes", "popsize": 4, "evaluations": 4},
    }
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def recipe(models: dict[str, str], tmp_path: Path) -> Path:
    """A merge of two of them, in a file."""
    path = tmp_path / "recipe.yaml"
    named = [{"model": models[name], "parameters": {"weight": 0.5}} for name in NAMES[1:]]
    path.write_text(yaml.safe_dump({"merge_method": "linear", "models": named}))
    return path


def header(script: str) -> list[str]:
    """The lines of the script's metadata, as PEP 723 finds them."""
    (block,) = re.findall(r"(?m)^# /// script\n((?:^#(?:| .*)\n)+)^# ///$", script)
    return [line[2:] for line in block.splitlines()]


def script_of(job) -> str:
    (volume,) = job.told["volumes"]
    asked = {"repo_type": "dataset", "revision": volume["revision"]}
    return Path(HfApi().hf_hub_download(volume["source"], f"{volume['path']}/job.py", **asked)).read_text()


def test_a_search_runs_there_and_comes_back(call, hub, search: Path, tmp_path: Path) -> None:
    out = tmp_path / "job-run"
    with here(hub, tmp_path) as machine:
        done = call("evolve", search, "--out", out, "--on", "jobs:a10g-small", "--hours", "2")
    assert done.returncode == 0, (done.stderr, machine.job.lines)
    job = machine.job.told
    assert job["flavor"] == "a10g-small" and job["timeoutSeconds"] == 7200
    assert job["owner"]["name"] == "alice" and job["environment"] == {"HF_ENDPOINT": hub.endpoint}
    assert "hf_alice" not in json.dumps(job) and job["secrets"] == {"HF_TOKEN": ""}
    script = script_of(machine.job)
    assert header(script)[1] == f'dependencies = ["hubmerge[evolve,japanese,parquet,pictures]=={__version__}"]'
    assert "hf_alice" not in script + "".join(machine.job.lines) + done.stdout + done.stderr
    assert HfApi().dataset_info("alice/hubmerge-jobs").private
    # What is printed there is printed here, and all small files of the run are here.
    assert f"/jobs/alice/{machine.job.id}" in done.stderr
    assert any("search" in line for line in machine.job.lines) and machine.job.lines[0] in done.stderr
    assert "evolved" in done.stdout and "Winner" in done.stdout
    assert {"search.yaml", "journal.jsonl", "best.yaml", "results.json"} <= {path.name for path in out.iterdir()}
    assert call("report", out).returncode == 0
    # Again: nothing to do there but to read what the mirror holds.
    refused = call("evolve", search, "--out", out, "--on", "jobs:a10g-small")
    assert refused.returncode == 2 and "--resume" in refused.stderr


def test_a_merge_is_pushed_from_there(call, hub, recipe: Path, tmp_path: Path) -> None:
    with apart(hub, tmp_path) as machine:
        words = ("--push", "alice/job-merged", "--stream", "--memory", "1GB")
        done = call("merge", recipe, "--on", "jobs:cpu-basic", *words)
    assert done.returncode == 0, (done.stderr, machine.job.lines)
    assert 'dependencies = ["hubmerge==' in script_of(machine.job)
    assert call("verify", "alice/job-merged").returncode == 0


def test_a_score_comes_back(call, hub, models, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(TASK))
    words = ("eval", models["math"], "--task", tmp_path / "task.yaml", "--json")
    first = json.loads(call(*words).stdout)
    with here(hub, tmp_path) as machine:
        done = call(*words, "--on", "jobs:t4-small")
    assert done.returncode == 0, (done.stderr, machine.job.lines)
    there = json.loads(done.stdout)
    assert first.pop("seconds") >= 0 <= there.pop("seconds")
    assert there == first and there["n"] == 8 and there["split"] == "test"


def test_what_runs_is_followed_and_not_started_twice(call, hub, recipe: Path, monkeypatch) -> None:
    words = ("merge", recipe, "--on", "jobs:cpu-basic", "--push", "alice/job-twice")
    before, follow = len(hub.jobs), Jobs.follow

    def meanwhile(happens) -> None:
        """What happens to the job between its start and its log."""
        monkeypatch.setattr(Jobs, "follow", lambda self, *given: (happens(self), follow(self, *given))[-1])

    def ctrl_c(**_: object) -> None:
        raise KeyboardInterrupt

    meanwhile(lambda jobs: setattr(jobs._api, "fetch_job_logs", ctrl_c))
    stopped = call(*words)
    (job, *_) = hub.jobs
    assert stopped.returncode == 130 and f"hf jobs cancel {job.id}" in stopped.stderr and job.stage == "SCHEDULING"
    # The same command finds it; somebody stops it meanwhile.
    job.log("about to begin \x1b[31m")
    meanwhile(lambda jobs: HfApi().cancel_job(job_id=job.id))
    again = call(*words)
    assert len(hub.jobs) == before + 1
    assert again.returncode == 3 and "CANCELED" in again.stderr and "under way already" in again.stderr
    assert "about to begin \\x1b[31m" in again.stderr
    # It has ended: the same command starts another.
    meanwhile(lambda jobs: hub.jobs[0].move("ERROR", "no room"))
    third = call(*words)
    assert len(hub.jobs) == before + 2
    assert third.returncode == 3 and "ERROR (no room)" in third.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on", "modal:t4-small"], "takes jobs:FLAVOR"),
        (["--on", "jobs:"], "takes jobs:FLAVOR"),
        (["--on", "jobs:t4-smal"], "did you mean t4-small"),
        (["--on", "jobs:t4-small", "--hours", "0"], "must be more than 0"),
        (["--on", "jobs:t4-small", "--hours", "nan"], "must be more than 0"),
        (["--on", "jobs:t4-small", "--hours", "inf"], "at most 720"),
        (["--on", "jobs:t4-small", "--out", "here"], "give --push"),
    ],
)
def test_what_cannot_be_is_said_before_a_job_starts(call, hub, recipe: Path, words: list[str], said: str) -> None:
    before = len(hub.jobs)
    done = call("merge", recipe, *words, *([] if "--out" in words else ["--push", "alice/job-none"]))
    assert done.returncode == 2 and said in done.stderr and len(hub.jobs) == before


def test_what_lies_here_alone_is_refused(call, hub, search: Path, siblings, tmp_path: Path) -> None:
    before = len(hub.jobs)
    local = yaml.safe_load(search.read_text())
    models = [str(siblings["math"]), local["models"][1]]
    (tmp_path / "local.yaml").write_text(yaml.safe_dump({**local, "models": models}))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    files = {**TASK, "examples": {"search": "rows.jsonl", "test": ROWS[:1]}}
    (tmp_path / "files.yaml").write_text(yaml.safe_dump({**local, "task": files}))
    for name, said in (("local", "is a folder of this machine"), ("files", "examples.folder is of this machine")):
        done = call("evolve", tmp_path / f"{name}.yaml", "--out", tmp_path / "out", "--on", "jobs:t4-small")
        assert done.returncode == 2 and said in done.stderr
    assert len(hub.jobs) == before


def test_a_mirror_has_a_name_that_a_dataset_can_have() -> None:
    names = {"run": "run", "my run.2": "my-run-2", "__": "search", "日本": "search", "a--b": "a-b"}
    for folder, name in names.items():
        assert mirror_of("alice", Path("/runs") / folder, None) == f"alice/{name}"
    for wrong in ("a b/c", "run", "a/b/c"):
        with pytest.raises(HubmergeError):
            mirror_of("alice", Path("run"), wrong)


def test_no_token_goes_into_a_script() -> None:
    with pytest.raises(HubmergeError, match="looks like a token"):
        Work(["merge", "recipe.yaml"], {"recipe.yaml": "# hf_abcdefghijklmnopqrstuvwxyz0123\nmerge_method: linear\n"})
    text = "x: \"\\\" ''' {braces} \\n\"\n"
    script = Work(["merge", "recipe.yaml"], {"recipe.yaml": text}).script("alice/hubmerge-jobs")
    compile(script, "job.py", "exec")
    assert repr(text) in script


def test_jobs_are_their_owners_and_outlive_the_server(tmp_path: Path) -> None:
    users = {"alice": "hf_alice", "bob": "hf_bob"}
    with LocalHub(tmp_path / "hub", users) as server:
        alice, bob = (HfApi(endpoint=server.endpoint, token=f"hf_{name}") for name in users)
        asked = {"image": "python:3.12", "command": ["true"], "secrets": {"HF_TOKEN": "hf_alice"}}
        job = alice.run_job(**asked, labels={"of": "a"})
        for call in (
            lambda: bob.run_job(**asked, namespace="alice"),
            lambda: bob.inspect_job(job_id=job.id, namespace="alice"),
            lambda: bob.cancel_job(job_id=job.id, namespace="alice"),
            lambda: [*bob.fetch_job_logs(job_id=job.id, namespace="alice")],
            lambda: alice.run_job(image="python:3.12", command=["true"], flavor="h1000"),
        ):
            with pytest.raises(HfHubHTTPError):
                call()
        server.jobs[0].log("a line")
    assert b"hf_alice" not in b"".join(path.read_bytes() for path in (tmp_path / "hub" / "jobs").iterdir())
    with LocalHub(tmp_path / "hub", users) as server:
        alice = HfApi(endpoint=server.endpoint, token="hf_alice")
        found = {value: [one.id for one in alice.list_jobs(labels={"of": value}, namespace="alice")] for value in "ab"}
        assert found == {"a": [job.id], "b": []}
        alice.cancel_job(job_id=job.id)
        assert alice.wait_for_job(job.id).status.stage == "CANCELED"
        assert [*alice.fetch_job_logs(job_id=job.id, follow=True)] == ["a line"]
