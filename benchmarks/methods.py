"""Times merge methods alone: hubmerge and mergekit by turns, in one run, on the same tensors in memory.

    HUBMERGE_MERGEKIT=.../mergekit-yaml python benchmarks/methods.py
    python benchmarks/methods.py --methods ties della --rounds 5
    python benchmarks/methods.py --methods regmean fisher      # hubmerge's alone; what is measured of models is given

Each round merges --tensors tensors of --size x --size, of three models (two where a method takes no more) and the base,
float32, into bfloat16. hubmerge merges as many of them at a time as there are cores, as it does in a merge; mergekit
gets all cores for each. The table holds medians over --rounds, in million input numbers a second, base included.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from merge import conditions, find_mergekit, table_row

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = {
    **{name: {"weight": 0.5} for name in ("linear", "nuslerp", "multislerp", "task_arithmetic")},
    **{name: {"weight": 0.5, "density": 0.5} for name in ("ties", "dare_linear", "dare_ties", "della", "della_linear")},
    **{name: {"weight": 0.5, "density": 0.5, "gamma": 0.01} for name in ("breadcrumbs", "breadcrumbs_ties")},
    "slerp": {"t": 0.4},
    "nearswap": {"t": 0.001},
    "sce": {"select_topk": 0.5},
}

THEIRS = """
import json, sys, time, torch
from mergekit.merge_methods import merge_tensors
tensors, size = int(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
base = torch.randn(size, size) * 0.02
models = [base + torch.randn(size, size) * 0.002 for _ in range(3)]
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    given = dict(asked["given"])
    for name in ("weight", "density", "gamma"):
        if name in given:
            given[name] = [given[name]] * asked["count"]
    inputs = [base] * asked["based"] + models[: asked["count"]]
    began = time.perf_counter()
    for _ in range(tensors):
        place = 0 if asked["based"] else None
        merge_tensors(inputs, asked["method"], parameters=given, base_index=place, out_dtype=torch.bfloat16)
    print(json.dumps(time.perf_counter() - began), flush=True)
"""


class Theirs:
    """mergekit in a process of its own, which answers with seconds."""

    def __init__(self, python: Path, tensors: int, size: int) -> None:
        command = [str(python), "-c", THEIRS, str(tensors), str(size)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def seconds(self, **asked: object) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else sys.exit("mergekit ended before it answered.")


class Ours:
    """hubmerge in this process, its tensors in parallel."""

    def __init__(self, tensors: int, size: int) -> None:
        import torch

        torch.manual_seed(0)
        base = torch.randn(size, size) * 0.02
        self.inputs = [base, *(base + torch.randn(size, size) * 0.002 for _ in range(3))]
        given = torch.randn(2 * size, size)
        self.statistic = given.T @ given  # of inputs, and what may be Fisher information as well
        self.tensors, self.size = tensors, size

    def seconds(self, method: str, given: dict[str, float], count: int, based: bool) -> float:
        from hubmerge.methods import METHODS
        from hubmerge.methods.blocks import Workspace
        from hubmerge.stream.compute import merge_blocks, one_thread
        from hubmerge.stream.tensors import TensorPlan

        table = METHODS[method]
        values = {p.name: given.get(p.name, p.default) for p in table.parameters}
        own = {p.name: values[p.name] for p in table.parameters if p.per_model}
        plan = TensorPlan(
            "weight",
            (self.size, self.size),
            "BF16",
            tuple((1 + n, "weight") for n in range(count)),
            (0, "weight") if based else None,
            (own,) * count,
            {name: value for name, value in values.items() if name not in own},
            statistics=tuple((n, "statistic") for n in range(count)) if table.statistic else (),
        )

        def read(index: int, name: str, start: int, stop: int) -> "Tensor":
            held = self.statistic if name == "statistic" else self.inputs[index]
            return held.view(-1)[start:stop]

        def merge(_: int) -> None:
            for _block in merge_blocks(table, plan, read, Workspace()):
                pass

        with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
            began = time.perf_counter()
            list(pool.map(merge, range(self.tensors)))
            return time.perf_counter() - began


def rows(options: argparse.Namespace) -> Iterator[str]:
    """The table, a line a method."""
    from hubmerge.methods import METHODS

    mergekit = find_mergekit()
    theirs = Theirs(Path(mergekit).with_name("python"), options.tensors, options.size) if mergekit else None
    ours = Ours(options.tensors, options.size)
    yield table_row("method", "models", "hubmerge", "mergekit", "times as fast")
    yield table_row(*["---"] * 5)
    for name in options.methods:
        method = METHODS[name]
        count = min(method.max_models or 3, 3)
        asked = {"method": name, "given": GIVEN.get(name, {}), "count": count, "based": method.base == "required"}
        known = theirs is not None and name in THEIR_METHODS
        mine: list[float] = []
        other: list[float] = []
        for _ in range(options.rounds):
            mine.append(ours.seconds(**asked))
            if theirs is not None and known:
                other.append(theirs.seconds(**asked))
        million = options.tensors * options.size**2 * (count + asked["based"]) / 1e6
        speeds = [f"{million / median(times):.1f}" if times else "-" for times in (mine, other)]
        yield table_row(name, count, *speeds, f"{median(other) / median(mine):.1f}" if other else "-")
        print(f"{name}: {speeds[0]} {speeds[1]}", file=sys.stderr)
    if theirs is not None:
        theirs.close()


THEIR_METHODS = (
    *("linear", "slerp", "nuslerp", "multislerp", "karcher", "task_arithmetic", "ties", "dare_linear", "dare_ties"),
    *("breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce", "ram", "ramplus_tl", "model_stock"),
    *("nearswap", "arcee_fusion", "passthrough"),
)


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(THEIR_METHODS))
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tensors", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(conditions())
    for row in rows(options):
        print(row, flush=True)


if __name__ == "__main__":
    main()
