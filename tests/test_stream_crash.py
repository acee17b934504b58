"""kill -9 at random moments: the rerun goes on with at most one shard lost and ends in the same bytes.

HUBMERGE_CRASHES sets how many moments are tried (3 each into a folder and onto the Hub).
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from test_stream_bytes import wide_siblings  # noqa: F401 (a fixture)
from test_stream_merge import Siblings, recipe

CRASHES = int(os.environ.get("HUBMERGE_CRASHES", "3"))

# Forks a process for every merge, so that imports are paid for once; kills each first one at a random moment.
DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path
from huggingface_hub import HfApi
from hubmerge.hub import Upload
from hubmerge.recipe import Recipe
from hubmerge.stream import executor
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

crashes, seed, targets = json.loads(sys.argv[1])

def run(recipe, out, repo, log):
    made = executor._Run._make
    def make(self, shard, *rest):
        os.write(log, f"{shard.file}\\n".encode())
        return made(self, shard, *rest)
    executor._Run._make = make
    if repo and HfApi().repo_exists(repo) and len(HfApi().list_repo_commits(repo)) > 1:
        os.write(log, b"was through\\n")
    plan = make_plan(recipe, shard_size=80_000 if repo else 50_000, pushing=bool(repo))
    result = merge(plan, out, upload=Upload(repo) if repo else None)
    os.write(log, json.dumps({"kept": result.kept, "tensors": result.tensors, "seconds": result.seconds}).encode())

def start(recipe, out, repo):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            run(recipe, out, repo, write)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    return child, os.fdopen(read)

def finish(child, log):
    lines = log.read().splitlines()
    _, status = os.waitpid(child, 0)
    return status, lines

def drive(root, repo_id):
    recipe = Recipe.from_yaml(root / "recipe.yaml")
    began = time.monotonic()
    status, lines = finish(*start(recipe, root / "whole", repo_id and repo_id + "-whole"))
    assert status == 0, lines
    whole, seconds, shards = json.loads(lines[-1]), time.monotonic() - began, len(lines) - 1
    random.seed(seed)
    runs = []
    for number in range(crashes):
        out, repo = root / str(number), repo_id and f"{repo_id}-{number}"
        child, log = start(recipe, out, repo)
        time.sleep(random.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        status, begun = finish(child, log)
        state, lines = finish(*start(recipe, out, repo))
        assert state == 0, lines
        through = lines[0] == "was through" or (bool(begun) and begun[-1].startswith("{"))
        lines = lines[lines[0] == "was through" :]
        again = json.loads(lines[-1])
        begun = [line for line in begun if line.endswith(".safetensors")]
        runs.append({
            "killed": status == signal.SIGKILL and not through, "begun": len(begun), "kept": again["kept"],
            "made": len(lines) - 1, "same": again["tensors"] == whole["tensors"],
        })
    return shards, runs

print(json.dumps([drive(Path(root), repo_id) for root, repo_id in targets]))
"""


REPOSITORY = "alice/crash"


@pytest.fixture(scope="module")
def driven(
    wide_siblings: Siblings,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Path, int, list[dict]]]:
    """Of a merge into a folder and one onto the Hub: where it worked, its shards, and how each killed run went on."""
    # Of a merge before it nothing is there to go on with, and nothing has to be.
    before = {"name": "before", **recipe(wide_siblings, "ties").to_dict()}
    recipes = {
        "": recipe({**wide_siblings, "math": "stage:before"}, "dare_ties", stages=[before]),
        REPOSITORY: recipe(wide_siblings, "dare_ties"),
    }
    roots = {repo_id: tmp_path_factory.mktemp("crash") for repo_id in recipes}
    for repo_id, root in roots.items():
        (root / "recipe.yaml").write_text(recipes[repo_id].to_yaml())
    job = json.dumps([CRASHES, 7, [(str(root), repo_id) for repo_id, root in roots.items()]])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, job], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = zip(roots.items(), json.loads(done.stdout), strict=True)
    return {repo_id: (root, shards, runs) for (repo_id, root), (shards, runs) in found}


def check(shards: int, runs: list[dict]) -> None:
    assert shards > 4
    assert len(runs) == CRASHES
    for run in runs:
        assert run["same"], run
        # At most the shard being written is written twice; a push that was through left nothing to go on with.
        assert not run["killed"] or run["begun"] - run["kept"] <= 1, run
        assert run["kept"] + run["made"] == shards, run
    assert any(run["killed"] for run in runs)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_into_a_folder(driven: dict[str, tuple[Path, int, list[dict]]]) -> None:
    root, shards, runs = driven[""]
    check(shards, runs)
    whole = contents(root / "whole")
    for number in range(CRASHES):
        assert contents(root / str(number)) == whole, "neither another byte nor a file too many"


@pytest.mark.slow
def test_onto_the_hub(driven: dict[str, tuple[Path, int, list[dict]]]) -> None:
    root, shards, runs = driven[REPOSITORY]
    check(shards, runs)
    whole = on_the_hub(f"{REPOSITORY}-whole")
    for number in range(CRASHES):
        assert on_the_hub(f"{REPOSITORY}-{number}") == whole
        assert not (root / str(number)).exists(), "nothing is left on this machine"


def on_the_hub(repo_id: str) -> dict[str, tuple[int, str]]:
    files = HfApi().list_repo_tree(repo_id, recursive=True)
    return {file.path: (file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in files}
