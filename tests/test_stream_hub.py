"""Merging by Hub ID and straight back onto the Hub: pinned, lazily fetched, one commit, one shard of disk."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from test_stream_merge import Siblings, recipe

from hubmerge.errors import HubError, Interrupted, NotFoundError
from hubmerge.hub import Upload, push_folder
from hubmerge.localhub import LocalHub
from hubmerge.progress import Event
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import Plan, make_plan

CARD = b"---\nlicense: apache-2.0\n---\n# Card\n"


@pytest.fixture(scope="module")
def published(siblings: Siblings) -> dict[str, str]:
    """The siblings as repositories."""
    for name, folder in siblings.items():
        push_folder(folder, f"alice/stream-{name}", message="Upload", private=False)
    return {name: f"alice/stream-{name}" for name in siblings}


def titles(repo_id: str) -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(repo_id)]


def test_the_plan_fetches_no_weights_and_pins_commits(published: dict[str, str], siblings: Siblings, hub) -> None:
    hub.clear_log()
    plan = make_plan(recipe(published))
    assert plan.fetch_bytes == sum((folder / "model.safetensors").stat().st_size for folder in siblings.values())
    assert all(source.commit and f"@{source.commit}" in str(plan.recipe.to_dict()) for source in plan.sources)
    ranges = [request for request in hub.log if request.path.endswith("model.safetensors")]
    assert {request.status for request in ranges} == {206}


def test_same_bytes_from_the_hub_and_from_folders(
    published: dict[str, str], siblings: Siblings, tmp_path: Path
) -> None:
    events: list[Event] = []
    from_hub = merge(recipe(published), tmp_path / "hub", progress=events.append, shard_size=9000)
    from_folders = merge(recipe(siblings), tmp_path / "folders")
    assert from_hub.tensors == from_folders.tensors
    fetched = [event for event in events if event.stage == "fetch"]
    assert {(event.total, event.unit) for event in fetched} == {(3, "files")}
    done = [event.done for event in fetched]
    assert done == sorted(done)
    assert done[-1] == 3
    assert make_plan(recipe(published)).fetch_bytes == 0, "the shards are in the Hub cache now"


def test_a_commit_pushed_meanwhile_changes_nothing(published: dict[str, str], tmp_path: Path) -> None:
    plan = make_plan(recipe(published))
    HfApi().upload_file(path_or_fileobj=b"junk", path_in_repo="model.safetensors", repo_id=published["math"])
    try:
        result = merge(plan, tmp_path / "out")
        assert result.plan.sources[1].commit == plan.sources[1].commit
    finally:
        head = HfApi().list_repo_commits(published["math"])[1].commit_id
        whole = snapshot_download(published["math"], revision=head)
        push_folder(whole, published["math"], message="Put it back", private=False, overwrite=True)


def test_straight_onto_the_hub_one_shard_at_a_time(
    published: dict[str, str], siblings: Siblings, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "work"
    most = 0

    def watch(event: Event) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in out.glob("*") if "safetensors" in path.name))

    upload = Upload("alice/stream-merged")
    plan = make_plan(recipe(published), shard_size=9000, pushing=True)
    result = merge(plan, out, upload=upload, progress=watch, files={"README.md": CARD}, message="A merge")
    assert titles("alice/stream-merged") == ["A merge", "initial commit"]
    assert (result.repo, result.commit) == ("alice/stream-merged", HfApi().model_info("alice/stream-merged").sha)
    assert most <= 9000 + 2000, "never more than one shard (and its header) on disk"
    assert not out.exists()
    assert result.folder is None
    assert result.tensors == merge(recipe(siblings), tmp_path / "folder").tensors
    model, info = AutoModelForCausalLM.from_pretrained("alice/stream-merged", output_loading_info=True)
    assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained("alice/stream-merged")
    prompt = tokenizer("w1 w2", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=4, do_sample=False).shape[0] == 1
    assert make_plan(Recipe.from_dict({"merge_method": "linear", "models": [{"model": result.repo}]})).errors == ()


def break_push(plan: Plan, work: Path, repo_id: str) -> None:
    """Starts to push and stops when 20 kB, which are four shards, are merged."""

    def stop(event: Event) -> None:
        if event.stage == "merge" and event.done > 20_000:
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        merge(plan, work, upload=Upload(repo_id), progress=stop)


def uploads(hub: LocalHub, repo_id: str) -> list[str]:
    """The paths that large files were sent to."""
    return [request.path for request in hub.log if request.method == "PUT" and f"/{repo_id}/" in request.path]


def test_a_broken_push_shows_nothing_and_goes_on_without_uploading_again(
    published: dict[str, str], siblings: Siblings, tmp_path: Path, hub
) -> None:
    plan = make_plan(recipe(published), shard_size=9000, pushing=True)
    break_push(plan, tmp_path / "work", "alice/stream-broken")
    assert titles("alice/stream-broken") == ["initial commit"]
    left = [path for path in (tmp_path / "work").iterdir() if path.name != ".hubmerge"]
    assert sum(path.stat().st_size for path in left) <= 9000 + 2 * 8192, "two shards with their headers"
    before = uploads(hub, "alice/stream-broken")
    result = merge(plan, tmp_path / "work", upload=Upload("alice/stream-broken"))
    assert result.kept == 4
    sent = uploads(hub, "alice/stream-broken")
    assert len(before) >= 2
    assert len(sent) == len(plan.shards), "nothing goes up twice"
    assert len(titles("alice/stream-broken")) == 2
    folder = snapshot_download("alice/stream-broken", local_dir=tmp_path / "back")
    again = Recipe.from_dict({"merge_method": "linear", "models": [{"model": folder}]})
    assert merge(again, tmp_path / "copy").tensors == result.tensors
    assert result.tensors == merge(recipe(siblings), tmp_path / "folder").tensors


def test_uploads_that_the_hub_has_lost_are_made_again(published: dict[str, str], tmp_path: Path) -> None:
    plan = make_plan(recipe(published), shard_size=9000, pushing=True)
    break_push(plan, tmp_path / "work", "alice/stream-lost")
    journal = tmp_path / "work/.hubmerge/journal.json"
    state = json.loads(journal.read_text())
    target, _ = state["uploaded"]["model-00001-of-00009.safetensors"]
    state["uploaded"]["model-00001-of-00009.safetensors"] = target, "0" * 64
    journal.write_text(json.dumps(state))
    with pytest.raises(HubError):
        merge(plan, tmp_path / "work", upload=Upload("alice/stream-lost"))
    assert len(titles("alice/stream-lost")) == 1
    result = merge(plan, tmp_path / "work", upload=Upload("alice/stream-lost"))
    assert (result.kept, len(titles("alice/stream-lost"))) == (0, 2)


def test_shards_uploaded_to_one_repository_are_not_taken_for_another(published: dict[str, str], tmp_path: Path) -> None:
    plan = make_plan(recipe(published), shard_size=9000, pushing=True)
    break_push(plan, tmp_path / "work", "alice/stream-one")
    result = merge(plan, tmp_path / "work", upload=Upload("alice/stream-two"))
    assert result.kept <= 2, "only what is still on this disk"
    assert (result.repo, result.folder) == ("alice/stream-two", None)


def test_a_finished_folder_can_be_pushed_and_stays(siblings: Siblings, tmp_path: Path) -> None:
    plan = make_plan(recipe(siblings), shard_size=9000)
    first = merge(plan, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    result = merge(plan, tmp_path / "out", upload=Upload("alice/stream-later"))
    assert (result.kept, result.folder, result.tensors) == (5, tmp_path / "out", first.tensors)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    assert set(files) <= set(HfApi().list_repo_files("alice/stream-later"))


def test_an_unknown_repository_is_not_found(siblings: Siblings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        merge(recipe({**siblings, "math": "alice/stream-nowhere"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_can_come_from_another_repository(
    published: dict[str, str], siblings: Siblings, tmp_path: Path
) -> None:
    changed = shutil.copytree(siblings["base"], tmp_path / "changed")
    (changed / "generation_config.json").write_text('{"max_length": 17, "eos_token_id": 3}')
    config = (changed / "config.json").read_text().replace('"eos_token_id": 2', '"eos_token_id": 3')
    (changed / "config.json").write_text(config)
    result = merge(recipe(published, tokenizer_source=str(changed)), tmp_path / "out")
    assert '"max_length": 17' in (tmp_path / "out/generation_config.json").read_text()
    assert result.plan.config["eos_token_id"] == 3
    assert len(result.plan.sources) == 4
