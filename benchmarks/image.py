"""The experiment of docs/zoo.md with models that draw: searches over several zoos with several seeds, and one table.

python benchmarks/image.py --out runs/image-table --zoo zoo-1 --zoo zoo-2 --zoo zoo-3 --seeds 1,2

Zoos are folders of `hubmerge zoo train --image`. Every search is that of `hubmerge demo --image`, with another seed;
the grid, which has no seed, is made once a zoo. What is finished is only read. Every p-value is computed twice: by
`hubmerge.evaluate.statistics`, and here, by all outcomes that are no likelier than what was seen.
"""

import argparse
import json
from dataclasses import replace
from math import exp, fsum, lgamma, log
from pathlib import Path
from typing import Any

from hubmerge.demo import NAMESPACE, demo_hub, demo_search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/image-table"))
    parser.add_argument("--zoo", type=Path, action="append", required=True)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--memory", type=int)
    asked = parser.parse_args()
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    asked.out.mkdir(parents=True, exist_ok=True)
    zoos = {f"{NAMESPACE}-{number}": folder for number, folder in enumerate(asked.zoo, 1)}
    with demo_hub(asked.out / "hub", zoos, "image"):
        marks = {namespace: measure(namespace, seeds, asked.out, asked.memory) for namespace in zoos}
        made = [{"zoo": namespace, "rows": table(of_models)} for namespace, of_models in marks.items()]
        if len(marks) > 1:
            made.append({"zoo": "all", "rows": table(pooled(marks))})
    (asked.out / "table.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(made, ensure_ascii=False, indent=1))


def measure(namespace: str, seeds: list[int], out: Path, memory: int | None) -> dict[str, list[Any]]:
    """The marks of every model on every picture of the test, one a search seed, by the model's name."""
    from hubmerge.evolve.compared.contestants import COMPARED_LABELS
    from hubmerge.evolve.run import evolve
    from hubmerge.evolve.search import Search
    from hubmerge.evolve.workers.workers import Workers
    from hubmerge.zoo.image import ROOM
    from hubmerge.zoo.image.beside import beside

    search = demo_search(ROOM)
    search = Search.from_yaml(search.to_yaml().replace(f"{NAMESPACE}/", f"{namespace}/"))
    marks: dict[str, list[Any]] = {}
    for seed in seeds:
        own = replace(search, searcher=replace(search.searcher, seed=seed))
        if seed != seeds[0]:
            own = replace(own, baselines=("random",))
        folder = out / namespace / f"s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        result = evolve(own, folder / "run", resume=True, workers=Workers(memory=memory))
        for row in beside(own, result, folder, memory).rows:
            marks.setdefault(row.model, []).append(row.marks)
    seeded = ("evolved", COMPARED_LABELS["random"])
    # What has no seed is the same in every run.
    return {name: runs if name in seeded else runs[:1] for name, runs in marks.items()}


def pooled(marks: dict[str, dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """All zoos as one: a picture of another zoo is another picture."""
    names = next(iter(marks.values()))
    return {
        name: [
            {f"{zoo} {picture}": mark for zoo, of_zoo in marks.items() for picture, mark in of_zoo[name][run].items()}
            for run in range(len(names[name]))
        ]
        for name in names
    }


def table(marks: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """A line a model: scores and intervals by seed, gains of the evolved ones over it with p by seed.

    `gain`: its 95% interval over prompts, whose pictures belong together, and seeds.
    """
    from hubmerge.evaluate.statistics import gain_interval, interval, paired_p
    from hubmerge.zoo.image.prompts import rows

    new = {row["prompt"] for row in rows("test") if row["pair"] == "new"}
    evolved, lines = marks["evolved"], []
    for name, runs in marks.items():
        values = [sum(run.values()) / len(run) for run in runs]
        line: dict[str, Any] = {"model": name, "scores": values, "mean": sum(values) / len(values), "n": len(runs[0])}
        line["intervals"] = [interval([*run.values()]) for run in runs]
        for pair, wanted in (("new", True), ("known", False)):
            some = [mark for run in runs for picture, mark in run.items() if (picture.split()[-2] in new) == wanted]
            line[f"{pair} pairs"] = sum(some) / len(some)
        if name != "evolved":
            theirs = runs * (len(evolved) // len(runs))
            line["gain"] = gain_interval([*map(by_prompt, evolved)], [*map(by_prompt, runs)])
            line["p"] = [paired_p(ours, other) for ours, other in zip(evolved, theirs, strict=True)]
            again = [binomial(ours, other) for ours, other in zip(evolved, theirs, strict=True)]
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
    main()
