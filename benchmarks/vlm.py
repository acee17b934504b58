"""The experiment of docs/zoo.md with models that see: searches over several zoos with several seeds, and one table.

python benchmarks/vlm.py --out runs/vlm-table --zoo zoo-1 --zoo zoo-2 --seeds 1,2,3

Zoos are folders of `hubmerge zoo train --vlm`; searches as of `zoos.py`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoos import Marks, experiment, line_of


def rows(search: Any, result: Any, folder: Path, memory: int | None) -> Iterator[Any]:
    """Those of the search, and those beside it."""
    from hubmerge.zoo.vlm.beside import FILE, beside

    yield from result.rows
    yield from beside(search, result, folder / FILE, memory).rows


def tables(marks: Mapping[str, Marks]) -> list[dict[str, Any]]:
    """A table a zoo: means over seeds, gains with intervals over problems and seeds."""
    return [{"zoo": namespace, "rows": table(of_models)} for namespace, of_models in marks.items()]


def table(marks: Marks) -> list[dict[str, Any]]:
    from hubmerge.evaluate.statistics import gain_interval

    evolved, lines = marks["evolved"], []
    for name, runs in marks.items():
        # What has no seed is the same in every run.
        runs = runs if any(run != runs[0] for run in runs) else runs[:1]
        line = line_of(name, runs, evolved)
        if name != "evolved":
            line["gain"] = gain_interval(evolved, runs)
        lines.append(line)
    return lines


if __name__ == "__main__":
    experiment(__doc__, "vlm", "1,2,3", rows, tables)
