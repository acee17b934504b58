"""Times merges of sibling models: hubmerge, mergekit where `mergekit-yaml` is on the PATH, and plain file I/O.

    python benchmarks/merge.py --hidden 512 --layers 8 --models 3 --runs 3

Each program runs as its own process, in turn, `--runs` times; the table shows the median wall and CPU seconds and the
peak resident memory. "plain I/O" reads the inputs and writes one of them again: no merge can be faster on this disk.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

RECIPES = {
    "linear": {"merge_method": "linear", "weight": True},
    "slerp": {"merge_method": "slerp", "parameters": {"t": 0.4}},
    "task_arithmetic": {"merge_method": "task_arithmetic", "weight": True},
    "ties": {"merge_method": "ties", "weight": True, "density": 0.5},
    "dare_ties": {"merge_method": "dare_ties", "weight": True, "density": 0.5},
}


@dataclass(frozen=True)
class Run:
    """One finished process: seconds and peak resident bytes."""

    wall: float
    cpu: float
    memory: int


def make_model(folder: Path, hidden: int, layers: int, seed: int, base: Path | None, shard_bytes: int) -> int:
    """Writes a bfloat16 Llama of random weights (`base` plus small changes where given); returns its bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    if base is None:
        config = LlamaConfig(
            vocab_size=32000,
            hidden_size=hidden,
            intermediate_size=hidden * 11 // 4,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 64,
        )
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    else:
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.01)
    model.save_pretrained(folder, max_shard_size=shard_bytes)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def recipe(name: str, models: list[Path]) -> dict:
    """The recipe of one method over `models`, the first being the base."""
    kind, (base, *others) = RECIPES[name], models
    document: dict = {"merge_method": kind["merge_method"], "dtype": "bfloat16"}
    if name == "slerp":
        return {
            **document,
            "base_model": str(base),
            "models": [{"model": str(base)}, {"model": str(others[0])}],
            "parameters": kind["parameters"],
        }
    used = models if name == "linear" else others
    if name != "linear":
        document["base_model"] = str(base)
    parameters = {"weight": 0.5} | ({"density": kind["density"]} if "density" in kind else {})
    return {**document, "models": [{"model": str(model), "parameters": parameters} for model in used]}


# A small process starts the measured one: the peak of a child counts what its parent held when it was forked.
_STARTER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "wb"), stderr=subprocess.STDOUT)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([status, time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def timed(command: list[str]) -> Run:
    """Runs one process to its end."""
    with tempfile.NamedTemporaryFile() as output:
        starter = [sys.executable, "-c", _STARTER, output.name, *command]
        done = subprocess.run(starter, capture_output=True, text=True, check=True)
        status, wall, cpu, peak = json.loads(done.stdout)
        if status != 0:
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')[-2000:]}")
    return Run(wall, cpu, peak * (1 if platform.system() == "Darwin" else 1024))


def plain_io(models: list[Path], out: Path) -> Run:
    """Reads every input file and writes as many bytes as one model has."""
    script = (
        "import sys, pathlib, os\n"
        "*models, out = map(pathlib.Path, sys.argv[1:])\n"
        "out.mkdir(parents=True)\n"
        "for number, model in enumerate(models):\n"
        "    for path in sorted(model.glob('*.safetensors')):\n"
        "        target = open(out / path.name, 'wb') if number == 0 else None\n"
        "        with open(path, 'rb', buffering=0) as source:\n"
        "            while piece := source.read(1 << 24):\n"
        "                target and target.write(piece)\n"
        "        target and (target.flush(), os.fsync(target.fileno()), target.close())\n"
    )
    return timed([sys.executable, "-c", script, *map(str, models), str(out)])


def main() -> None:
    """Makes the models, runs everything, prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shard-mb", type=int, default=500)
    parser.add_argument("--methods", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    options = parser.parse_args()

    hubmerge = shutil.which("hubmerge", path=str(Path(sys.executable).parent)) or shutil.which("hubmerge")
    mergekit = shutil.which("mergekit-yaml", path=str(Path(sys.executable).parent)) or shutil.which("mergekit-yaml")
    if hubmerge is None:
        sys.exit("hubmerge is not installed in this environment: pip install -e .")
    with tempfile.TemporaryDirectory() as scratch:
        root, models = Path(scratch), []
        for number in range(options.models):
            models.append(root / f"model{number}")
            base = models[0] if number else None
            size = make_model(models[-1], options.hidden, options.layers, number, base, options.shard_mb * 10**6)
        print(f"{options.models} models of {size / 1e9:.2f} GB, {platform.machine()}, {os.cpu_count()} cores\n")
        print("| method | program | wall s | CPU s | peak RSS MB | wall / plain I/O |\n|---|---|---|---|---|---|")
        for method in options.methods:
            path = root / f"{method}.yaml"
            path.write_text(json.dumps(recipe(method, models)))  # JSON is YAML
            results: dict[str, list[Run]] = {}
            for _ in range(options.runs):
                for name in ("plain I/O", "hubmerge", "mergekit"):
                    out = root / "out"
                    if name == "plain I/O":
                        run = plain_io(models, out)
                    elif name == "hubmerge":
                        run = timed([hubmerge, "merge", str(path), "--out", str(out)])
                    elif mergekit:
                        run = timed([mergekit, str(path), str(out)])
                    else:
                        continue
                    results.setdefault(name, []).append(run)
                    shutil.rmtree(out)
            floor = statistics.median(run.wall for run in results["plain I/O"])
            for name, runs in results.items():
                wall = statistics.median(run.wall for run in runs)
                cpu = statistics.median(run.cpu for run in runs)
                memory = statistics.median(run.memory for run in runs)
                print(
                    f"| {method} | {name} | {wall:.1f} | {cpu:.1f} | {memory / 1e6:.0f} | {wall / floor:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
