"""The experiment of docs/zoo.md with models that see: searches over several zoos with several seeds, and one table.

python benchmarks/vlm.py --out runs/vlm-table --zoo zoo-1 --zoo zoo-2 --seeds 1,2,3

Zoos are folders of `hubmerge zoo train --vlm`. Every search is that of `hubmerge demo --vlm`, with another seed; the
grid, which has no seed, is made once a zoo. What is finished is only read.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from hubmerge.demo import NAMESPACE, demo_hub, demo_search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/vlm-table"))
    parser.add_argument("--zoo", type=Path, action="append", required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--memory", type=int)
    asked = parser.parse_args()
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    asked.out.mkdir(parents=True, exist_ok=True)
    zoos = {f"{NAMESPACE}-{number}": folder for number, folder in enumerate(asked.zoo, 1)}
    with demo_hub(asked.out / "hub", zoos, "vlm"):
        made = [make(namespace, seeds, asked.out, asked.memory) for namespace in zoos]
    (asked.out / "table.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for one in made:
        print(json.dumps(one, ensure_ascii=False, indent=1))


def make(namespace: str, seeds: list[int], out: Path, memory: int | None) -> dict:
    """The searches over one zoo, and their scores: means over seeds, gains with intervals over problems and seeds."""
    from hubmerge.evaluate.statistics import gain_interval, interval, paired_p
    from hubmerge.evolve.run import evolve
    from hubmerge.evolve.search import Search
    from hubmerge.evolve.workers.workers import Workers
    from hubmerge.zoo.vlm import ROOM
    from hubmerge.zoo.vlm.beside import FILE, beside

    search = demo_search(ROOM)
    search = Search.from_yaml(search.to_yaml().replace(f"{NAMESPACE}/", f"{namespace}/"))
    marks: dict[str, list] = {}
    for seed in seeds:
        own = replace(search, searcher=replace(search.searcher, seed=seed))
        if seed != seeds[0]:
            own = replace(own, baselines=tuple(name for name in own.baselines if name != "grid"))
        folder = out / namespace / f"s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        result = evolve(own, folder / "run", resume=True, workers=Workers(memory=memory))
        rows = [*result.rows, *beside(own, result, folder / FILE, memory).rows]
        for row in rows:
            marks.setdefault(row.model, []).append(row.marks)
    evolved, table = marks["evolved"], []
    for name, runs in marks.items():
        # What has no seed is the same in every run.
        runs = runs if any(run != runs[0] for run in runs) else runs[:1]
        values = [sum(run.values()) / len(run) for run in runs]
        line = {"model": name, "scores": values, "mean": sum(values) / len(values), "n": len(runs[0])}
        line["intervals"] = [interval([*run.values()]) for run in runs]
        if name != "evolved":
            line["gain"] = gain_interval(evolved, runs)
            theirs = runs * (len(evolved) // len(runs))
            line["p"] = [paired_p(ours, other) for ours, other in zip(evolved, theirs, strict=True)]
        table.append(line)
    return {"zoo": namespace, "rows": table}


if __name__ == "__main__":
    main()
