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

from hubmerge.recipe import Recipe

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

recipe, root, repo_id, crashes = Recipe.from_yaml(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def run(out, repo, log):
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

def start(out, repo):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            run(out, repo, write)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    return child, os.fdopen(read)

def finish(child, log):
    lines = log.read().splitlines()
    _, status = os.waitpid(child, 0)
    return status, lines

began = time.monotonic()
status, lines = finish(*start(root / "whole", repo_id and repo_id + "-whole"))
assert status == 0, lines
whole, seconds = json.loads(lines[-1]), time.monotonic() - began
print(json.dumps({"shards": len(lines) - 1}), flush=True)
random.seed(int(sys.argv[5]))
for number in range(crashes):
    out, repo = root / str(number), repo_id and f"{repo_id}-{number}"
    child, log = start(out, repo)
    time.sleep(random.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    status, begun = finish(child, log)
    state, lines = finish(*start(out, repo))
    assert state == 0, lines
    through = lines[0] == "was through" or (bool(begun) and begun[-1].startswith("{"))
    lines = lines[lines[0] == "was through" :]
    again = json.loads(lines[-1])
    begun = [line for line in begun if line.endswith(".safetensors")]
    print(json.dumps({
        "killed": status == signal.SIGKILL and not through, "begun": len(begun), "kept": again["kept"],
        "made": len(lines) - 1, "same": again["tensors"] == whole["tensors"],
    }), flush=True)
"""


def drive(merged: Recipe, tmp_path: Path, repo_id: str) -> list[dict]:
    (tmp_path / "recipe.yaml").write_text(merged.to_yaml())
    arguments = [str(tmp_path / "recipe.yaml"), str(tmp_path), repo_id, str(CRASHES), "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shards, *runs = map(json.loads, done.stdout.splitlines())
    assert shards["shards"] > 4
    assert len(runs) == CRASHES
    for run in runs:
        assert run["same"], run
        # At most the shard being written is written twice; a push that was through left nothing to go on with.
        assert not run["killed"] or run["begun"] - run["kept"] <= 1, run
        assert run["kept"] + run["made"] == shards["shards"], run
    assert any(run["killed"] for run in runs)
    return runs


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_into_a_folder(wide_siblings: Siblings, tmp_path: Path) -> None:  # noqa: F811
    # Of a merge before it nothing is there to go on with, and nothing has to be.
    before = {"name": "before", **recipe(wide_siblings, "ties").to_dict()}
    drive(recipe({**wide_siblings, "math": "stage:before"}, "dare_ties", stages=[before]), tmp_path, "")
    whole = contents(tmp_path / "whole")
    for number in range(CRASHES):
        assert contents(tmp_path / str(number)) == whole, "neither another byte nor a file too many"


@pytest.mark.slow
def test_onto_the_hub(wide_siblings: Siblings, tmp_path: Path) -> None:  # noqa: F811
    drive(recipe(wide_siblings, "dare_ties"), tmp_path, "alice/crash")
    whole = on_the_hub("alice/crash-whole")
    for number in range(CRASHES):
        assert on_the_hub(f"alice/crash-{number}") == whole
        assert not (tmp_path / str(number)).exists(), "nothing is left on this machine"


def on_the_hub(repo_id: str) -> dict[str, tuple[int, str]]:
    files = HfApi().list_repo_tree(repo_id, recursive=True)
    return {file.path: (file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in files}
