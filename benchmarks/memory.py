"""What the memory of a merge depends on: model size, number of sources, size of the output files, method.

    python benchmarks/memory.py --keep siblings                # 0.85B and 3B: 18 GB of disk and a while
    python benchmarks/memory.py --keep siblings --limit-gb 2   # the same with no more address space than that
    python benchmarks/memory.py --sizes tiny 0.15B             # a first look
    python benchmarks/memory.py --seeing                       # the first model is a LLaVA's language model
    python benchmarks/memory.py --sizes 3B --layers 1          # 1.2 GB: as large tensors, and fewer of them

Each merge is a process of its own. Its anonymous memory (what no file backs) is given over that of a bare process,
which imports what `hubmerge merge` imports and stops; beside it stands what `hubmerge plan` counts. With --limit-gb
each merge is told to keep within that (`--memory`), and may take that much address space over the bare process's (as
`ulimit -v` sets it), or it fails. More sources than siblings are siblings again, under other names. Needs Linux: the
figures come from /proc.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from measured import CommandFailed, Usage, measured
from merge import add_common_options, conditions, find_hubmerge, megabytes, recipe, table_row, work_folder
from siblings import SIZES, make_seeing, make_siblings, more_sources

from hubmerge import Recipe, make_plan

# It lingers so that the last sample sees everything.
BARE = """
import time
import hubmerge.publish, hubmerge.recipe, hubmerge.stream.executor, hubmerge.terminal
from hubmerge.cli.commands import app
app(["--version"], standalone_mode=False)
time.sleep(0.2)
"""

COLUMNS = (
    "model",
    "sources",
    "output files GB",
    "method",
    "anonymous MB over bare",
    "counted MB",
    "anonymous MB",
    "RSS MB",
    "wall s",
)


def bare_process() -> Usage:
    """Memory and address space of a process that only imports; ends this program where there is no /proc."""
    bare = measured([sys.executable, "-c", BARE], HF_HUB_OFFLINE="1")
    if bare.anonymous is None:
        sys.exit("Memory is sampled from /proc, which this system does not have: run it on Linux.")
    return bare


def merge_once(
    method: str,
    models: list[Path],
    sources: int,
    shard_gb: float,
    work: Path,
    limit: tuple[float, int] | None,
    seeing: Path | None,
) -> tuple[Usage, int]:
    """Runs one merge of that many sources in `work`, and removes what it wrote; its figures, and the memory that a plan
    counts. `limit`: GB of memory, and bytes of address space. The language model of `seeing` takes the place of the
    first source. Raises CommandFailed."""
    with work_folder(work) as folder:
        path = folder / "recipe.yaml"
        first, *others = more_sources(models, sources, folder)
        named = [first if seeing is None else f"{seeing}#language_model", *others]
        path.write_text(json.dumps(recipe(method, named)))  # JSON is YAML
        memory, space = limit or (None, None)
        counted = make_plan(Recipe.from_yaml(path), memory=memory and int(memory * 1e9)).peak_memory
        command = [find_hubmerge(), "merge", path, "--out", folder / "out", "--shard-size", f"{shard_gb}GB"]
        command += ["--memory", f"{memory}GB"] if memory else []
        return measured(command, limit=space, HF_HUB_OFFLINE="1"), counted


def summary(over: dict[str, list[float]]) -> Iterator[str]:
    """The lines of a table with the extremes of each method, and of all."""
    yield table_row("method", "smallest MB", "largest MB", "largest / smallest")
    yield table_row(*["---"] * 4)
    for method, values in {**over, "all": list(itertools.chain(*over.values()))}.items():
        if values:
            small, large = min(values), max(values)
            yield table_row(method, megabytes(small), megabytes(large), f"{large / small:.2f}" if small > 0 else "-")


def main() -> None:
    """Makes the models, merges every combination, prints two Markdown tables; exit code 1 where a merge failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser, models=2)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["0.85B", "3B"])
    parser.add_argument("--sources", nargs="+", type=int, default=[2, 6], help="models in a recipe, base included")
    parser.add_argument("--shard-gb", nargs="+", type=float, default=[0.1, 5.0], help="largest output file")
    parser.add_argument("--layers", type=int, help="of a model, in place of those of its size")
    parser.add_argument("--limit-gb", type=float, help="memory, and address space over that of the bare process")
    parser.add_argument("--seeing", action="store_true", help="the first model is the language model of one that sees")
    options = parser.parse_args()
    if min(options.sources) < 2:
        parser.error("a merge takes at least 2 --sources")

    bare = bare_process()
    limit = (options.limit_gb, int(bare.virtual + options.limit_gb * 1e9)) if options.limit_gb else None
    print(conditions())
    print(f"bare process: {megabytes(bare.anonymous)} MB anonymous, {megabytes(bare.virtual)} MB of address space")
    print("" if limit is None else f"limit: {megabytes(limit[1])} MB of address space\n")
    print(table_row(*COLUMNS), table_row(*["---"] * len(COLUMNS)), sep="\n", flush=True)

    over: dict[str, list[float]] = {method: [] for method in options.methods}
    failed = False
    with work_folder(options.keep) as work:
        for size in options.sizes:
            shape = replace(SIZES[size], layers=options.layers or SIZES[size].layers)
            models = make_siblings(options.keep or work, shape, options.models, options.shard_mb * 10**6)
            seeing = make_seeing(options.keep or work, shape, options.shard_mb * 10**6) if options.seeing else None
            for sources, shard_gb, method in itertools.product(options.sources, options.shard_gb, options.methods):
                if method == "slerp" and sources != 2:
                    continue
                try:
                    run, counted = merge_once(method, models, sources, shard_gb, work, limit, seeing)
                    over[method].append(run.anonymous - bare.anonymous)
                    figures = [*map(megabytes, (over[method][-1], counted, run.anonymous, run.peak)), f"{run.wall:.1f}"]
                except CommandFailed as exc:
                    failed, figures = True, ["failed", *["-"] * 4]
                    print(str(exc).splitlines()[-1], file=sys.stderr, flush=True)
                print(table_row(f"{size}, seeing" if seeing else size, sources, shard_gb, method, *figures), flush=True)
    print("", *summary(over), sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
