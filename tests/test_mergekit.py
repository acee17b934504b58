"""Agreement with mergekit 0.1.5, run in a process of its own, on three tiny siblings in float32."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from streamtools import weights
from test_stream_adapted import lora

from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge


def find_mergekit() -> Path | None:
    """The Python that has mergekit: beside HUBMERGE_MERGEKIT, or beside `mergekit-yaml` here or on the PATH."""
    here = shutil.which("mergekit-yaml", path=str(Path(sys.executable).parent))
    program = os.environ.get("HUBMERGE_MERGEKIT") or here or shutil.which("mergekit-yaml")
    return Path(program).with_name("python") if program else None


pytestmark = pytest.mark.skipif(
    find_mergekit() is None, reason="mergekit is not installed (pip install 'hubmerge[mergekit]')"
)

# One process for all recipes: importing mergekit takes longer than all the merges.
RUN_ALL = """
import sys, yaml
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge

for recipe in sorted(Path(sys.argv[1]).glob("*/recipe.yaml")):
    config = MergeConfiguration.model_validate(yaml.safe_load(recipe.read_text()))
    cache = str(Path(sys.argv[1]) / "merged-loras")
    run_merge(
        config, str(recipe.parent / "theirs"), MergeOptions(copy_tokenizer=False, quiet=True, lora_merge_cache=cache)
    )
"""

BOTH = {"weight": 0.7, "density": 0.6}, {"weight": 0.5, "density": 0.4}
CRUMBS = tuple({**settings, "gamma": 0.05} for settings in BOTH)
WEIGHTS = {"weight": 0.7}, {"weight": 0.5}
NOTHING: tuple[dict, ...] = ({}, {})
GRADIENT = {"weight": [0.2, 0.9, 0.4]}, {"weight": [{"filter": "mlp", "value": 0.3}, {"value": 0.8}]}
FILTERED = {"t": [{"filter": "self_attn", "value": [0.1, 0.9]}, {"value": 0.4}]}

CASES: dict[str, tuple[str, tuple[dict, ...], dict]] = {
    "linear": ("linear", WEIGHTS, {}),
    "linear-gradient": ("linear", GRADIENT, {}),
    "linear-sum": ("linear", WEIGHTS, {"normalize": False}),
    "slerp": ("slerp", ({},), {"t": 0.3}),
    "slerp-filters": ("slerp", ({},), FILTERED),
    "task_arithmetic": ("task_arithmetic", WEIGHTS, {}),
    "task_arithmetic-lambda": ("task_arithmetic", WEIGHTS, {"lambda": 0.6}),
    "task_arithmetic-gradient": ("task_arithmetic", GRADIENT, {}),
    "ties": ("ties", BOTH, {}),
    "ties-sum": ("ties", BOTH, {"normalize": False}),
    "ties-lambda": ("ties", BOTH, {"lambda": 1.3}),
    "ties-negative": ("ties", ({"weight": -0.7, "density": 0.6}, {"weight": 0.5, "density": 0.4}), {}),
    "dare_linear-all": ("dare_linear", WEIGHTS, {}),
    "breadcrumbs": ("breadcrumbs", CRUMBS, {}),
    "breadcrumbs_ties": ("breadcrumbs_ties", CRUMBS, {"lambda": 0.8}),
    "dare_ties-all": ("dare_ties", WEIGHTS, {}),
    "breadcrumbs-default": ("breadcrumbs", WEIGHTS, {}),
    "della-all": ("della", WEIGHTS, {}),
    "della_linear-all": ("della_linear", WEIGHTS, {"lambda": 0.8}),
    "nuslerp": ("nuslerp", WEIGHTS, {}),
    "nuslerp-rows": ("nuslerp", WEIGHTS, {"nuslerp_flatten": False}),
    "nuslerp-columns": ("nuslerp", WEIGHTS, {"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    "nuslerp-base": ("nuslerp", GRADIENT, {"base_model": True}),
    "nuslerp-base-rows": ("nuslerp", WEIGHTS, {"nuslerp_flatten": False, "base_model": True}),
    "multislerp": ("multislerp", GRADIENT, {}),
    "multislerp-sum": ("multislerp", WEIGHTS, {"normalize_weights": False}),
    "multislerp-base": ("multislerp", WEIGHTS, {"base_model": True}),
    "karcher": ("karcher", NOTHING, {}),
    "karcher-once": ("karcher", NOTHING, {"max_iter": 1}),
    "model_stock": ("model_stock", NOTHING, {}),
    "model_stock-rows": ("model_stock", NOTHING, {"filter_wise": True}),
    "sce": ("sce", NOTHING, {}),
    "sce-select": ("sce", NOTHING, {"select_topk": 0.3}),
    "ram": ("ram", NOTHING, {"epsilon": 0.005}),
    "ramplus_tl": ("ramplus_tl", NOTHING, {}),
    "ramplus_tl-more": ("ramplus_tl", NOTHING, {"epsilon": 0.01, "r": 0.6, "alpha": 2.0}),
    "nearswap": ("nearswap", ({},), {"t": 0.002}),
    "arcee_fusion": ("arcee_fusion", ({},), {}),
}
EITHER_WAY = {"arcee_fusion": 5e-4}
"""Share of the elements that may differ: those as close to a threshold as rounding goes are taken or not."""
OTHERS = ("stack", "slices-gradient", "loras")


def recipes(base: Path, first: Path, second: Path) -> dict[str, dict]:
    """Every recipe to compare, by name."""
    documents: dict[str, dict] = {}
    for case, (method, settings, shared) in CASES.items():
        entries = [{"model": str(m), "parameters": p} for m, p in zip((first, second), settings, strict=False)]
        shared = dict(shared)
        based = shared.pop("base_model", METHODS[method].base == "required")
        documents[case] = {"merge_method": method, "models": entries, "parameters": shared}
        if based:
            documents[case]["base_model"] = str(base)
    pieces = ((first, [0, 2]), (second, [1, 3]), (first, [2, 3]))
    documents["stack"] = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": str(m), "layer_range": layers}]} for m, layers in pieces],
    }
    documents["slices-gradient"] = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "parameters": {"weight": [0.2, 0.8]},
        "slices": [
            {"sources": [{"model": str(m), "layer_range": layers} for m in (base, first, second)]}
            for layers in ([0, 2], [2, 3])
        ],
    }
    return {name: document | {"dtype": "float32"} for name, document in documents.items()}


@pytest.fixture(scope="module")
def merged(tiny_llama: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder a recipe: recipe.yaml and what mergekit made of it ("theirs")."""
    root = tmp_path_factory.mktemp("mergekit")
    for head, tied in (("tied", True), ("untied", False)):
        base = tiny_llama(root / f"{head}-base", seed=1, tie_word_embeddings=tied)
        siblings = [tiny_llama(root / f"{head}-{n}", seed=n, sibling_of=base) for n in (2, 3)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loras = [lora(base, root / f"{head}-lora{n}", n)[0] for n in (4, 5)]
        documents = recipes(base, *siblings)
        entries = [{"model": f"{base}+{one}", "parameters": {"weight": 0.6, "density": 0.5}} for one in loras]
        documents["loras"] = {**documents["ties"], "models": entries}
        for name, document in documents.items():
            (root / f"{name}-{head}").mkdir()
            (root / f"{name}-{head}" / "recipe.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [str(find_mergekit()), "-c", RUN_ALL, str(root)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return root


@pytest.mark.parametrize("head", ["tied", "untied"])
@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_agrees_with_mergekit(case: str, head: str, merged: Path) -> None:
    folder = merged / f"{case}-{head}"
    merge(Recipe.from_yaml(folder / "recipe.yaml"), folder / "ours")
    ours, theirs = weights(folder / "ours"), weights(folder / "theirs")
    assert ours.keys() == theirs.keys()
    apart = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
    print(f"{case} {head}: largest difference {float(apart.max()):.1e}, {int((apart > 1e-6).sum())} above 1e-6")
    assert int((apart > 1e-6).sum()) <= EITHER_WAY.get(case, 0) * apart.numel()
