"""The same bytes whatever the threads, the shard size, where the weights are read from and where the result goes."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from test_stream_merge import Siblings, recipe

from hubmerge.hub import Upload, push_folder
from hubmerge.methods.blocks import BLOCK
from hubmerge.stream.executor import MergeResult, merge
from hubmerge.stream.plan import make_plan


@pytest.fixture(scope="session")
def wide_siblings(tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Siblings:
    """As `siblings`, in bfloat16 and with an embedding of several blocks."""
    root = tmp_path_factory.mktemp("wide")
    shape = {
        "vocab_size": 12_000,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "dtype": "bfloat16",
    }
    assert 2 * BLOCK < 12_000 * 64
    base = tiny_llama(root / "base", seed=1, **shape)
    return {
        "base": base,
        "math": tiny_llama(root / "math", seed=2, sibling_of=base, **shape),
        "japanese": tiny_llama(root / "japanese", seed=3, sibling_of=base, **shape),
    }


@pytest.fixture(scope="session")
def places(wide_siblings: Siblings) -> dict[str, Siblings]:
    """The same models as folders, as repositories to download, and as repositories that only ranges are read of."""
    found: dict[str, Siblings] = {"disk": wide_siblings}
    for place in ("cache", "range"):
        found[place] = {name: f"alice/bytes-{place}-{name}" for name in wide_siblings}  # type: ignore[misc]
        for name, folder in wide_siblings.items():
            push_folder(folder, str(found[place][name]), private=False)
    return found


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare_ties"])
def test_hashes_of_every_combination(method: str, places: dict[str, Siblings], thorough: bool, tmp_path: Path) -> None:
    parameters = {"ties": {"density": 0.6}, "dare_ties": {"density": 0.4}}.get(method, {})
    hashes = {}
    half = int(method in ("slerp", "ties"))
    settings = ("disk", "cache", "range"), (1, 2), (10**9, 200_000, 80_000), ("disk", "hub")
    for number, chosen in enumerate(itertools.product(*map(enumerate, settings))):
        # Every third combination has every pair of settings; of those two methods take one half, two the other.
        if not thorough and (sum(at for at, _ in chosen) % 3 or sum(at for at, _ in chosen[:2]) % 2 != half):
            continue
        place, threads, shard_size, target = (setting for _, setting in chosen)
        models = places[place]
        names = ["math"] if method == "slerp" else ["math", "japanese"]
        changes: dict = {"models": [{"model": str(models[name]), "parameters": parameters} for name in names]}
        if method == "slerp":
            changes["parameters"] = {"t": 0.3}
        ranged, pushing = place == "range", target == "hub"
        plan = make_plan(
            recipe(models, method, **changes), shard_size=shard_size, ranged=ranged, threads=threads, pushing=pushing
        )
        assert place == "cache" or bool(plan.fetch_bytes) == ranged
        upload = Upload(f"alice/bytes-{method}") if pushing else None
        result = merge(plan, tmp_path / str(number), upload=upload)
        hashes[place, threads, shard_size, target] = result.tensors
        if pushing:
            check_shards(result, f"alice/bytes-{method}")
    assert len(hashes) == (36 if thorough else 6)
    first = next(iter(hashes.values()))
    assert [key for key, value in hashes.items() if value != first] == []
    assert len(first) > 20


def check_shards(result: MergeResult, repo_id: str) -> None:
    """What lies on the Hub are the shards of this merge and no others."""
    files = HfApi().list_repo_files(repo_id, revision=result.commit)
    assert sorted(f for f in files if f.endswith(".safetensors")) == sorted(s.file for s in result.plan.shards)
