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
from test_cli import call  # noqa: F401  (a fixture)
from test_stream_merge import Siblings, recipe

from hubmerge.errors import HubError, Interrupted, SourceError
from hubmerge.hub import open_source, push_folder
from hubmerge.hub.headers import FIRST_READ
from hubmerge.localhub import Fault
from hubmerge.progress import Event
from hubmerge.recipe import ModelRef
from hubmerge.stream import merge
from hubmerge.stream import verify as module
from hubmerge.stream.verify import Manifest, hash_tensors, verify

MANIFEST = "hubmerge.json"
NORM = "model.norm.weight"


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
    source = open_source(ref(merged))
    assert result.ok
    assert (result.matching, result.nbytes) == (len(source.tensors), source.nbytes)
    assert {(event.stage, event.total, event.unit) for event in events} == {("verify", source.nbytes, "B")}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done == source.nbytes


def test_hashes_are_those_of_the_values(merged: Path) -> None:
    expected = {
        name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for shard in merged.glob("*.safetensors")
        for name, tensor in load_file(shard).items()
    }
    assert hash_tensors(open_source(ref(merged))) == expected


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
    # transformers prefers this file to the index and its shards.
    save_file({"old.weight": torch.zeros(4)}, merged / "model.safetensors")
    result = verify(ref(merged))
    assert (result.extra, result.resized, result.stray) == (("extra.weight",), (shard.name,), ("model.safetensors",))
    assert not (result.differing or result.missing or result.ok)


def test_tensors_that_only_the_manifest_has(merged: Path) -> None:
    shard = next(iter(json.loads((merged / MANIFEST).read_text())["shards"]))
    outside = merged.parent / "outside.safetensors"
    outside.write_bytes(b"secret")

    def add(document: dict) -> None:
        document["shards"][shard]["tensors"]["gone\x1b[2J"] = "0" * 64
        document["shards"]["../outside.safetensors"] = {"nbytes": 6, "tensors": {}}

    edit(merged, add)
    result = verify(ref(merged))
    assert (result.missing, result.resized) == (("gone\x1b[2J",), ("../outside.safetensors",))
    assert "\x1b" not in "".join(result.findings)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no shards"),
        ("{}", "no shards"),
        ('{"shards": []}', "no shards"),
        ('{"shards": {}}', "no shards"),
        ('{"shards": {"a": 1}}', "a has no size"),
        ('{"shards": {"a": {"nbytes": true, "tensors": {}}}}', "a has no size"),
        ('{"shards": {"a": {"nbytes": -1, "tensors": {}}}}', "a has no size"),
        ('{"shards": {"a": {"nbytes": 1, "tensors": ["t"]}}}', "a has no table"),
        ('{"shards": {"a": {"nbytes": 1, "tensors": {"t": "00"}}}}', "t has no sha256"),
        ('{"shards": {"a": {"nbytes": 1, "tensors": {"t": null}}}}', "t has no sha256"),
        (
            json.dumps({"shards": {shard: {"nbytes": 1, "tensors": {"t": "0" * 64}} for shard in "ab"}}),
            "t is in two shards",
        ),
    ],
)
def test_a_broken_manifest_is_one_sentence(document: str, says: str) -> None:
    with pytest.raises(SourceError, match=rf"hubmerge\.json of org/name .*{says}.* again\.$"):
        Manifest.parse(document, "org/name")


def test_a_file_that_changes_meanwhile(merged: Path) -> None:
    source = open_source(ref(merged))
    place = source.tensors[NORM]
    read, _ = module._reader(source)
    whole = (merged / place.file).read_bytes()
    (merged / place.file).write_bytes(whole[: place.stop - 1])
    with pytest.raises(SourceError, match=f"{place.file} of {merged} became shorter"):
        read(place.file, place.start, place.stop)
    with pytest.raises(SourceError, match="changed while it was being used"):
        hash_tensors(source)
    (merged / place.file).unlink()
    with pytest.raises(SourceError, match=f"{place.file} of {merged} cannot be read"):
        read(place.file, place.start, place.stop)


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
    assert len(reads) == 2 * len(sizes), "one read for the header, one for all the small tensors of a shard"
    assert not cached_weights(pushed)


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
    assert len([request for request in hub.log if request.path.endswith(".safetensors")]) == len(shards), "the headers"


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(truncate_after=100), Fault(reset=True)])
def test_faults_of_the_hub(pushed: str, hub, fault: Fault) -> None:
    source = open_source(ModelRef.parse(pushed))
    try:
        hub.faults = on_path(".safetensors", fault, times=2)
        assert hash_tensors(source) == Manifest.parse(source.read_text(MANIFEST) or "", pushed).tensors
        hub.faults = on_path(".safetensors", Fault(ignore_range=True))
        with pytest.raises(HubError):
            hash_tensors(source)
    finally:
        hub.faults = None


def test_the_command(call, merged: Path, pushed: str, siblings: Siblings) -> None:  # noqa: F811
    for model in (merged, pushed):
        done = call("verify", model)
        assert done.returncode == 0, done.stderr
        assert "as the merge wrote them" in done.stdout
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
    assert f"hubmerge.json of {merged} is not valid JSON" in done.stderr
    assert call("verify", "alice/none").returncode == 3
