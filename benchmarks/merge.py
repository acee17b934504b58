"""Times merges of sibling models: hubmerge, mergekit and plain file I/O, each a process of its own, in turn.

    python benchmarks/merge.py                                              # 3 models of 0.3 GB: a first look
    python benchmarks/merge.py --size 0.85B --keep siblings                 # 3 models of 1.7 GB
    python benchmarks/merge.py --size 0.85B --keep siblings --methods ties  # the same models, not made again
    python benchmarks/merge.py --size 0.85B --keep siblings --lora 16       # LoRAs of rank 16 on the first of them

mergekit takes part where HUBMERGE_MERGEKIT names `mergekit-yaml`, or it lies beside this Python or on the PATH. Both
programs run with their default options, offline. "plain I/O" reads the inputs and writes one model's bytes, synced to
the disk: no merge can be faster here. Before each run the inputs are read into the system's cache; with --cold they
are dropped from it, which also shows how much each program takes from the disk. The Markdown table holds medians over
--runs; progress goes to stderr. benchmarks/memory.py measures what the memory depends on.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from measured import CommandFailed, Usage, measured, median
from siblings import SIZES, make_adapters, make_siblings, shape_of, weight_files

from hubmerge.methods import METHODS as KNOWN

METHODS: dict[str, dict] = {
    "linear": {"weight": 0.5},
    "slerp": {},
    "task_arithmetic": {"weight": 0.5},
    "ties": {"weight": 0.5, "density": 0.5},
    "dare_ties": {"weight": 0.5, "density": 0.5},
}

SHARED: dict[str, dict] = {"slerp": {"t": 0.4}, "nearswap": {"t": 0.01}, "wudi": {"steps": 3}}
"""What is said for all models. The memory of wudi does not depend on its steps."""

COLUMNS = (
    *("method", "program", "wall s", "CPU s", "RSS MB", "anonymous MB", "read (disk) MB", "written (disk) MB"),
    *("wall / mergekit", "RSS / mergekit", "wall / plain I/O"),
)

LEGEND = """
MB: 10^6 bytes. RSS: resident memory at its peak, mapped files included. anonymous: memory at its peak that no file
backs, in samples 20 ms apart. read, written: through read() and write(), cached or not, mapped files left out; in
brackets what was fetched from the disk and what was sent towards it, mapped files included."""

# As little as can be done: one buffer, used again and again. The last argument is the folder to write into.
PLAIN_IO = """
import os, sys
*models, out = sys.argv[1:]
os.makedirs(out)
buffer = memoryview(bytearray(1 << 24))
for number, model in enumerate(models):
    for name in sorted(name for name in os.listdir(model) if name.endswith(".safetensors")):
        target = open(f"{out}/{name}", "wb", buffering=0) if number == 0 else None
        with open(f"{model}/{name}", "rb", buffering=0) as source:
            while count := source.readinto(buffer):
                target and target.write(buffer[:count])
        target and (os.fsync(target.fileno()), target.close())
"""


def recipe(method: str, models: Sequence[object]) -> dict:
    """The recipe of one method over models by name or folder, the first being the base; slerp wants two."""
    base, *others = map(str, models)
    found = KNOWN[method]
    own = METHODS.get(method, {one.name: 0.5 for one in found.parameters if one.name in ("weight", "density")})
    based = method == "slerp" or found.base == "required"
    return {
        "merge_method": method,
        "dtype": "bfloat16",
        "models": [
            {"model": one, "parameters": own} for one in (others if based and method != "slerp" else [base, *others])
        ],
        **({"base_model": base} if based else {}),
        **({"parameters": SHARED[method]} if method in SHARED else {}),
    }


def find_program(name: str) -> str | None:
    """A console script beside this Python or on the PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def find_hubmerge() -> str:
    """The `hubmerge` to measure; ends this program where there is none."""
    return find_program("hubmerge") or sys.exit("hubmerge is not installed in this environment: pip install -e .")


def find_mergekit() -> str | None:
    """The `mergekit-yaml` to compare with, if any."""
    return os.environ.get("HUBMERGE_MERGEKIT") or find_program("mergekit-yaml")


def conditions() -> str:
    """Date, machine, versions and command line: what a table needs beside it."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        processor = next((value.strip() for key, _, value in lines if key.strip() == "model name"), processor)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    packages = _versions(sys.executable, "hubmerge", "torch")
    if mergekit := find_mergekit():
        packages += "; " + _versions(str(Path(mergekit).with_name("python")), "mergekit", "torch")
    return (
        f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}; {processor}, {os.cpu_count()} cores, "
        f"{memory / 1e9:.0f} GB RAM; {platform.system()} {platform.release()}, Python {platform.python_version()}; "
        f"{packages}\n\n    python {shlex.join(sys.argv)}\n"
    )


def _versions(python: str, *packages: str) -> str:
    script = "import sys, importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
    return subprocess.run([python, "-c", script, *packages], capture_output=True, text=True, check=True).stdout.strip()


def table_row(*cells: object) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def megabytes(count: float | None) -> str:
    """A number of bytes as a cell of a table; "-" where it is not known."""
    return "-" if count is None else f"{count / 1e6:.0f}"


def add_common_options(parser: argparse.ArgumentParser, models: int) -> None:
    """The options that both benchmarks have."""
    parser.add_argument("--models", type=int, choices=range(2, 10), metavar="2-9", default=models, help="siblings made")
    parser.add_argument("--shard-mb", type=int, default=500, help="largest file of a sibling")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the siblings here and leave them here")
    parser.add_argument("--methods", nargs="+", choices=sorted(KNOWN), default=list(METHODS))


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """A folder for recipes and merged models, in the one that holds the siblings if any; removed at the end."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=keep) as work:
        yield Path(work).resolve()


def prepare(sources: Sequence[Path], cold: bool) -> None:
    """Brings the disk to rest, and the inputs into the system's cache or out of it: every run starts alike."""
    os.sync()
    buffer = bytearray(1 << 24)
    for path in (path for source in sources for path in weight_files(source)):
        with open(path, "rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while not cold and file.readinto(buffer):
                pass


def run_once(program: str, path: Path, sources: Sequence[Path], out: Path, cold: bool) -> Usage:
    """Runs one program on one recipe, checks that a whole model came out, and removes it and what else was written."""
    merged_loras = out.with_name("merged-loras")  # mergekit's, which would serve it again
    commands: dict[str, list] = {
        "plain I/O": [sys.executable, "-I", "-S", "-c", PLAIN_IO, *sources, out],
        "hubmerge": [find_hubmerge(), "merge", path, "--out", out],
        "mergekit": [find_mergekit(), path, out, "--lora-merge-cache", merged_loras],
    }
    prepare(sources, cold)
    try:
        usage = measured(commands[program], HF_HUB_OFFLINE="1")
    except CommandFailed as exc:
        sys.exit(f"{program} failed on {path.stem}:\n{exc}")
    size, expected = (sum(file.stat().st_size for file in weight_files(folder)) for folder in (out, sources[0]))
    if size < 0.99 * expected:  # headers differ in length
        sys.exit(f"{program} left {size} bytes of weights on {path.stem}, expected about {expected}.")
    shutil.rmtree(out)
    shutil.rmtree(merged_loras, ignore_errors=True)
    return usage


def row(method: str, program: str, results: dict[str, Usage]) -> str:
    """The table's line for one program, beside the others' results."""
    own, plain, mergekit = results[program], results["plain I/O"], results.get("mergekit")
    return table_row(
        method,
        program,
        f"{own.wall:.1f}",
        f"{own.cpu:.1f}",
        megabytes(own.peak),
        megabytes(own.anonymous),
        f"{megabytes(own.read)} ({megabytes(own.disk_read)})",
        f"{megabytes(own.written)} ({megabytes(own.disk_written)})",
        f"{own.wall / mergekit.wall:.2f}" if mergekit else "-",
        f"{own.peak / mergekit.peak:.2f}" if mergekit else "-",
        f"{own.wall / plain.wall:.1f}",
    )


def main() -> None:
    """Makes the models, runs everything, prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser, models=3)
    parser.add_argument("--size", choices=SIZES, default="0.15B")
    parser.add_argument("--hidden", type=int, help="instead of that of --size, a multiple of 256")
    parser.add_argument("--layers", type=int, help="instead of that of --size")
    parser.add_argument("--lora", type=int, metavar="RANK", help="not siblings but LoRAs on top of the first model")
    parser.add_argument("--runs", type=int, choices=range(1, 100), metavar="1-99", default=3)
    parser.add_argument("--cold", action="store_true", help="drop the inputs from the system's cache before each run")
    options = parser.parse_args()
    if options.cold and not hasattr(os, "posix_fadvise"):
        parser.error("--cold needs a system that can drop files from its cache, such as Linux")
    shape = SIZES[options.size]
    try:
        if options.hidden is not None or options.layers is not None:
            shape = shape_of(options.hidden or shape.hidden, options.layers or shape.layers, shape.vocab)
    except ValueError as exc:
        parser.error(str(exc))
    programs = ["plain I/O", *(["mergekit"] if find_mergekit() else []), "hubmerge"]

    print(conditions(), flush=True)
    with work_folder(options.keep) as work:
        count = 1 if options.lora else options.models
        models = make_siblings(options.keep or work, shape, count, options.shard_mb * 10**6)
        adapters = make_adapters(models[0], shape, options.models - 1, options.lora) if options.lora else []
        size = sum(path.stat().st_size for path in weight_files(models[0]))
        what = f"A model and {len(adapters)} LoRAs" if adapters else f"{len(models)} models"
        print(f"{what} of {shape.parameters / 1e9:.2f}B parameters, {size / 1e9:.2f} GB\n")
        print(table_row(*COLUMNS), table_row(*["---"] * len(COLUMNS)), sep="\n", flush=True)
        for method in options.methods:
            sources = [*models, *adapters][: 2 if method == "slerp" else None]
            names = [str(source) if source in models else f"{models[0]}+{source}" for source in sources]
            path = work / f"{method}.yaml"
            path.write_text(json.dumps(recipe(method, names)))  # JSON is YAML
            runs: dict[str, list[Usage]] = {program: [] for program in programs}
            for number in range(options.runs):
                for program in programs:
                    usage = run_once(program, path, sources, work / "out", options.cold)
                    runs[program].append(usage)
                    print(f"{method}, run {number + 1}: {program} {usage.wall:.1f} s", file=sys.stderr, flush=True)
            results = {program: median(usages) for program, usages in runs.items()}
            print(*(row(method, program, results) for program in programs), sep="\n", flush=True)
    print(LEGEND)


if __name__ == "__main__":
    main()
