"""From the Hub to the Hub with little memory and disk, measured on models of any size that the embedded Hub makes up.

    python benchmarks/hub.py                                # three siblings of 70B: stops after 30 GB were streamed
    python benchmarks/hub.py --size 1B --stop-gb 1000       # a whole merge
    python benchmarks/hub.py --size 671B --stop-gb 0        # only the plan of three DeepSeek-V3

A Hub on this machine serves generated weights, which take no disk. `hubmerge plan --stream` is timed on them, then
`hubmerge merge --stream --push` runs with an empty cache while its memory and all files that it makes are watched.
Needs Linux: memory is read from /proc. What the Hub stores of the result is not counted: it is the other end.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from measured import _numbers, measured
from memory import bare_process
from merge import conditions, find_hubmerge, table_row

from hubmerge.localhub import SIZES, GeneratedModel, LocalHub, siblings
from hubmerge.localhub.generated.patterns import ITEM_BYTES

USER = "bench"
EVERY = 0.05  # seconds between two looks


@dataclass
class Watch:
    """The highest figures seen while a merge ran: bytes."""

    anonymous: int = 0
    disk: int = 0
    largest_file: int = 0
    fetched_files: int = 0

    def look(self, pid: int, folder: Path) -> None:
        """Takes one sample of the process and of the folder that all its files go to."""
        status = _numbers(f"/proc/{pid}/status")
        self.anonymous = max(self.anonymous, 1024 * (status.get("RssAnon", 0) + status.get("RssShmem", 0)))
        sizes = {path: _size(path) for path in folder.rglob("*")}
        self.disk = max(self.disk, sum(sizes.values()))
        self.largest_file = max(self.largest_file, *sizes.values(), 0)
        cached = [path for path in sizes if "hub" in path.relative_to(folder).parts and path.suffix == ".safetensors"]
        self.fetched_files = max(self.fetched_files, len(cached))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # it was there a moment ago
        return 0


class Served:
    """The bytes of weights that the Hub has sent: what its log tells, whose oldest entries it forgets."""

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self.nbytes = self.requests = 0

    def count(self) -> int:
        """Takes what the log has now, and clears it; returns all bytes so far."""
        entries = self._hub.log
        self._hub.clear_log()
        weights = [entry for entry in entries if entry.method == "GET" and entry.path.endswith(".safetensors")]
        self.nbytes += sum(entry.sent for entry in weights)
        self.requests += len(entries)
        return self.nbytes


def recipe(names: list[str], method: str) -> dict:
    """A merge of all of them, the first being the base."""
    base, *others = (f"{USER}/{name}" for name in names)
    if method == "linear":
        models = [base, *others]
        return {"merge_method": method, "models": [{"model": m, "parameters": {"weight": 1}} for m in models]}
    parameters = {"weight": 0.5, "density": 0.5}
    return {
        "merge_method": method,
        "base_model": base,
        "models": [{"model": other, "parameters": parameters} for other in others],
    }


def main() -> None:
    """Plans and merges; prints what was measured, and what the rest would take at the same speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="70B")
    parser.add_argument("--method", choices=["linear", "ties", "dare_ties"], default="linear")
    parser.add_argument("--shard-gb", type=float, default=5.0)
    parser.add_argument("--stop-gb", type=float, default=30.0, help="interrupt the merge after so much; 0: no merge")
    options = parser.parse_args()
    bare = bare_process()
    print(conditions())
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with LocalHub(root / "server", users={USER: f"hf_{USER}"}) as hub:
            for name, model in siblings(options.size).items():
                hub.generate(f"{USER}/{name}", model)
            path = root / "recipe.yaml"
            path.write_text(json.dumps(recipe(list(siblings(options.size)), options.method)))  # JSON is YAML
            home = root / "home"
            environment = os.environ | hub.environment(USER) | {"HF_HOME": str(home), "TMPDIR": str(root / "tmp")}
            (root / "tmp").mkdir()
            served = Served(hub)
            used = measured([find_hubmerge(), "plan", path, "--stream"], **environment)
            traffic = sum(entry.sent for entry in hub.log)
            print(
                f"\nplan: {used.wall:.1f} s, {used.cpu:.1f} s of CPU, {used.peak / 1e6:.0f} MB of memory (RSS), "
                f"{traffic / 1e6:.1f} MB of answers in {len(hub.log)} requests\n"
            )
            if options.stop_gb == 0:
                return
            served.count()
            served.nbytes = served.requests = 0

            command = [find_hubmerge(), "merge", path, "--stream", "--push", f"{USER}/merged"]
            command += ["--shard-size", f"{options.shard_gb}GB"]
            watch = Watch()
            began = time.monotonic()
            with open(root / "output.txt", "w") as output:
                process = subprocess.Popen([*map(str, command)], env=environment, stdout=output, stderr=output)
                while process.poll() is None:
                    watch.look(process.pid, home)
                    if served.count() >= options.stop_gb * 1e9:
                        process.send_signal(signal.SIGINT)
                        watch.look(process.pid, home)
                        process.wait()
                    time.sleep(EVERY)
            seconds = time.monotonic() - began
            served.count()
            if process.returncode not in (0, 130):
                sys.exit((root / "output.txt").read_text()[-2000:])
            needed = sum(model_bytes(model) for model in siblings(options.size).values())
            report(options, process.returncode == 0, seconds, served, needed, watch, bare.anonymous or 0)


def model_bytes(model: GeneratedModel) -> int:
    """Bytes of all tensors of a generated model."""
    return sum(ITEM_BYTES[dtype] * math.prod(shape) for dtype, shape in model.tensors.values())


def report(
    options: argparse.Namespace, whole: bool, seconds: float, served: Served, needed: int, watch: Watch, bare: int
) -> None:
    """Prints the table."""
    rows = {
        "merge": f"{options.method} of 3 x {options.size}, {'finished' if whole else 'interrupted as asked'}",
        "bytes of weights needed": f"{needed / 1e9:.3f} GB",
        "bytes of weights served": f"{served.nbytes / 1e9:.3f} GB ({served.nbytes / needed:.2%})",
        "requests": f"{served.requests}",
        "seconds": f"{seconds:.0f} ({served.nbytes / seconds / 1e6:.0f} MB/s)",
        "peak anonymous memory over the bare process": f"{(watch.anonymous - bare) / 1e6:.0f} MB",
        "most on disk at a time": f"{watch.disk / 1e9:.3f} GB (asked for files of {options.shard_gb} GB)",
        "source files in the cache": f"{watch.fetched_files}",
    }
    if not whole:
        hours = needed / served.nbytes * seconds / 3600
        rows["the whole merge, extrapolated at this speed"] = f"{hours:.1f} h"
    print(table_row("", "measured"))
    print(table_row("---", "---"))
    for name, value in rows.items():
        print(table_row(name, value))


if __name__ == "__main__":
    main()
