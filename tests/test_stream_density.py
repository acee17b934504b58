"""What a merge keeps of bfloat16 siblings: exactly the stated share, the same with any threads, blocks and shards."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hubtools import CONFIG
from safetensors.torch import load_file, save_file
from test_methods import DENSITIES, bfloat16_siblings

from hubmerge.methods.blocks import BLOCK
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan

TENSORS = 12  # for each density
# Whatever has its own idea of how large a block is.
ROOMS = (
    "methods.blocks",
    "methods.method",
    "methods.sparsify",
    "stream.compute",
    "stream.prefetch",
)


@pytest.fixture(scope="module")
def siblings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base and a model tuned from it: each of the tensors once for every density, which its name begins with."""
    root = tmp_path_factory.mktemp("density")
    pairs = [bfloat16_siblings(seed) for seed in range(TENSORS)]
    for place, name in enumerate(("base", "tuned")):
        tensors = {f"d{d}.t{n}": pairs[n][place].clone() for d in range(len(DENSITIES)) for n in range(TENSORS)}
        (root / name).mkdir()
        save_file(tensors, root / name / "model.safetensors")
        (root / name / "config.json").write_text(json.dumps(CONFIG))
    return {name: root / name for name in ("base", "tuned")}


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties", "dare_ties"])
def test_threads_blocks_and_shards_change_nothing(
    method: str, siblings: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = [{"filter": f"d{number}.", "value": share} for number, share in enumerate(DENSITIES)]
    given = {"weight": 1.0, "density": density, **({"gamma": 0} if method.startswith("breadcrumbs") else {})}
    recipe = Recipe.from_dict(
        {
            "merge_method": method,
            "base_model": str(siblings["base"]),
            "models": [{"model": str(siblings["tuned"]), "parameters": given}],
        }
    )
    # The random masks are drawn a block at a time: its size is part of what DARE is.
    sizes = [BLOCK] if method.startswith("dare") else [BLOCK, 256]
    results = []
    for block in sizes:
        for room in ROOMS:
            monkeypatch.setattr(sys.modules[f"hubmerge.{room}"], "BLOCK", block)
        for threads, shard_size in ((1, 10**9), (2, 100_000)):
            out = tmp_path / f"{block}-{threads}-{shard_size}"
            results.append(merge(make_plan(recipe, threads=threads, shard_size=shard_size), out).tensors)
    assert all(result == results[0] for result in results)
    merged = load_file(tmp_path / f"{BLOCK}-1-{10**9}" / "model.safetensors")
    base, tuned = (load_file(siblings[name] / "model.safetensors") for name in ("base", "tuned"))
    for number, share in enumerate(DENSITIES):
        for name in (f"d{number}.t{n}" for n in range(TENSORS)):
            changed = int((merged[name] != base[name]).sum())
            there = int((tuned[name] != base[name]).sum())
            if not method.startswith("dare"):
                assert changed == min(int(share * base[name].numel()), there), name
            assert share != 0 or changed == 0
            assert share != 1 or torch.equal(merged[name], tuned[name])
