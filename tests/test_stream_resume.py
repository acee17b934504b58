"""A merge that breaks goes on where it stopped, and nothing in its folder is mistaken for its result."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from test_stream_merge import Siblings, load, recipe

from hubmerge.errors import Interrupted, PlanError, ResourceError
from hubmerge.progress import Event
from hubmerge.stream.executor import MergeResult, merge
from hubmerge.stream.plan import Plan, make_plan

KILLS = {0: 0, 12_000: 1, 30_000: 3}
"""Bytes merged when the merge is killed, and how many shards are finished then."""


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """The sha256 and the time of every shard."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.glob("*.safetensors")
    }


@pytest.fixture(scope="module")
def plan(siblings: Siblings) -> Plan:
    return make_plan(recipe(siblings, "dare_ties"), shard_size=9000)


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> MergeResult:
    return merge(plan, tmp_path_factory.mktemp("whole") / "out")


def stopped_after(plan: Plan, out: Path, nbytes: int) -> None:
    def stop(event: Event) -> None:
        if event.done >= nbytes:
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        merge(plan, out, progress=stop)


@pytest.fixture(scope="module")
def killed(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is left, for each of `KILLS`, of a merge that is killed there: a copy taken at that moment."""
    root = tmp_path_factory.mktemp("killed")

    def copy(event: Event) -> None:
        for nbytes in KILLS:
            if event.done >= nbytes and not (root / str(nbytes)).exists():
                shutil.copytree(root / "out", root / str(nbytes))

    merge(plan, root / "out", progress=copy)
    return root


@pytest.mark.parametrize("nbytes", KILLS)
def test_killed_at_any_point_the_rerun_ends_in_the_same_bytes(
    nbytes: int, killed: Path, plan: Plan, whole: MergeResult
) -> None:
    out = killed / str(nbytes)
    before = state(out)
    assert not (out / "config.json").exists()
    result = merge(plan, out)
    assert result.kept == len(before) == KILLS[nbytes]
    assert result.tensors == whole.tensors
    after = state(out)
    assert {file: after[file] for file in before} == before, "finished shards are not written again"
    assert {file: digest for file, (digest, _) in after.items()} == {
        file: digest for file, (digest, _) in state(whole.folder).items()
    }
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.folder.iterdir())
    load(out)


def test_the_same_merge_again_changes_no_weight(plan: Plan, tmp_path: Path) -> None:
    first = merge(plan, tmp_path / "out")
    before = state(tmp_path / "out")
    again = merge(plan, tmp_path / "out")
    assert again.kept == len(plan.shards)
    assert again.tensors == first.tensors
    assert state(tmp_path / "out") == before


def test_a_shard_that_changed_since_is_written_again(plan: Plan, whole: MergeResult, tmp_path: Path) -> None:
    stopped_after(plan, tmp_path / "out", 20_000)
    damaged = tmp_path / "out/model-00001-of-00005.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    result = merge(plan, tmp_path / "out")
    assert result.kept == 1
    assert result.tensors == whole.tensors
    assert state(tmp_path / "out").keys() == state(whole.folder).keys()


def test_another_merge_is_refused_in_a_finished_folder(siblings: Siblings, plan: Plan, tmp_path: Path) -> None:
    merge(plan, tmp_path / "out")
    (tmp_path / "out/README.md").write_text("# The old model\n")
    (tmp_path / "out/notes.txt").write_text("mine")
    before = state(tmp_path / "out")
    other = recipe(siblings, "ties")
    with pytest.raises(PlanError, match=r"already holds the finished model of another merge.*\(--overwrite\)"):
        merge(other, tmp_path / "out")
    assert state(tmp_path / "out") == before
    assert not (tmp_path / "out/.hubmerge").exists()
    result = merge(other, tmp_path / "out", overwrite=True)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {name for name in left if "safetensors" in name} == {"model.safetensors"}, "no stale shard, no stale index"
    assert "README.md" not in left, "nor the old model's card"
    assert (tmp_path / "out/notes.txt").read_text() == "mine"
    assert result.kept == 0
    load(tmp_path / "out")


def test_a_folder_with_files_of_others_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(PlanError, match=r"already holds other files \(model\.safetensors\); choose an empty folder"):
        merge(plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    merge(plan, tmp_path, overwrite=True)
    assert not (tmp_path / "model.safetensors").exists()
    load(tmp_path)


def test_what_another_broken_merge_left_is_cleared(siblings: Siblings, plan: Plan, tmp_path: Path) -> None:
    stopped_after(plan, tmp_path / "out", 20_000)
    (tmp_path / "out/.hubmerge/.model-00003-of-00005.safetensors.partial").write_bytes(b"half")
    result = merge(recipe(siblings, "ties"), tmp_path / "out")
    assert result.kept == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("model*")) == ["model.safetensors"]


def test_a_model_that_changed_since_is_not_resumed(siblings: Siblings, tmp_path: Path) -> None:
    changing = shutil.copytree(siblings["math"], tmp_path / "changing")
    sources = {**siblings, "math": changing}
    stopped_after(make_plan(recipe(sources), shard_size=9000), tmp_path / "out", 20_000)
    shutil.copyfile(siblings["japanese"] / "model.safetensors", changing / "model.safetensors")
    result = merge(recipe(sources), tmp_path / "out", shard_size=9000)
    assert result.kept == 0
    assert result.tensors == merge(recipe(sources), tmp_path / "whole").tensors


def test_a_second_merge_at_once_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / ".hubmerge").mkdir()
    with FileLock(tmp_path / ".hubmerge/lock"), pytest.raises(ResourceError, match="Another merge is writing to"):
        merge(plan, tmp_path)


def test_a_file_in_place_of_the_folder(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(PlanError, match="is a file; choose a folder"):
        merge(plan, tmp_path / "out")


def test_a_journal_of_somebody_else_says_nothing(plan: Plan, whole: MergeResult, tmp_path: Path) -> None:
    (tmp_path / ".hubmerge").mkdir()
    (tmp_path / ".hubmerge/journal.json").write_text(json.dumps(["not", "ours"]))
    assert merge(plan, tmp_path).tensors == whole.tensors
