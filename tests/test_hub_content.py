"""What arrives is compared, byte for byte, with what the Hub lists; and a Hub that is away is done without."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubtools import INDEX, checkpoint, publish
from huggingface_hub import HfApi, constants
from test_stream_merge import Siblings, recipe

from hubmerge.errors import NetworkError, SourceError
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.task import load_task
from hubmerge.hub import content, listing, open_source, push_folder
from hubmerge.hub import session as hub_session
from hubmerge.hub.cache import serve_many
from hubmerge.localhub import Fault, LocalHub
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

WEIGHTS = "model.safetensors"


@pytest.fixture
def faulty(hub: LocalHub) -> Iterator[LocalHub]:
    """The Hub, whose faults end with the test."""
    yield hub
    hub.faults = None


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def serving(name: str, wrong: bytes, etag: str) -> Callable[[object], Fault | None]:
    """Answers requests for the content of `name` with `wrong`, its size and ETag being right."""

    def faults(request: object) -> Fault | None:
        if not request.url.path.endswith(name) or request.method != "GET":  # type: ignore[attr-defined]
            return None
        headers, asked = {"ETag": f'"{etag}"'}, request.headers.get("range")  # type: ignore[attr-defined]
        if asked is None:
            return Fault(status=200, headers=headers, body=wrong)
        first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(wrong)}"
        return Fault(status=206, headers=headers, body=wrong[first : last + 1])

    return faults


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_one_bit_on_the_way(faulty: LocalHub, name: str) -> None:
    """A large file is known by its sha256, a small one by git's hash."""
    files = checkpoint(seed=5)
    publish(f"alice/flip-{len(name)}", files)
    source = open_source(ModelRef.parse(f"alice/flip-{len(name)}"))
    info = source.files[name]
    assert (info.sha256 is None) != (info.oid is None)
    if source.is_here(name):  # it was read when the model was opened
        source.local_path(name).resolve().unlink()
    wrong = flipped(files[name], len(files[name]) - 9)
    faulty.faults = serving(name, wrong, info.sha256 or info.oid or "")
    with pytest.raises(SourceError, match=r"arrived otherwise than the Hub lists it: its (sha256|git hash) is"):
        source.local_path(name)
    faulty.faults = None
    assert source.local_path(name).read_bytes() == files[name]


def test_one_bit_in_the_cache_is_fetched_again() -> None:
    files = checkpoint(seed=6)
    publish("alice/rot", files)
    source = open_source(ModelRef.parse("alice/rot"))
    for name in (WEIGHTS, "config.json"):
        blob = source.local_path(name).resolve()
        blob.write_bytes(flipped(files[name], 20))
        assert source.local_path(name).read_bytes() == files[name]


def test_a_large_file_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    files = checkpoint(seed=7)
    publish("alice/once", files)
    source = open_source(ModelRef.parse("alice/once"))
    monkeypatch.setattr(content, "REMEMBERED", 1)
    hashed: list[Path] = []
    digest = content.digest
    monkeypatch.setattr(content, "digest", lambda path, file: hashed.append(path) or digest(path, file))
    for _ in range(3):
        path = source.local_path(WEIGHTS)
    assert hashed == [path]
    os.utime(path.resolve(), ns=(1, 1))  # touched: nobody knows what else was done to it
    source.local_path(WEIGHTS)
    assert hashed == [path, path]


def test_one_bit_of_a_model_that_is_read_by_range(faulty: LocalHub, siblings: Siblings, tmp_path: Path) -> None:
    ids = {name: f"alice/flipped-{name}" for name in siblings}
    for name, repo_id in ids.items():
        push_folder(siblings[name], repo_id, private=False)
    plan = make_plan(recipe(ids, "dare_ties"), ranged=True)
    math = next(source for source in plan.sources if source.name == ids["math"])
    original = (siblings["math"] / WEIGHTS).read_bytes()
    wrong = serving(WEIGHTS, flipped(original, len(original) - 3), str(math.files[WEIGHTS].sha256))
    faulty.faults = lambda request: wrong(request) if ids["math"] in request.url.path else None
    with pytest.raises(SourceError, match="flipped-math arrived otherwise than the Hub lists it"):
        merge(plan, tmp_path / "out")
    assert not (tmp_path / "out" / WEIGHTS).exists()
    faulty.faults = None
    assert merge(plan, tmp_path / "out").tensors == merge(recipe(siblings, "dare_ties"), tmp_path / "plain").tensors


def test_the_reads_that_are_not_compared_are_those_that_the_readme_names(
    faulty: LocalHub, siblings: Siblings, tmp_path: Path
) -> None:
    """A slice reads parts of a file, of which nobody knows the hash: one bit of it passes."""
    ids = {name: f"alice/parts-{name}" for name in ("base", "math")}
    for name, repo_id in ids.items():
        push_folder(siblings[name], repo_id, private=False)
    layers = {"layer_range": [0, 2]}
    slices = [{"sources": [{"model": repo_id, **layers} for repo_id in ids.values()]}]
    plan = make_plan(Recipe.from_dict({"merge_method": "linear", "slices": slices}), ranged=True)
    math = next(source for source in plan.sources if source.name == ids["math"])
    tensor = math.tensors["model.layers.1.mlp.up_proj.weight"]
    wrong = flipped((siblings["math"] / WEIGHTS).read_bytes(), tensor.start + 2)
    served = serving(WEIGHTS, wrong, str(math.files[WEIGHTS].sha256))
    right = merge(plan, tmp_path / "right").tensors
    faulty.faults = lambda request: served(request) if ids["math"] in request.url.path else None
    changed = merge(make_plan(plan.recipe, ranged=True), tmp_path / "out").tensors
    assert [name for name in right if right[name] != changed[name]] == [tensor.name]
    promise = " ".join((Path(__file__).parent.parent / "docs" / "promises.md").read_text(encoding="utf-8").split())
    assert "Not compared, but checked by size and etag alone: what a plan reads (headers), a slice," in promise


AWAY = ["offline", "down", "stumbling"]


@pytest.fixture(params=AWAY)
def take_away(request: pytest.FixtureRequest, faulty: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which the Hub cannot be asked."""

    def away() -> None:
        monkeypatch.setattr(hub_session, "BACKOFF", 0.0)
        if request.param == "offline":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        elif request.param == "down":
            monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
            template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        else:
            faulty.faults = lambda _: Fault(status=503)

    return away


def test_plan_merge_chat_and_eval_without_the_hub(
    siblings: Siblings, take_away: Callable[[], None], tmp_path: Path, caplog: pytest.LogCaptureFixture, request
) -> None:
    ids = {name: f"alice/away-{request.node.callspec.id}-{name}" for name in siblings}
    for name, repo_id in ids.items():
        push_folder(siblings[name], repo_id, private=False)
    data = f"alice/away-{request.node.callspec.id}-data"
    rows = b'{"question": "1 w1", "answer": "1"}\n'
    HfApi().create_repo(data, repo_type="dataset", exist_ok=True)
    HfApi().upload_file(path_or_fileobj=rows, path_in_repo="test.jsonl", repo_id=data, repo_type="dataset")
    task = {"examples": {"repo_id": data, "test": "test.jsonl"}, "prompt": "{question}", "answer": "{answer}"}
    there = merge(recipe(ids, "dare_ties"), tmp_path / "there")
    asked = load_task(task)
    load_model(ids["math"], device="cpu")

    take_away()
    here = merge(recipe(ids, "dare_ties"), tmp_path / "here")
    assert here.tensors == there.tensors
    assert here.plan.recipe == there.plan.recipe
    assert load_task(task).key == asked.key
    model, tokenizer = load_model(ids["math"], device="cpu")
    assert model.num_parameters() and len(tokenizer)
    said = [record.getMessage() for record in caplog.records if ids["math"] in record.getMessage()]
    commit = next(source.commit for source in there.plan.sources if source.name == ids["math"])
    assert len(said) == 1, "once is enough"
    assert f"using {ids['math']} at {str(commit)[:8]} from the cache" in said[0]


def test_patience_with_a_silent_hub_is_spent_once(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    names = [f"alice/silent-{n}" for n in range(3)]
    for name in [*names, "alice/silent-new"]:
        publish(name, checkpoint())
    for name in names:
        open_source(ModelRef.parse(name)).local_path("model.safetensors")
    clock, asked = [0.0], []

    def silent(ref: ModelRef, *_: object) -> None:
        asked.append(ref.repo_id)
        clock[0] += 60
        raise NetworkError("Nothing came for a minute.")

    def without_the_hub(name: str) -> bool:
        return open_source(ModelRef.parse(name)).listing.store.offline is not None  # type: ignore[union-attr]

    monkeypatch.setattr(listing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with monkeypatch.context() as away:
        away.setattr(listing, "ask_about", silent)
        assert all(without_the_hub(name) for name in names)
        assert asked == names[:1]
        assert all(f"using {name} at" in caplog.text for name in names)
        with pytest.raises(NetworkError, match="Nothing came"):
            open_source(ModelRef.parse("alice/silent-new"))  # what the cache does not know is asked all the same
        clock[0] += listing.REST
        assert without_the_hub(names[2]) and asked[-1] == names[2]
    assert without_the_hub(names[0])
    clock[0] += listing.REST
    assert not without_the_hub(names[0])


def test_what_the_cache_lacks_is_named(take_away: Callable[[], None], request) -> None:
    name = f"alice/lacking-{request.node.callspec.id}"
    commit = publish(name, checkpoint(shards=2))
    source = open_source(ModelRef.parse(name))
    source.local_path("model-00001-of-00002.safetensors")
    take_away()
    with pytest.raises(NetworkError, match=f"model-00002-of-00002.safetensors of {name} at {commit[:7]} is not in the"):
        open_source(ModelRef.parse(name))
    with pytest.raises(NetworkError):
        open_source(ModelRef.parse("alice/never-seen"))
    with pytest.raises(NetworkError):
        open_source(ModelRef.parse(f"{name}@v2"))
    with pytest.raises(NetworkError):
        load_task({"examples": {"repo_id": "alice/never-seen", "test": "x.jsonl"}})


def test_a_cache_that_transformers_filled(take_away: Callable[[], None], request) -> None:
    from huggingface_hub import snapshot_download

    name = f"alice/theirs-{request.node.callspec.id}"
    files = checkpoint(shards=2)
    commit = publish(name, files)
    snapshot_download(name, ignore_patterns="model-00002*")
    take_away()
    with pytest.raises(NetworkError, match=f"model-00002-of-00002.safetensors of {name} at {commit[:7]} is not in the"):
        open_source(ModelRef.parse(name))
    cached = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots" / commit
    (cached / "model-00002-of-00002.safetensors").write_bytes(files["model-00002-of-00002.safetensors"])
    source = open_source(ModelRef.parse(name))
    assert (source.commit, source.licence.id) == (commit, "apache-2.0")
    assert set(source.tensors) == {"layer.0", "layer.1"}
    (cached / INDEX).unlink()
    with pytest.raises(NetworkError, match="is not in the"):
        open_source(ModelRef.parse(name))


def test_a_server_for_many_recalls_only_what_all_may_see(faulty: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubmerge.hub.cache._for_many", False)
    monkeypatch.setattr(hub_session, "BACKOFF", 0.0)
    for name, private in (("alice/recalled-private", True), ("alice/recalled-public", False)):
        publish(name, checkpoint(), private=private)
        open_source(ModelRef.parse(name)).local_path(WEIGHTS)
    faulty.faults = lambda _: Fault(status=503)
    assert open_source(ModelRef.parse("alice/recalled-private")).tensors
    serve_many()
    assert open_source(ModelRef.parse("alice/recalled-public")).tensors
    with pytest.raises(NetworkError, match="problem of its own"):
        open_source(ModelRef.parse("alice/recalled-private"))


def test_the_command_says_so(siblings: Siblings, tmp_path: Path) -> None:
    push_folder(siblings["math"], "alice/said-math", private=False)
    # With a model that is nowhere it ends before torch is imported, which would take seconds.
    document = {"models": [{"model": "alice/said-math"}, {"model": "./none"}], "merge_method": "linear"}
    (tmp_path / "recipe.yaml").write_text(json.dumps(document))
    source = open_source(ModelRef.parse("alice/said-math"))
    for name in source.files:
        source.local_path(name)
    command = [sys.executable, "-m", "hubmerge", "plan", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2, done.stderr
    assert f"offline: using alice/said-math at {source.commit[:8]} from the cache." in done.stderr
