"""The experiment of docs/zoo.md with models that draw: searches over several zoos with several seeds, and one table.

python benchmarks/image.py --out runs/image-table --zoo zoo-1 --zoo zoo-2 --zoo zoo-3 --seeds 1,2

Zoos are folders of `hubmerge zoo train --image`; searches as of `zoos.py`. Every p-value is computed twice: by
`hubmerge.evaluate.statistics`, and here, by all outcomes that are no likelier than what was seen.
"""

from collections.abc import Iterable, Mapping
from math import exp, fsum, lgamma, log
from pathlib import Path
from typing import Any

from zoos import Marks, experiment, line_of, pairs


def rows(search: Any, result: Any, folder: Path, memory: int | None) -> Iterable[Any]:
    """Those that a judge makes whom no search asked."""
    from hubmerge.zoo.image.beside import beside

    return beside(search, result, folder, memory).rows


def tables(marks: Mapping[str, Marks]) -> list[dict[str, Any]]:
    """A table a zoo, and one of all."""
    from hubmerge.evolve.compared.contestants import COMPARED_LABELS

    seeded = ("evolved", COMPARED_LABELS["random"])
    # What has no seed is the same in every run.
    once = {
        namespace: {name: runs if name in seeded else runs[:1] for name, runs in of_models.items()}
        for namespace, of_models in marks.items()
    }
    made = [{"zoo": namespace, "rows": table(of_models)} for namespace, of_models in once.items()]
    return made if len(once) == 1 else [*made, {"zoo": "all", "rows": table(pooled(once))}]


def pooled(marks: Mapping[str, Marks]) -> Marks:
    """All zoos as one: a picture of another zoo is another picture."""
    names = next(iter(marks.values()))
    return {
        name: [
            {f"{zoo} {picture}": mark for zoo, of_zoo in marks.items() for picture, mark in of_zoo[name][run].items()}
            for run in range(len(names[name]))
        ]
        for name in names
    }


def table(marks: Marks) -> list[dict[str, Any]]:
    """A line a model: scores and intervals by seed, gains of the evolved ones over it with p by seed.

    `gain`: its 95% interval over prompts, whose pictures belong together, and seeds.
    """
    from hubmerge.evaluate.statistics import gain_interval
    from hubmerge.zoo.image import prompts

    new = {row["prompt"] for row in prompts.rows("test") if row["pair"] == "new"}
    evolved, lines = marks["evolved"], []
    for name, runs in marks.items():
        line = line_of(name, runs, evolved)
        for pair, wanted in (("new", True), ("known", False)):
            some = [mark for run in runs for picture, mark in run.items() if (picture.split()[-2] in new) == wanted]
            line[f"{pair} pairs"] = sum(some) / len(some)
        if name != "evolved":
            line["gain"] = gain_interval([*map(by_prompt, evolved)], [*map(by_prompt, runs)])
            again = [binomial(*pair) for pair in pairs(evolved, runs)]
            assert all(abs(a - b) <= 1e-9 for a, b in zip(line["p"], again, strict=True)), (line["p"], again)
        lines.append(line)
    return lines


def by_prompt(marks: Any) -> dict[str, float]:
    """The mean of a prompt's pictures, which are named by prompt and seed."""
    found: dict[str, list[float]] = {}
    for picture, mark in marks.items():
        found.setdefault(picture.rpartition(" ")[0], []).append(mark)
    return {prompt: sum(some) / len(some) for prompt, some in found.items()}


def binomial(ours: Any, theirs: Any) -> float:
    """The exact McNemar test, as a binomial test of the pictures that one of two models alone got right."""
    better = sum(ours[picture] > theirs[picture] for picture in ours)
    n = better + sum(ours[picture] < theirs[picture] for picture in ours)
    logs = [lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(n + 1)]
    return min(1.0, fsum(exp(one) for one in logs if one <= logs[better] + 1e-7))


if __name__ == "__main__":
    experiment(__doc__, "image", "1,2", rows, tables)
