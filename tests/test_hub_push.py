"""Pushing: one commit that shows everything or nothing, private by default, and nothing of others touched."""

import hashlib
from pathlib import Path

import pytest
from hubtools import INDEX, checkpoint, on_path, publish, shard
from huggingface_hub import HfApi

from hubmerge.cli.options import show_push
from hubmerge.errors import AccessError, HubError, NetworkError, NotFoundError, SourceError
from hubmerge.hub import Upload, open_source, patience, push_folder
from hubmerge.hub import session as hub_session
from hubmerge.localhub import Fault
from hubmerge.progress import Event
from hubmerge.reference import ModelRef


@pytest.fixture
def faulty(hub):
    """The Hub, whose faults end with the test."""
    yield hub
    hub.faults = None


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def titles(repo_id: str) -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(repo_id)]


def names(repo_id: str) -> set[str]:
    return set(HfApi().list_repo_files(repo_id)) - {".gitattributes"}


def test_one_private_commit_after_the_local_files_are_gone(tmp_path: Path) -> None:
    files = checkpoint(shards=3)
    folder = folder_of(tmp_path, files)
    upload = Upload("alice/streamed")
    upload.start()
    before = titles("alice/streamed")
    for name in files:
        upload.add(name, folder / name)
        (folder / name).unlink()
    assert titles("alice/streamed") == before
    assert names("alice/streamed") == set()
    result = upload.commit("Merge of two models", "Written by a test.")
    assert titles("alice/streamed") == ["Merge of two models", *before]
    assert names("alice/streamed") == set(files)
    assert HfApi().model_info("alice/streamed").private is True
    assert result.commit == HfApi().model_info("alice/streamed").sha
    assert result.url.endswith(f"/alice/streamed/tree/{result.commit}")
    source = open_source(ModelRef("alice/streamed", result.commit))
    assert {name: source.local_path(name).read_bytes() for name in files} == files


def test_public_where_asked_and_left_as_it_is_after(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, checkpoint())
    push_folder(folder, "alice/open", private=False)
    (folder / "notes.txt").write_text("more")
    with pytest.raises(HubError, match="alice/open is public"):
        push_folder(folder, "alice/open")
    assert not push_folder(folder, "alice/open", private=False).hidden
    assert HfApi().model_info("alice/open").private is False


def test_what_was_private_stays_so_and_is_told(tmp_path: Path, capsys) -> None:
    folder = folder_of(tmp_path, checkpoint())
    push_folder(folder, "alice/shut")
    pushed = push_folder(folder, "alice/shut", private=False)
    assert pushed.hidden and HfApi().model_info("alice/shut").private is True
    show_push(pushed)
    assert "alice/shut was private before and stays so" in capsys.readouterr().err


def test_the_namespace_may_be_left_out_and_a_branch_named() -> None:
    upload = Upload("at-home", revision="exp/two")
    upload.start()
    upload.add("README.md", b"---\nlicense: mit\n---\n# Hello\n")
    result = upload.commit("Card")
    assert result.repo_id == "alice/at-home"
    assert names("alice/at-home") == set()
    assert HfApi().model_info("alice/at-home", revision="exp/two").sha == result.commit


def test_a_folder_goes_up_without_what_is_not_the_model(tmp_path: Path) -> None:
    files = checkpoint(shards=2)
    strays = {
        "model-00009-of-00009.safetensors": shard(["old"]),
        "pytorch_model.bin": b"\x80",
        "checkpoint-1/model.safetensors": shard(["old"]),
        ".hidden": b"secret",
        ".cache/x": b"secret",
    }
    events: list[Event] = []
    push_folder(folder_of(tmp_path, {**files, **strays}), "alice/clean", message="Push", progress=events.append)
    assert names("alice/clean") == set(files)
    assert titles("alice/clean")[0] == "Push"
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == events[-1].total == sum(len(content) for content in files.values())


def test_a_broken_model_is_not_pushed(tmp_path: Path, hub) -> None:
    files = checkpoint(shards=2)
    files["model-00002-of-00002.safetensors"] = files["model-00002-of-00002.safetensors"][:-1]
    hub.clear_log()
    with pytest.raises(SourceError, match="cut short"):
        push_folder(folder_of(tmp_path, files), "alice/broken")
    assert hub.log == []


def test_the_weights_of_an_earlier_model_go_in_the_same_commit(tmp_path: Path) -> None:
    publish("alice/again", {**checkpoint(shards=3), "extra/model.safetensors": shard(["x"]), "other.safetensors": b"x"})
    new = checkpoint(seed=9)
    with pytest.raises(HubError, match="is public"):
        push_folder(folder_of(tmp_path, new), "alice/again")
    with pytest.raises(HubError, match="already holds what hubmerge did not push"):
        push_folder(tmp_path, "alice/again", private=False)
    push_folder(tmp_path, "alice/again", private=False, overwrite=True, message="Smaller")
    assert titles("alice/again")[0] == "Smaller"
    assert names("alice/again") == {*new, "extra/model.safetensors", "other.safetensors"}
    assert open_source(ModelRef("alice/again")).tensors.keys() == {"layer.0"}
    card = Upload("alice/again", private=False, overwrite=True)
    card.start()
    card.add("README.md", b"---\nlicense: mit\n---\n# Only the card\n")
    card.commit("Card")
    assert "model.safetensors" in names("alice/again")


def test_sharded_over_single_leaves_one_model(tmp_path: Path) -> None:
    publish("alice/grown", checkpoint())
    push_folder(folder_of(tmp_path, checkpoint(shards=2)), "alice/grown", private=False, overwrite=True)
    assert "model.safetensors" not in names("alice/grown")
    assert INDEX in names("alice/grown")


def test_pushing_the_same_again_makes_no_commit(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, checkpoint())
    first = push_folder(folder, "alice/same-again")
    count = len(titles("alice/same-again"))
    assert push_folder(folder, "alice/same-again").commit == first.commit
    assert len(titles("alice/same-again")) == count


def test_nothing_new_but_somebody_else_changed_it() -> None:
    publish("alice/overtaken", {"config.json": b"{}"})
    upload = Upload("alice/overtaken", private=False, overwrite=True)
    upload.start()
    upload.add("config.json", b"{}")
    publish("alice/overtaken", {"config.json": b'{"theirs": 1}'})
    with pytest.raises(HubError, match=r"does not hold the config\.json that was pushed"):
        upload.commit("Nothing new")


def test_what_an_interrupted_push_uploaded_is_used() -> None:
    weights = shard(["a"], seed=31)
    first = Upload("alice/resumed")
    first.start()
    digest = hashlib.sha256(weights).hexdigest()
    assert first.add("model.safetensors", weights) == digest
    assert first.add("config.json", b"{}") is None
    second = Upload("alice/resumed")
    second.start()
    second.add_uploaded("model.safetensors", len(weights), digest)
    second.add("config.json", b"{}")
    second.commit("Resumed")
    assert HfApi().hf_hub_download("alice/resumed", "model.safetensors")
    assert names("alice/resumed") == {"model.safetensors", "config.json"}


def test_what_the_hub_has_dropped_is_told() -> None:
    upload = Upload("alice/dropped")
    upload.start()
    upload.add_uploaded("model.safetensors", 5, "00" * 32)
    with pytest.raises(HubError, match="may have dropped what an interrupted push uploaded"):
        upload.commit("Resumed")
    assert names("alice/dropped") == set()


def test_somebody_else_committed_meanwhile() -> None:
    upload = Upload("alice/contested")
    upload.start()
    upload.add("README.md", b"---\nlicense: mit\n---\n# Mine\n")
    theirs = publish("alice/contested", {"config.json": b"{}"})
    with pytest.raises(HubError, match="somebody else committed") as caught:
        upload.commit("Mine")
    assert caught.value.exit_code == 3
    assert HfApi().model_info("alice/contested").sha == theirs
    assert names("alice/contested") == {"config.json"}


def test_what_a_gitignore_swallows_is_noticed() -> None:
    publish("alice/ignoring", {".gitignore": b"*.safetensors\n*.txt\n"})
    upload = Upload("alice/ignoring", private=False, overwrite=True)
    upload.start()
    for name, content in {"model.safetensors": shard(["a"]), "notes.txt": b"hello"}.items():
        with pytest.raises(HubError, match=r"\.gitignore excludes it"):
            upload.add(name, content)


def test_who_may_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    publish("alice/hers", checkpoint())
    for repo_id in ("alice/hers", "alice/not-yet"):
        with pytest.raises(AccessError, match="the Hub refused") as caught:
            Upload(repo_id, token="hf_bob").start()
        assert "hf_bob" not in str(caught.value)
    with pytest.raises(AccessError, match="does not know this token"):
        Upload("alice/hers", token="hf_mallory").start()
    reader = {"name": "rita", "auth": {"accessToken": {"role": "read"}}}
    monkeypatch.setattr(HfApi, "whoami", lambda *_, **__: reader)
    with pytest.raises(AccessError, match="can only read"):
        Upload("alice/hers").start()
    monkeypatch.setattr(hub_session, "get_token", lambda: None)
    with pytest.raises(AccessError, match="needs a token with write access; log in"):
        Upload("alice/hers")


def test_names_that_cannot_be() -> None:
    with pytest.raises(NotFoundError, match="not a name that a repository can have"):
        Upload("alice/a/b")
    upload = Upload("alice/namely")
    upload.start()
    with pytest.raises(SourceError, match="could leave its folder"):
        upload.add("../up.txt", b"x")
    assert "hf_alice" not in repr(upload)


def test_a_push_that_breaks_shows_nothing(faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience.time, "sleep", lambda _: None)
    upload = Upload("alice/torn")
    upload.start()
    before = titles("alice/torn")
    upload.add("model.safetensors", shard(["a"]))
    faulty.faults = on_path("/commit/", Fault(reset=True))
    faulty.clear_log()
    with pytest.raises(NetworkError, match="broke"):
        upload.commit("Model")
    commits = [request for request in faulty.log if "/commit/" in request.path]
    assert len(commits) <= 1, "a commit is never sent twice"
    faulty.faults = on_path("/lfs/", Fault(reset=True))
    with pytest.raises(NetworkError):
        upload.add("model-00001-of-00002.safetensors", shard(["b"], seed=77))
    faulty.faults = None
    assert titles("alice/torn") == before
    assert names("alice/torn") == set()


def test_a_card_the_hub_refuses() -> None:
    upload = Upload("alice/bad-card")
    upload.start()
    upload.add("README.md", b"---\nlicense: [\n---\n# Bad\n")
    with pytest.raises(HubError, match="Committing to alice/bad-card failed"):
        upload.commit("Card")
    assert names("alice/bad-card") == set()


def test_what_others_put_there_is_left_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, checkpoint())
    push_folder(folder, "alice/ours")
    push_folder(folder_of(tmp_path, checkpoint(seed=2)), "alice/ours", message="Again, over our own push")
    edited = publish("alice/ours", {"README.md": b"---\nlicense: mit\n---\n# Edited by hand\n"}, private=True)
    with pytest.raises(HubError, match=r"already holds what hubmerge did not push \(commit \w{8}: 'Files'\)"):
        push_folder(folder, "alice/ours")
    upload = Upload("alice/ours", revision="side")
    with pytest.raises(HubError, match="already holds"):
        upload.start()
    assert HfApi().model_info("alice/ours").sha == edited
    assert [branch.name for branch in HfApi().list_repo_refs("alice/ours").branches] == ["main"]
    push_folder(folder, "alice/ours", overwrite=True)


def test_a_link_that_leaves_its_folder_is_not_pushed(tmp_path: Path, hub) -> None:
    (tmp_path / "secret").write_text("hf_secret")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    hub.clear_log()
    for number, (name, target) in enumerate({"tokenizer.model": "secret", "extra": "other"}.items()):
        folder = folder_of(tmp_path / f"m{number}", checkpoint())
        (folder / name).symlink_to(tmp_path / target)
        with pytest.raises(SourceError, match="a link that leads out of its folder"):
            push_folder(folder, "alice/linked")
        with pytest.raises(SourceError, match="a link that leads out of its folder"):
            open_source(ModelRef(str(folder)))
    assert hub.log == []
    inner = folder_of(tmp_path / "inner", checkpoint())
    (inner / "tokenizer.model").symlink_to("README.md")
    assert "tokenizer.model" in open_source(ModelRef(str(inner))).files


def test_the_links_of_the_hub_cache_are_its_own(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = folder_of(repository / "snapshots/abc", checkpoint())
    (repository / "blobs").mkdir()
    (snapshot / "model.safetensors").rename(repository / "blobs/0a")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0a")
    assert open_source(ModelRef(str(snapshot))).tensors
    (tmp_path / "secret").write_text("hf_secret")
    (repository / "blobs/0b").symlink_to(tmp_path / "secret")
    (snapshot / "notes.txt").symlink_to("../../blobs/0b")
    with pytest.raises(SourceError, match="a link that leads out of its folder"):
        open_source(ModelRef(str(snapshot)))
