"""What the experiments over several zoos have in common: what is asked for, the searches, and where a table goes.

Every search is that of the demo, with another seed; the grid, which has no seed, is made once a zoo. What is finished
is only read.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubmerge.demo import NAMESPACE, demo_hub
from hubmerge.zoo.kinds import Kind, demo_search

Marks = dict[str, list[Any]]
"""The marks of every model on every problem of the test, one a search seed, by the model's name."""
Rows = Callable[[Any, Any, Path, int | None], Iterable[Any]]
"""Rows to keep of a finished search: of the search, its result, a folder, and the memory that asking may take."""


def experiment(
    about: str, kind: Kind, seeds: str, rows: Rows, tables: Callable[[Mapping[str, Marks]], list[dict[str, Any]]]
) -> None:
    """Runs the searches that the command line asks for; writes and prints what `tables` makes of each zoo's marks.

    about: the program's docstring. seeds: those of the searches, where none are asked for.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(f"runs/{kind}-table"))
    parser.add_argument("--zoo", type=Path, action="append", required=True)
    parser.add_argument("--seeds", default=seeds)
    parser.add_argument("--memory", type=int)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    zoos = {f"{NAMESPACE}-{number}": folder for number, folder in enumerate(asked.zoo, 1)}
    numbers = [int(seed) for seed in asked.seeds.split(",")]
    with demo_hub(asked.out / "hub", zoos, kind):
        made = tables(
            {
                namespace: _marks(demo_search(kind, namespace), numbers, asked.out / namespace, rows, asked.memory)
                for namespace in zoos
            }
        )
    told = json.dumps(made, ensure_ascii=False, indent=1)
    (asked.out / "table.json").write_text(f"{told}\n", encoding="utf-8")
    print(told)


def _marks(search: Any, seeds: list[int], out: Path, rows: Rows, memory: int | None) -> Marks:
    from hubmerge.evolve.run import evolve
    from hubmerge.evolve.workers.workers import Workers

    marks: Marks = {}
    for seed in seeds:
        own = replace(search, searcher=replace(search.searcher, seed=seed))
        if seed != seeds[0]:
            own = replace(own, baselines=tuple(name for name in own.baselines if name != "grid"))
        folder = out / f"s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        result = evolve(own, folder / "run", resume=True, workers=Workers(memory=memory))
        for row in rows(own, result, folder, memory):
            marks.setdefault(row.model, []).append(row.marks)
    return marks


def line_of(name: str, runs: list[Any], evolved: list[Any]) -> dict[str, Any]:
    """A model's scores with intervals, by seed, and, but for the evolved ones, p of theirs over it, by seed."""
    from hubmerge.evaluate.statistics import interval, paired_p

    values = [sum(run.values()) / len(run) for run in runs]
    line: dict[str, Any] = {"model": name, "scores": values, "mean": sum(values) / len(values), "n": len(runs[0])}
    line["intervals"] = [interval([*run.values()]) for run in runs]
    if name != "evolved":
        line["p"] = [paired_p(*pair) for pair in pairs(evolved, runs)]
    return line


def pairs(evolved: list[Any], runs: list[Any]) -> list[tuple[Any, Any]]:
    """The evolved models beside those of the same seeds; what has no seed ran once."""
    return [*zip(evolved, runs * (len(evolved) // len(runs)), strict=True)]
