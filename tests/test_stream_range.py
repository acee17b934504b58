"""Merging with weights read from the Hub by range: the same bytes, nothing else fetched, no file of a source kept."""

from pathlib import Path

import pytest
from hubtools import on_path
from test_stream_merge import Siblings, recipe

from hubmerge.errors import HubError
from hubmerge.hub import Upload, push_folder
from hubmerge.hub import session as hub_session
from hubmerge.hub.headers import FIRST_READ
from hubmerge.localhub import Fault
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

WEIGHTS = "model.safetensors"


@pytest.fixture
def far(siblings: Siblings, request: pytest.FixtureRequest) -> dict[str, str]:
    """The siblings in repositories that no cache has seen."""
    ids = {name: f"alice/range-{abs(hash(request.node.name)) % 10**8}-{name}" for name in siblings}
    for name, repo_id in ids.items():
        push_folder(siblings[name], repo_id, private=False)
    return ids


def cached_weights(ids: dict[str, str]) -> list[Path]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    return [
        path
        for repo_id in ids.values()
        for path in (cache / f"models--{repo_id.replace('/', '--')}").rglob("*.safetensors*")
    ]


@pytest.mark.parametrize("method", ["dare_ties", "ties"])
def test_same_bytes_and_not_a_byte_too_many(far, siblings: Siblings, hub, tmp_path: Path, method: str) -> None:
    hub.clear_log()
    plan = make_plan(recipe(far, method), ranged=True)
    opened = sum(request.sent for request in hub.log if request.path.endswith(WEIGHTS))
    sizes = {source.name: source.files[WEIGHTS].size for source in plan.sources}
    assert opened == sum(min(size, FIRST_READ) for size in sizes.values())

    hub.clear_log()
    streamed = merge(plan, tmp_path / "streamed")
    reads = [request for request in hub.log if request.path.endswith(WEIGHTS)]
    assert {request.status for request in reads} == {206}
    assert sum(request.sent for request in reads) == plan.fetch_bytes
    assert plan.fetch_bytes == sum(
        plan.sources[index].tensors[name].nbytes for t in plan.tensors for index, name in t.reads
    )
    assert not cached_weights(far)
    assert streamed.tensors == merge(recipe(siblings, method), tmp_path / "folders").tensors


def test_from_the_hub_to_the_hub_with_one_shard_of_disk(far, siblings: Siblings, tmp_path: Path) -> None:
    plan = make_plan(recipe(far), ranged=True, pushing=True, shard_size=9000)
    assert len(plan.shards) > 3
    work, most = tmp_path / "work", 0

    def watch(event: object) -> None:
        nonlocal most
        most = max(most, sum(path.stat().st_size for path in work.rglob("*.safetensors*") if path.is_file()))

    done = merge(plan, work, upload=Upload("alice/range-pushed"), progress=watch)
    assert not cached_weights(far)
    assert 0 < most <= max(shard.nbytes for shard in plan.shards) + 8192
    assert done.tensors == merge(recipe(siblings), tmp_path / "folders").tensors


def test_what_is_in_the_cache_is_not_fetched_again(far, hub, tmp_path: Path) -> None:
    merge(recipe(far), tmp_path / "downloaded")
    plan = make_plan(recipe(far), ranged=True)
    assert plan.fetch_bytes == 0
    hub.clear_log()
    merge(plan, tmp_path / "again")
    assert not [request for request in hub.log if request.path.endswith(WEIGHTS)]


@pytest.mark.parametrize("fault", [None, Fault(truncate_after=100), Fault(reset=True)], ids=["none", "cut", "reset"])
def test_weights_from_a_storage_of_another_origin_that_stumbles(
    far, siblings: Siblings, hub, tmp_path: Path, fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_session, "BACKOFF", 0.0)
    hub.redirect_seconds = 60.0
    try:
        plan = make_plan(recipe(far), ranged=True)
        hub.clear_log()
        hub.faults = on_path("/cdn/", fault, times=2)
        done = merge(plan, tmp_path / "out")
    finally:
        hub.redirect_seconds, hub.faults = None, None
    weights = [request.path for request in hub.log if request.path.endswith(WEIGHTS)]
    assert all(path.startswith("/cdn/") for path in weights), "opened, the Hub is not asked again where they are"
    assert len(weights) >= len(plan.sources)
    assert done.tensors == merge(recipe(siblings), tmp_path / "folders").tensors


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(status=403)], ids=["whole file", "revoked"])
def test_a_lasting_fault_is_one_error_and_no_model(far, hub, tmp_path: Path, fault: Fault) -> None:
    plan = make_plan(recipe(far), ranged=True)
    hub.faults = on_path(WEIGHTS, fault)
    try:
        with pytest.raises(HubError):
            merge(plan, tmp_path / "out")
    finally:
        hub.faults = None
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".safetensors", ".json")]
