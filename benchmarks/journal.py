"""What a long search's journal costs: opened, read, gone on with, and told in a report.

    python benchmarks/journal.py                               # 100,000 evaluations
    python benchmarks/journal.py --evaluations 5000 --keep run # a first look; the folder is kept, and made once

A random search over two models, layer by layer, is run with judges that answer at once and a disk that is not waited
for: its journal is what such a search writes. Then each step is a process of its own. `open` is `Journal(...)` as
`hubmerge evolve --resume` does it; `open, unknown` the same where the note beside the journal is gone, as after a
download; `resume` walks the whole search again from the journal; `read` is what charts and exports do; `report` is
`hubmerge report`. Seconds are those of the step itself, but for the report, which is the whole command. Memory is
resident at its peak. The Markdown table goes to stdout, progress to stderr.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from measured import measured
from merge import conditions, find_hubmerge, megabytes, table_row

from hubmerge.evaluate.measurement import Measurement
from hubmerge.evolve.records.folder import JOURNAL_FILE, SEARCH_FILE
from hubmerge.evolve.records.journal import Journal, read_evaluations
from hubmerge.evolve.search import Search

LAYERS, EXAMPLES, KEY = 12, 100, "benchmark"
COLUMNS = ("step", "wall s", "CPU s", "RSS MB")


def search_of(evaluations: int) -> Search:
    """The search whose journal is made."""
    return Search.from_dict(
        {
            "models": ["org/math", "org/japanese"],
            "base_model": "org/base",
            "merge_method": "dare_ties",
            "genome": {"granularity": "layer", "genes": {"weight": [0, 2]}, "start": {"weight": 0.5}},
            "task": {"examples": {"search": [{"question": "1 + 1?", "answer": 2}]}},
            "searcher": {"name": "random", "evaluations": evaluations, "seed": 7},
        }
    )


class Answers:
    """A pool whose workers know each answer at once: a share of the examples that a candidate's number decides."""

    size = 1

    def __init__(self) -> None:
        self._waiting: dict[int, Measurement] = {}

    def submit(self, number: int, candidate: object, asked: object = None) -> None:
        """Answers."""
        marks = (np.random.default_rng(number).random(EXAMPLES) < 0.5).astype(float)
        share = float(marks.mean())
        self._waiting[number] = Measurement(share, share, 1.0, EXAMPLES, tuple(marks.tolist()), seconds=1.5, tokens=900)

    def finished(self, wait: float | None = None) -> dict[int, Measurement]:
        """All answers since the last call."""
        found, self._waiting = self._waiting, {}
        return found


def walk(folder: Path, evaluations: int) -> None:
    """Runs the search in a folder from its beginning; what its journal knows is not measured again."""
    from hubmerge.evolve.explore import explore
    from hubmerge.evolve.spaces.recipes import ParameterGenome

    names = ["model.embed_tokens.weight", *(f"model.layers.{n}.mlp.up_proj.weight" for n in range(LAYERS))]
    search = search_of(evaluations)
    genome = ParameterGenome(search, names)
    with Journal(folder / JOURNAL_FILE, KEY, {}, resume=True) as journal:
        explore(search.searcher, search.fitness, [lambda start: genome], journal, Answers())  # type: ignore[arg-type]


def make(folder: Path, evaluations: int) -> None:
    """Writes the search and its journal, whose lines are not waited for to be on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SEARCH_FILE).write_text(search_of(evaluations).to_yaml())
    os.fsync = lambda file: None  # type: ignore[assignment]
    walk(folder, evaluations)


def open_journal(folder: Path) -> None:
    """Opens the journal to go on."""
    Journal(folder / JOURNAL_FILE, KEY, {}, resume=True).__exit__()


STEPS: dict[str, Callable[[Path, int], object]] = {
    "make": make,
    "open": lambda folder, _: open_journal(folder),
    "open, unknown": lambda folder, _: open_journal(folder),
    "read": lambda folder, _: read_evaluations(folder / JOURNAL_FILE),
    "resume": walk,
}


def step_of(name: str, folder: Path, evaluations: int) -> SimpleNamespace:
    """One step in a process of its own."""
    command = [sys.executable, __file__, "--step", name, "--keep", str(folder), "--evaluations", str(evaluations)]
    return SimpleNamespace(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def take(name: str, folder: Path, evaluations: int) -> None:
    """Takes one step here and prints what it took."""
    import resource

    if name == "open, unknown":
        (folder / ".hubmerge" / "seal.json").unlink(missing_ok=True)
    began, used = time.perf_counter(), time.process_time()
    STEPS[name](folder, evaluations)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def main() -> None:
    """Reads the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="make the run here, or use the one that is here")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        take(options.step, options.keep, options.evaluations)
    else:
        table(options.evaluations, options.keep)


def table(evaluations: int, keep: Path | None) -> None:
    """Makes the run, takes each step, prints a Markdown table."""
    print(conditions(), flush=True)
    with tempfile.TemporaryDirectory(prefix="journal-") as made:
        folder = keep or Path(made)
        journal = folder / JOURNAL_FILE
        print(table_row(*COLUMNS), table_row(*["---"] * len(COLUMNS)), sep="\n", flush=True)
        for name in ("make", "open", "open, unknown", "read", "resume", "report"):
            if name == "make" and journal.exists():
                continue
            if name == "report":
                used = measured([find_hubmerge(), "report", folder])
            else:
                used = step_of(name, folder, evaluations)
            print(table_row(name, f"{used.wall:.2f}", f"{used.cpu:.2f}", megabytes(used.peak)), flush=True)
        print(f"\n{evaluations:,} evaluations, {journal.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
