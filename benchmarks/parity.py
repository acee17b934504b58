"""Hundreds of recipes drawn at random, merged by hubmerge and by mergekit from the same files, number by number.

    HUBMERGE_MERGEKIT=.../mergekit-yaml python benchmarks/parity.py --merges 500 --seed 0

Each recipe is of tiny Llamas: a method of mergekit's, one to four models, parameters as numbers, gradients over the
layers or values by the tensor's name, at the model, the slice or the recipe; whole models or slices; sources in
float32, float16 or bfloat16; float32, or one of the others, written. The table has a line a method. Of those
that draw random masks, which differ, single models are compared by how many entries are kept and how large they are.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from merge import conditions, find_mergekit, table_row
from safetensors.torch import load_file, save_file

from hubmerge import Recipe, merge
from hubmerge.localhub import LlamaShape
from hubmerge.methods import METHODS

SHAPE = LlamaShape(hidden=32, intermediate=96, layers=4, heads=4, kv_heads=2, vocab=120)
DTYPES = ("float32", "bfloat16", "float16")
APART = 1e-6
"""How far apart two numbers may be; in bfloat16 and float16 also one step."""

EQUAL_RANKS = "equal ranks: "

THEIRS = """
import json, sys, yaml
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge

for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        config = MergeConfiguration.model_validate(yaml.safe_load((folder / "recipe.yaml").read_text()))
        run_merge(config, str(folder / "theirs"), MergeOptions(copy_tokenizer=False, quiet=True))
    except BaseException as error:
        (folder / "theirs.txt").write_text(f"{type(error).__name__}: {error}")
"""

RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")
"""Methods that draw masks."""
RANKED = ("ties", "breadcrumbs", "breadcrumbs_ties", "sce", "arcee_fusion")
"""Methods that keep numbers by their rank: of equal ones, of which 16 bits have many and float32 a few, each program
keeps others."""


def make_models(root: Path) -> dict[str, list[Path]]:
    """A base and four models of it in each dtype, the base first: a few changes are large, none are equal."""
    generator = torch.Generator().manual_seed(7)

    def noise(shape: tuple[int, ...], size: float) -> torch.Tensor:
        spread = torch.randn(shape, generator=generator) * size
        return spread * torch.rand(shape, generator=generator).mul(3).exp()

    base = {name: noise(shape, 0.01) for name, shape in SHAPE.tensors.items()}
    states = [base] + [{name: one + noise(tuple(one.shape), 0.002) for name, one in base.items()} for _ in range(4)]
    made: dict[str, list[Path]] = {}
    for dtype in DTYPES:
        for number, state in enumerate(states):
            folder = root / dtype / f"model{number}"
            folder.mkdir(parents=True)
            stored = {name: one.to(getattr(torch, dtype)) for name, one in state.items()}
            save_file(stored, folder / "model.safetensors", {"format": "pt"})
            (folder / "config.json").write_text(json.dumps({**SHAPE.config, "dtype": dtype}))
            made.setdefault(dtype, []).append(folder)
    return made


class Drawn:
    """Recipes, one after another, by a seed."""

    def __init__(self, models: dict[str, list[Path]], seed: int) -> None:
        self._models = models
        self._random = random.Random(seed)

    def recipe(self, method: str) -> dict[str, Any]:
        """One of this method."""
        draw = self._random
        dtype = draw.choice([*DTYPES, "float32"])
        base, *others = self._models[dtype]
        found = METHODS[method]
        least = max(
            found.min_models, 2 if method in ("linear", "multislerp", "karcher", "sce", "ram", "ramplus_tl") else 1
        )
        most = found.max_models or 4
        count = 1 if method in RANDOM else draw.randint(least, max(least, most))
        chosen = [str(one) for one in draw.sample(others, count)]
        document: dict[str, Any] = {"merge_method": method, "dtype": "float32"}
        if found.base == "required" or (found.base == "optional" and draw.random() < 0.5):
            document["base_model"] = str(base)
        if (out := draw.choice(["float32", "float32", "bfloat16", "float16"])) != "float32":
            document["out_dtype"] = out
        each, shared = self._parameters(method)
        own = [{name: value() for name, value in each.items()} for _ in chosen]
        if draw.random() < 0.25:  # one for all models
            shared |= own[0]
            own = [{} for _ in chosen]
        if shared:
            document["parameters"] = shared
        if method == "passthrough" or draw.random() < 0.25:
            document["slices"] = self._slices(method, chosen, own, document.get("base_model"))
        else:
            document["models"] = [
                {"model": one, **({"parameters": given} if given else {})}
                for one, given in zip(chosen, own, strict=True)
            ]
        return document

    def _slices(
        self, method: str, chosen: list[str], own: list[dict[str, Any]], base: str | None
    ) -> list[dict[str, Any]]:
        slices = []
        for _ in range(self._random.randint(1, 3)):
            start = self._random.randint(0, SHAPE.layers - 1)
            layers = [start, self._random.randint(start + 1, SHAPE.layers)]
            sources = [
                {"model": one, "layer_range": layers, **({"parameters": given} if given else {})}
                for one, given in zip(chosen, own, strict=True)
            ]
            if base is not None:
                sources.insert(0, {"model": base, "layer_range": layers})
            slices.append({"sources": sources})
        return slices

    def _parameters(self, method: str) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
        """What each model gets, and what all of them do."""
        draw = self._random
        signed = method in ("task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties")

        def weight() -> Any:
            return self._varied(lambda: round(draw.uniform(0.1, 1.2) * (draw.choice([1, 1, -1]) if signed else 1), 2))

        def share() -> Any:
            return self._varied(lambda: round(draw.uniform(0.15, 1.0), 2))

        each: dict[str, Callable[[], Any]] = {}
        shared: dict[str, Any] = {}
        names = {parameter.name for parameter in METHODS[method].parameters}
        if "weight" in names:
            each["weight"] = weight
        if "density" in names and draw.random() < 0.8:
            each["density"] = share
        if "gamma" in names and draw.random() < 0.8:
            each["gamma"] = lambda: round(draw.uniform(0.0, 0.1), 3)
        if "epsilon" in names and method.startswith("della"):
            each["density"], each["epsilon"] = (lambda: round(draw.uniform(0.4, 0.6), 2)), lambda: 0.1
        for name, value in {
            "lambda": lambda: round(draw.uniform(0.3, 1.5), 2),
            "normalize": lambda: draw.choice([True, False]),
            "select_topk": lambda: round(draw.uniform(0.1, 1.0), 2),
            "filter_wise": lambda: draw.choice([True, False]),
            "nuslerp_flatten": lambda: draw.choice([True, False]),
            "nuslerp_row_wise": lambda: draw.choice([True, False]),
            "normalize_weights": lambda: draw.choice([True, False]),
        }.items():
            if name in names and draw.random() < 0.6:
                shared[name] = value()
        if method in ("slerp", "nearswap"):
            shared["t"] = self._varied(lambda: round(draw.uniform(0, 1) * (1 if method == "slerp" else 0.01), 4))
        if method in ("ram", "ramplus_tl"):
            shared["epsilon"] = draw.choice([1e-3, 5e-3, 1e-2])
        if method == "passthrough" and draw.random() < 0.5:
            each["scale"] = lambda: round(draw.uniform(0.2, 1.5), 2)
        return each, shared

    def _varied(self, value: Callable[[], float]) -> Any:
        """A number, a gradient, or values by name with one for all the rest."""
        kind = self._random.choice(["number", "number", "gradient", "filters"])
        if kind == "number":
            return value()
        if kind == "gradient":
            return [value() for _ in range(self._random.randint(2, 5))]
        parts = self._random.sample(["self_attn", "mlp", "norm", "q_proj", "embed_tokens", "layers.2."], 2)
        nested = [{"filter": part, "value": self._random.choice([value(), [value(), value()]])} for part in parts]
        return [*nested, {"value": value()}]


def compare(folder: Path, document: dict[str, Any]) -> str:
    """ "" where both agree, else how they differ."""
    try:
        merge(Recipe.from_dict(document), folder / "ours")
    except Exception as error:
        ours = f"{type(error).__name__}: {error}"
    else:
        ours = ""
    theirs = (folder / "theirs.txt").read_text() if (folder / "theirs.txt").is_file() else ""
    if ours or theirs:
        return "" if ours and theirs else f"hubmerge: {ours or 'merges'} | mergekit: {theirs or 'merges'}"
    mine, other = (load_all(folder / name) for name in ("ours", "theirs"))
    if mine.keys() != other.keys():
        return f"other tensors: {sorted(mine.keys() ^ other.keys())[:3]}"
    if document["merge_method"] in RANDOM:
        return statistically_alike(mine, other, document)
    worst, count, where = 0.0, 0, ""
    level = document["merge_method"] in RANKED
    for name, one in mine.items():
        if one.dtype != other[name].dtype or one.shape != other[name].shape:
            return f"{name} is {one.dtype} {list(one.shape)}, theirs {other[name].dtype} {list(other[name].shape)}"
        apart = (one.double() - other[name].double()).abs()
        apart = torch.where(steps(one, other[name]) <= (one.dtype != torch.float32), 0.0, apart)
        count += int((apart > APART).sum())
        level &= are_level(document, name, apart > APART)
        if float(apart.max()) > worst:
            worst, where = float(apart.max()), name
    if not count:
        return ""
    return f"{EQUAL_RANKS if level else ''}{worst:.1e} apart in {where}, {count} numbers in all"


def are_level(document: dict[str, Any], name: str, places: torch.Tensor) -> bool:
    """Whether each of these numbers of a tensor is one that a model changed as much as another: ranks leave open which
    is kept. Of slices, whose layers lie elsewhere, and of ranks over several models it is taken so in 16 bits."""
    if not places.any():
        return True
    if "slices" in document or document["merge_method"] in ("sce", "arcee_fusion"):
        return "float32/" not in str(document)
    base = load_all(Path(document["base_model"]))[name]
    found = torch.zeros_like(places)
    for entry in document["models"]:
        changed = (load_all(Path(entry["model"]))[name].float() - base.float()).abs()
        _, which, often = changed.unique(return_inverse=True, return_counts=True)
        found |= often[which] > 1
    return bool(found[places].all())


def steps(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How many numbers of their dtype lie between two tensors' elements, and one."""
    wide = torch.int32 if one.dtype == torch.float32 else torch.int16
    ordered = [
        torch.where((bits := t.view(wide).long()) < 0, -(bits & torch.iinfo(wide).max), bits) for t in (one, other)
    ]
    return (ordered[0] - ordered[1]).abs()


def statistically_alike(mine: dict[str, torch.Tensor], other: dict[str, torch.Tensor], document: dict[str, Any]) -> str:
    """ "" where as many entries moved away from the base, as far, within five standard deviations of a coin."""
    base = load_all(Path(document["base_model"]))
    if "slices" in document:  # layers lie elsewhere: only what is outside of them
        base = {name: one for name, one in base.items() if ".layers." not in name}
    moved, far = [], []
    for state in (mine, other):
        change = torch.cat([(state[name].double() - one.double()).flatten() for name, one in base.items()])
        moved.append(float((change.abs() > 1e-9).double().mean()))
        far.append(float(change.abs().sum()))
    spread = 5 * (0.5 / sum(one.numel() for one in base.values())) ** 0.5
    if abs(moved[0] - moved[1]) > spread or abs(far[0] / far[1] - 1) > 5 * spread:
        return f"{moved[0]:.3f} of the numbers moved, theirs {moved[1]:.3f}; {far[0]:.4g} in all, theirs {far[1]:.4g}"
    return ""


def load_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in sorted(folder.glob("*.safetensors")) for name, one in load_file(file).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merges", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", help="only these")
    arguments = parser.parse_args()
    program = find_mergekit() or sys.exit("mergekit is not installed: set HUBMERGE_MERGEKIT to its mergekit-yaml.")
    python = Path(program).with_name("python")
    ours = ("split_slerp", "consensus_ta", "tsv_m", "iso_c", "iso_cts", "knots_ties", "wudi")
    methods = arguments.methods or [name for name in METHODS if name not in ours]
    with tempfile.TemporaryDirectory() as work:
        drawn = Drawn(make_models(Path(work) / "models"), arguments.seed)
        documents = {}
        for number in range(arguments.merges):
            folder = Path(work) / "merges" / f"{number:05d}"
            folder.mkdir(parents=True)
            documents[folder] = drawn.recipe(methods[number % len(methods)])
            (folder / "recipe.yaml").write_text(yaml.safe_dump(documents[folder]))
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        subprocess.run([str(python), "-c", THEIRS, str(Path(work) / "merges")], env=environment, check=True)
        found: dict[str, list[str]] = {name: [] for name in methods}
        for folder, document in documents.items():
            found[document["merge_method"]].append(compare(folder, document))
            if found[document["merge_method"]][-1]:
                print(f"{found[document['merge_method']][-1]}\n{yaml.safe_dump(document, default_flow_style=True)}")
    print(conditions())
    print(table_row("method", "merges", "differ", "of them by equal ranks"))
    print(table_row("---", "---:", "---:", "---:"))
    for name, results in found.items():
        ties = sum(result.startswith(EQUAL_RANKS) for result in results)
        print(table_row(name, len(results), sum(map(bool, results)), ties))


if __name__ == "__main__":
    main()
