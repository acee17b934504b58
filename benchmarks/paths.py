"""The experiment of docs/evolve.md with paths: searches over several zoos with several seeds, and one table.

python benchmarks/paths.py --out runs/paths --zoo zoo-1 --zoo zoo-2 --zoo zoo-3 --seeds 1,2,3

Zoos are folders of `hubmerge zoo train`. Over each, for each seed: paths by edits and by the paper's genome (160
candidates), a recipe (180), a recipe and then edits of it (120 + 60); and once, with the first seed, edits through
three models. Every winner is loaded again by plain transformers and asked the test problems. What is finished is only
read.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hubmerge.demo import demo_hub

LABELS = {
    "edits": "paths by edits",
    "genome": "paths, the paper's genome",
    "ps": "recipe (PS)",
    "ps-dfs": "recipe, then edits (PS+DFS)",
    "three": "paths by edits through three models",
}
RIVALS = {"edits": ("genome", "math", "japanese"), "ps-dfs": ("ps",), "three": ("edits",)}
AGAIN = "again.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/paths"))
    parser.add_argument("--zoo", type=Path, action="append", help="default: the shipped one")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    from hubmerge.zoo.kinds import shipped
    from hubmerge.zoo.paper import Zoo, run_all

    zoos = [Zoo.of(folder) for folder in asked.zoo or (shipped(),)]
    with demo_hub(asked.out / "hub", {zoo.namespace: zoo.folder for zoo in zoos}):
        todo = {zoo: list(runs(zoo, [int(seed) for seed in asked.seeds.split(",")])) for zoo in zoos}
        run_all([run for every in todo.values() for run in every], asked.out, asked.jobs)
        made = [table(every, asked.out) for every in todo.values()]
    (asked.out / "table.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(made, indent=1))


def runs(zoo: Any, seeds: Sequence[int]) -> Iterator[Any]:
    """The searches over one zoo."""
    from hubmerge.evolve.search import Search
    from hubmerge.zoo.kinds import demo_search
    from hubmerge.zoo.paper import PAIR, PATH_SEARCHER, PATHS, Run

    whole = demo_search(namespace=zoo.namespace)
    recipe = replace(whole, baselines=())
    document = {key: value for key, value in recipe.to_dict().items() if key not in ("merge_method", "genome")}
    edits = {"data_flow": {"max_layers": 14}, "searcher": {"name": "edits"}}
    genome = {"data_flow": dict(PATHS), "searcher": dict(PATH_SEARCHER)}
    for seed in seeds:
        for name, space in (("edits", edits), ("genome", genome)):
            searcher = {**space["searcher"], "evaluations": 160, "seed": seed}
            yield Run(name, zoo, seed, Search.from_dict(document | space | {"searcher": searcher}))
        own = replace(recipe, models=zoo.models(PAIR), searcher=replace(recipe.searcher, seed=seed))
        yield Run("ps", zoo, seed, own)
        second = Search.from_dict(document | edits | {"searcher": {"name": "edits", "evaluations": 60, "seed": seed}})
        first = replace(own.searcher, evaluations=120)
        both = replace(own, searcher=first, data_flow=second.data_flow, path_searcher=second.searcher)
        yield Run("ps-dfs", zoo, seed, both)
    searcher = {"name": "edits", "evaluations": 160, "seed": seeds[0]}
    three = [str(model) for model in zoo.models(("math", "math-2", "japanese"))]
    yield Run("three", zoo, seeds[0], Search.from_dict(document | edits | {"searcher": searcher, "models": three}))


def table(every: Sequence[Any], out: Path) -> dict[str, Any]:
    """The scores of one zoo by search and seed; gains and paired odds over what each is compared with, by problem."""
    from hubmerge.evaluate.statistics import gain_interval, interval, paired_p
    from hubmerge.evolve.records.folder import RESULTS_FILE
    from hubmerge.evolve.records.results import EVOLVED, Results
    from hubmerge.zoo.cards import REPOS

    marks: dict[str, list[Any]] = {}
    facts: dict[str, list[Any]] = {}
    for run in every:
        stored = Results.read(run.folder(out) / RESULTS_FILE)
        for row in stored.rows:
            if row.model == EVOLVED:
                marks.setdefault(run.name, []).append(row.marks)
                facts.setdefault(run.name, []).append(
                    {"seconds": stored.facts["seconds"], "again": again(run, out, row)}
                )
            for expert in ("math", "japanese"):
                if row.model.endswith(f"/{REPOS[expert]}"):
                    marks[expert] = [row.marks]
    lines = []
    for name, got in marks.items():
        values = [sum(one.values()) / len(one) for one in got]
        line = {"search": LABELS.get(name, name), "scores": values, "mean": sum(values) / len(values), "n": len(got[0])}
        line |= {"intervals": [interval([*one.values()]) for one in got], "runs": facts.get(name, [])}
        for rival in RIVALS.get(name, ()):
            theirs = marks[rival][: len(got)] * (len(got) // len(marks[rival][: len(got)]))
            odds = [paired_p(*pair) for pair in zip(got, theirs, strict=True)]
            line[f"over {LABELS.get(rival, rival)}"] = {"gain": gain_interval(got, theirs), "p": odds}
        lines.append(line)
    return {"zoo": every[0].zoo.namespace, "rows": lines}


def again(run: Any, out: Path, row: Any) -> dict[str, Any]:
    """The winner's test score once more: loaded by plain transformers, asked with its own `generate`, judged here.

    {"score", "same": on how many problems it is the run's}; kept in a file.
    """
    kept = run.folder(out) / AGAIN
    if not kept.exists():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from hubmerge.evaluate.task import load_task
        from hubmerge.evolve.records.folder import MODEL_FOLDER

        folder = run.folder(out) / MODEL_FOLDER
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        task = load_task(run.search.task, counts=run.search.splits)
        marks = {}
        for problem, example in zip(task.problems("test"), task.test, strict=True):
            said = [{"role": "user", "content": example.prompt}]
            asked = tokenizer.apply_chat_template(
                said, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            with torch.no_grad():
                ids = model.generate(**asked, max_new_tokens=32, do_sample=False)[0, asked["input_ids"].shape[1] :]
            marks[problem] = right(tokenizer.decode(ids, skip_special_tokens=True), example)
        same = sum(marks[problem] == value for problem, value in row.marks.items())
        kept.write_text(json.dumps({"score": sum(marks.values()) / len(marks), "same": same, "n": len(marks)}))
    return json.loads(kept.read_text())


def right(answer: str, example: Any) -> float:
    """Whether an answer's last number is the example's and its words are Japanese, judged without hubmerge."""
    import re

    numbers = re.findall(r"-?\d+", answer)
    japanese = bool(re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", answer)) and not re.search(r"[A-Za-z]{2,}", answer)
    return float(bool(numbers) and numbers[-1] == str(example.answer) and japanese)


if __name__ == "__main__":
    main()
