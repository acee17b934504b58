"""Verifying: a merge's own result passes, and every way to damage it is found and named."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hubtools import on_path
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file
from test_stream_merge import Siblings, recipe

from hubmerge.errors import HubError, Interrupted, RecipeError, ResourceError, SourceError
from hubmerge.hub import Upload, open_source, push_folder
from hubmerge.hub.headers import FIRST_READ
from hubmerge.localhub import Fault
from hubmerge.progress import Event
from hubmerge.reference import ModelRef
from hubmerge.stream import hashing as module
from hubmerge.stream.executor import merge
from hubmerge.stream.hashing import hash_weights
from hubmerge.stream.manifest import Manifest
from hubmerge.stream.verify import verify

MANIFEST = "hubmerge.json"
NORM = "model.norm.weight"
DIGEST = "0" * 64
SHARD = {"file": "a", "nbytes": 1, "header": DIGEST, "tensors": {"t": DIGEST}}


@pytest.fixture(scope="module")
def finished(siblings: Siblings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge in five shards; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("verify") / "merged"
    assert len(merge(recipe(siblings), folder, shard_size=9000).plan.shards) == 5
    return folder


@pytest.fixture
def merged(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "merged")


def ref(folder: Path) -> ModelRef:
    return ModelRef.parse(str(folder))


def shard_of(folder: Path, name: str) -> Path:
    return folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]


def flip(folder: Path, name: str) -> None:
    """Changes the lowest bit of the last byte of one tensor, in place."""
    place = open_source(ref(folder)).tensors[name]
    with open(folder / place.file, "r+b") as file:
        file.seek(place.stop - 1)
        byte = file.read(1)[0]
        file.seek(place.stop - 1)
        file.write(bytes([byte ^ 1]))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Changes the manifest by `change`, which gets its document."""
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))


@pytest.mark.parametrize("piece", [7, 1000, module.PIECE])
def test_a_merge_is_what_it_wrote(merged: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    events: list[Event] = []
    result = verify(ref(merged), progress=events.append)
    result.require()
    whole = sum(shard.stat().st_size for shard in merged.glob("*.safetensors"))
    assert result.ok
    assert (result.matching, result.nbytes) == (len(open_source(ref(merged)).tensors), whole)
    assert {(event.stage, event.total, event.unit) for event in events} == {("verify", whole, "B")}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == whole


def test_hashes_are_those_of_the_values(merged: Path) -> None:
    expected = {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for shard in merged.glob("*.safetensors")
        for name, tensor in load_file(shard).items()
    }
    assert hash_weights(open_source(ref(merged)))[1] == expected


def test_one_flipped_bit_is_found_and_named(merged: Path) -> None:
    flip(merged, NORM)
    result = verify(ref(merged))
    assert result.differing == (NORM,)
    assert result.matching == len(open_source(ref(merged)).tensors) - 1
    assert result.findings == (f"1 tensor with other bytes ({NORM})",)
    with pytest.raises(SourceError, match=f"{merged} is not what its merge wrote: .*{NORM}.*; fetch or merge it again"):
        result.require()


def test_a_missing_and_a_truncated_shard(merged: Path) -> None:
    shard = shard_of(merged, NORM)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(SourceError, match=f"{shard.name} .*cut short"):
        verify(ref(merged))
    shard.unlink()
    with pytest.raises(SourceError, match=f"lacks the shard {shard.name}"):
        verify(ref(merged))
    shard.write_bytes(whole)
    (merged / "config.json").unlink()
    with pytest.raises(SourceError, match=r"no config\.json"):
        verify(ref(merged))


def test_tensors_and_files_that_do_not_belong(merged: Path) -> None:
    shard = shard_of(merged, NORM)
    tensors = load_file(shard)
    save_file({**tensors, "extra.weight": torch.zeros(4)}, shard, metadata={"format": "pt"})
    save_file({"stray.weight": torch.zeros(4)}, merged / "model-00009-of-00009.safetensors")
    result = verify(ref(merged))
    strays = ("model-00009-of-00009.safetensors",)
    assert (result.extra, result.altered, result.stray) == (("extra.weight",), (shard.name,), strays)
    assert not (result.differing or result.missing or result.ok)
    # transformers prefers this file to the index and its shards: nothing of the merge is what is loaded.
    save_file({"old.weight": torch.zeros(4)}, merged / "model.safetensors")
    result = verify(ref(merged))
    assert (result.extra, result.ok) == (("old.weight",), False)
    assert "model.safetensors" in result.stray


def test_small_files_that_were_changed_or_taken_away(merged: Path) -> None:
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    (merged / "README.md").write_text("# Mine")
    edit(merged, lambda document: document["files"].update({"mergekit_config.yml": "0" * 64}))
    (merged / "generation_config.json").write_text('{"temperature": 0.5}')
    (merged / "tokenizer.json").unlink()
    result = verify(ref(merged))
    assert result.beside == (("tokenizer.json",), ("config.json",), ("generation_config.json",))
    assert result.findings == ("1 file missing (tokenizer.json)", "1 file with other content (config.json)")
    with pytest.raises(SourceError, match=r"fetch or merge it again, or, where that is meant, delete hubmerge\.json"):
        result.require()
    (merged / "generation_config.json").write_text("{")
    assert verify(ref(merged)).beside.changed == ("generation_config.json", "config.json")
    # Early versions noted no files.
    edit(merged, lambda document: document.pop("files"))
    assert verify(ref(merged)).ok


def test_what_people_edit_is_only_said(call, merged: Path, hub) -> None:
    (merged / "generation_config.json").write_text('{"temperature": 0.5}')
    assert verify(ref(merged)).ok
    done = call("verify", merged)
    assert done.returncode == 0 and "Edited since the merge: generation_config.json." in done.stdout
    done = call("push", merged, "alice/edited")
    assert done.returncode == 0 and "warning: Edited since the merge: generation_config.json." in done.stderr
    (merged / "config.json").write_text((merged / "config.json").read_text() + " ")
    done = call("push", merged, "alice/changed")
    assert done.returncode == 2 and "1 file with other content (config.json)" in done.stderr
    found = verify(ModelRef.parse("alice/edited"))
    assert found.ok and found.beside.edited == ("generation_config.json",)


def test_tensors_that_only_the_manifest_has(merged: Path) -> None:
    shard = next(iter(json.loads((merged / MANIFEST).read_text())["shards"]))
    outside = merged.parent / "outside.safetensors"
    outside.write_bytes(b"secret")

    def add(document: dict) -> None:
        document["shards"][shard]["tensors"]["gone\x1b[2J"] = "0" * 64
        document["shards"]["../outside.safetensors"] = {"nbytes": 6, "header": "0" * 64, "tensors": {}}

    edit(merged, add)
    result = verify(ref(merged))
    assert (result.missing, result.altered) == (("gone\x1b[2J",), ("../outside.safetensors",))
    assert "\x1b" not in "".join(result.findings)


def test_another_dtype_over_the_same_bytes(merged: Path) -> None:
    shard = shard_of(merged, NORM)
    shard.write_bytes(shard.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"I32"', 1))
    result = verify(ref(merged))
    assert (result.altered, result.differing) == ((shard.name,), ())


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested more than 100 levels"),
        ("[]", "not a JSON object"),
        ({"shards": None}, "no shards"),
        ({"shards": []}, "no shards"),
        ({"shards": {}}, "no shards"),
        ({"recipe": "linear"}, "no recipe"),
        ({"versions": []}, "no versions"),
        ({"versions": {"torch": 2}}, "no text"),
        ({"hubmerge": None}, "no text"),
        ({"device": 0}, "no device"),
        ({"shards": {"a": 1}}, "a is not described"),
        ({"shards": {"a": {**SHARD, "nbytes": True}}}, "a has no size"),
        ({"shards": {"a": {**SHARD, "nbytes": "1"}}}, "a has no size"),
        ({"shards": {"a": {**SHARD, "header": DIGEST[1:]}}}, "a has no sha256"),
        ({"shards": {"a": {**SHARD, "tensors": ["t"]}}}, "a has no table"),
        ({"shards": {"a": {**SHARD, "tensors": {"t": None}}}}, "t has no sha256"),
        ({"shards": {"a": SHARD, "b": SHARD}}, "t is in two shards"),
    ],
)
def test_a_broken_manifest_is_one_sentence(document: object, says: str) -> None:
    whole = {"hubmerge": "1", "recipe": {}, "versions": {}, "device": "cpu", "shards": {"a": SHARD}}
    assert Manifest.parse(json.dumps(whole), "org/name").tensors == {"t": DIGEST}
    text = document if isinstance(document, str) else json.dumps({**whole, **document})
    with pytest.raises(
        SourceError, match=rf"hubmerge\.json of org/name (is broken|cannot be read): .*{says}.* again\.$"
    ):
        Manifest.parse(text, "org/name")


def test_a_file_that_changes_meanwhile(merged: Path) -> None:
    source = open_source(ref(merged))
    shard = shard_of(merged, NORM)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(SourceError, match="changed while it was being used"):
        hash_weights(source)


def test_it_can_be_stopped(merged: Path) -> None:
    def stop(event: Event) -> None:
        raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        verify(ref(merged), progress=stop)


@pytest.fixture
def pushed(merged: Path, request: pytest.FixtureRequest) -> str:
    repo_id = f"alice/verify-{abs(hash(request.node.name)) % 10**8}"
    push_folder(merged, repo_id)
    return repo_id


def cached_weights(repo_id: str) -> list[Path]:
    return list((Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}").rglob("*.safetensors"))


def test_a_repository_by_range_and_nothing_kept(merged: Path, pushed: str, hub) -> None:
    hub.clear_log()
    result = verify(ModelRef.parse(pushed))
    result.require()
    assert result.model == f"{pushed}@{HfApi().model_info(pushed).sha}"
    reads = [request for request in hub.log if request.path.endswith(".safetensors")]
    assert {request.status for request in reads} == {206}
    sizes = [shard.stat().st_size for shard in merged.glob("*.safetensors")]
    assert sum(request.sent for request in reads) == result.nbytes + sum(min(size, FIRST_READ) for size in sizes)
    assert result.nbytes == sum(sizes)
    assert len(reads) == 2 * len(sizes), "a shard is opened by its header and, being small, read at once"
    assert not cached_weights(pushed)


def test_no_read_is_longer_than_a_piece(pushed: str, hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 1000)
    source = open_source(ModelRef.parse(pushed))
    hub.clear_log()
    hash_weights(source)
    lengths = [request.sent for request in hub.log]
    assert max(lengths) == 1000 < max(tensor.nbytes for tensor in source.tensors.values())
    # The headers are not asked for again: what was read when the model was opened is what is hashed.
    assert sum(lengths) == source.nbytes


def test_a_revision_and_a_cached_repository(merged: Path, pushed: str, hub) -> None:
    good = HfApi().model_info(pushed).sha
    flip(merged, NORM)
    push_folder(merged, pushed)
    assert verify(ModelRef.parse(f"{pushed}@{good}")).ok
    assert verify(ModelRef.parse(pushed)).differing == (NORM,)

    source = open_source(ModelRef.parse(pushed))
    shards = {tensor.file for tensor in source.tensors.values()}
    for shard in shards:
        source.local_path(shard)
    hub.clear_log()
    assert verify(ModelRef.parse(pushed)).differing == (NORM,)
    assert not [request for request in hub.log if request.path.endswith(".safetensors")]


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(truncate_after=100), Fault(reset=True)])
def test_faults_of_the_hub(pushed: str, hub, fault: Fault) -> None:
    source = open_source(ModelRef.parse(pushed))
    try:
        hub.faults = on_path(".safetensors", fault, times=2)
        assert hash_weights(source)[1] == Manifest.parse(source.read_text(MANIFEST) or "", pushed).tensors
        hub.faults = on_path(".safetensors", Fault(ignore_range=True))
        with pytest.raises(HubError):
            hash_weights(source)
    finally:
        hub.faults = None


@pytest.mark.parametrize("method", ["dare_ties", "ties"])
def test_merged_again_it_comes_out_the_same(siblings: Siblings, tmp_path: Path, method: str) -> None:
    done = merge(recipe(siblings, method, dtype="bfloat16"), tmp_path / "out", shard_size=9000)
    events: list[Event] = []
    result = verify(ref(tmp_path / "out"), recompute=True, progress=events.append)
    assert (result.ok, result.unreproduced) == (True, ())
    again = [event for event in events if event.stage == "recompute"]
    assert (again[-1].done, again[-1].total) == (done.plan.output_bytes, done.plan.output_bytes)
    assert verify(ref(tmp_path / "out")).unreproduced is None


def test_a_forged_manifest_or_another_recipe_is_found_by_merging_again(merged: Path) -> None:
    flip(merged, NORM)
    digest = hash_weights(open_source(ref(merged)))[1][NORM]

    def forge(document: dict) -> None:
        document["shards"][shard_of(merged, NORM).name]["tensors"][NORM] = digest

    edit(merged, forge)
    assert verify(ref(merged)).ok
    assert verify(ref(merged), recompute=True).findings == (f"1 tensor that the recipe does not give again ({NORM})",)
    edit(merged, lambda document: document.update(hubmerge="0.0.1"))
    assert "merged with hubmerge 0.0.1 (here: " in verify(ref(merged), recompute=True).findings[0]
    edit(merged, lambda document: document.update(device="nonesuch:0"))
    with pytest.raises(ResourceError, match="no device 'nonesuch'"):
        verify(ref(merged), recompute=True)
    edit(merged, lambda document: document.update(device="cpu"))
    edit(merged, lambda document: document["recipe"]["models"].pop())
    result = verify(ref(merged), recompute=True)
    assert len(result.unreproduced or ()) == result.matching
    edit(merged, lambda document: document["recipe"].update(merge_method="nonsense"))
    with pytest.raises(RecipeError, match="nonsense"):
        verify(ref(merged), recompute=True)


def test_another_dtype_is_found_by_merging_again(siblings: Siblings, tmp_path: Path) -> None:
    merge(recipe(siblings, dtype="bfloat16"), tmp_path / "out")
    edit(tmp_path / "out", lambda document: document["recipe"].update(dtype="float16"))
    result = verify(ref(tmp_path / "out"), recompute=True)
    assert len(result.unreproduced or ()) == result.matching


def test_a_repository_is_merged_again_from_its_pinned_sources(siblings: Siblings, hub, tmp_path: Path) -> None:
    ids = {name: f"alice/verify-{name}" for name in siblings}
    for name, repo_id in ids.items():
        push_folder(siblings[name], repo_id, private=False)
    merge(recipe(ids, dtype="float16"), tmp_path / "work", upload=Upload("alice/verify-merged"))
    push_folder(siblings["base"], ids["math"], private=False, message="Something else")
    result = verify(ModelRef.parse("alice/verify-merged"), recompute=True)
    assert (result.ok, result.unreproduced) == (True, ())
    assert not cached_weights("alice/verify-merged")


def test_a_repository_cannot_make_this_machine_read_its_folders(pushed: str, siblings: Siblings) -> None:
    assert verify(ModelRef.parse(pushed)).ok
    with pytest.raises(SourceError, match=r"folders of its maker's machine \(\./base@sha256:"):
        verify(ModelRef.parse(pushed), recompute=True)


def test_merging_again_can_be_stopped(merged: Path) -> None:
    def stop(event: Event) -> None:
        if event.stage == "recompute":
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        verify(ref(merged), recompute=True, progress=stop)


def test_the_command(call, merged: Path, pushed: str, siblings: Siblings) -> None:
    for model in (merged, pushed):
        done = call("verify", model)
        assert done.returncode == 0, done.stderr
        assert "as the merge wrote them" in done.stdout
    assert "merged again" not in done.stdout
    assert "merged again, all came out the same" in call("verify", merged, "--recompute").stdout
    flip(merged, NORM)
    done = call("verify", merged)
    assert done.returncode == 2
    assert f"hubmerge: {merged} is not what its merge wrote: 1 tensor with other bytes ({NORM});" in done.stderr
    assert NORM in done.stdout

    done = call("verify", siblings["base"])
    assert done.returncode == 2
    assert "has no hubmerge.json" in done.stderr
    (merged / MANIFEST).write_text("junk")
    done = call("verify", merged)
    assert done.returncode == 2
    assert f"hubmerge.json of {merged} cannot be read" in done.stderr
    assert call("verify", "alice/none").returncode == 3
