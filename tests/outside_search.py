"""Searches, tasks, their examples, and what a search leaves in its folder."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from outside import json_bytes, torn, yaml_bytes
from outside_kinds import Bench, Kind, one_in, recipes
from reporttools import ROWS, evaluation, write_run

from hubmerge import Search, load_task, terminal
from hubmerge.evolve.examples.chosen import read_chosen
from hubmerge.evolve.export import candidate_recipe
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.records.results import Results
from hubmerge.evolve.records.resume import resumed
from hubmerge.evolve.report.data import read_stages
from hubmerge.evolve.report.page import render

ROWS_OF_TASK = [{"question": f"{n} w{n}", "answer": str(n), "wrong": f"{n + 1}"} for n in range(24)]
_SPLITS = {"search": ROWS_OF_TASK[:10], "validation": ROWS_OF_TASK[10:16], "test": ROWS_OF_TASK[16:]}
_TASK: dict[str, Any] = {"name": "tiny", "examples": _SPLITS, "max_new_tokens": 4}


def searches(bench: Bench) -> list[dict[str, Any]]:
    """A valid search of every space and kind of searcher."""
    base, one, two = map(str, bench.models.values())
    plain = {"base_model": base, "models": [one, two], "merge_method": "ties", "task": _TASK}
    genes = {"weight": [0, 2], "density": [0.1, 1]}
    searcher = {"name": "cmaes", "popsize": 4, "evaluations": 8, "sigma": 0.3, "seed": 1, "lag": 2}
    economy = {"examples": 8, "racing": True, "blocks": 2, "level": 0.1}
    paths = {"repeats": 2, "scaling": "matrix", "scale_range": [0.5, 1.5], "max_layers": 5}
    return [
        {
            **plain,
            "parameters": {"normalize": False},
            "genome": {"granularity": ["model", "layer"], "genes": genes, "start": {"weight": 0.5}},
            "splits": {"search": 8, "validation": 4, "test": 6},
            "searcher": {**searcher, "minutes": 1.5},
            "fitness": {"objectives": ["score"], "number_bonus": 0.1, "language_bonus": 0},
            "select": 2,
            "baselines": ["average", "ties", "best_scale", "random"],
            "dtype": "float32",
            "batch_size": 8,
        },
        {**plain, "genome": {"granularity": "filter", "filters": ["mlp"], "genes": genes}, "economy": economy},
        {"models": [one, two], "task": _TASK, "data_flow": {**paths, "searcher": searcher}, "select": 1},
        {**plain, "genome": {"genes": genes, "start": 0.5}, "data_flow": paths, "tokenizer_source": "base"},
    ]


def a_search(bench: Bench) -> Kind:
    """A search: read, written, and looked ahead at as `plan` does."""
    file = bench.folder / "search.yaml"

    def read(text: bytes) -> None:
        file.write_bytes(text)
        given = Search.from_yaml(file)
        assert Search.from_yaml(given.to_yaml()) == given
        outlook = plan_search(given)
        with terminal.out.capture():
            terminal.show_search_plan(outlook)
        outlook.require()

    return Kind(yaml_bytes(*searches(bench)), read, 60)


_JUDGE = {"base_url": "http://127.0.0.1:9/v1", "model": "org/judge", "api_key": "X_API_KEY", "rubric": "{output}"}


def tasks() -> list[dict[str, Any]]:
    """A valid task of every kind that needs nothing else."""
    files = {"search": "rows.jsonl", "validation": "rows.csv", "test": "rows.json"}
    return [
        {
            **_TASK,
            "metric": "exact_number",
            "language": "en",
            "prompt": "{question}",
            "answer": "{answer}",
            "system": "x",
        },
        {**_TASK, "metric": "loglikelihood", "choices": ["{answer}", "{wrong}"]},
        {**_TASK, "metric": "perplexity", "prompt": ""},
        {**_TASK, "metric": "rouge_l", "examples": files},
        {**_TASK, "examples": {"test": "rows.tsv", "columns": ["question", "answer"], "folder": "."}},
        {
            **_TASK,
            "judge": {**_JUDGE, "scale": 5, "options": {"top_p": 0.5}, "timeout": 1, "retries": 0, "parallel": 2},
        },
        {**_TASK, "python": "score.py:grade"},
        {**_TASK, "lm_eval": {"task": "gsm8k", "num_fewshot": 2, "metric": "x"}, "examples": {"test": "test"}},
    ]


def _rows(folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps(row) for row in ROWS_OF_TASK]
    (folder / "rows.jsonl").write_text("\n".join(lines[:8]))
    (folder / "rows.json").write_text(json.dumps(ROWS_OF_TASK[16:]))
    (folder / "rows.csv").write_text("question,answer\n" + "".join(f"q{n},{n}\n" for n in range(100, 106)))
    (folder / "rows.tsv").write_text("".join(f"q{n}\t{n}\n" for n in range(200, 206)))
    (folder / "score.py").write_text("def grade(outputs, examples):\n    return [1.0 for _ in outputs]\n")
    return folder


def a_task(bench: Bench) -> Kind:
    """A task in a file beside its rows."""
    folder = _rows(bench.folder / "tasks")

    def read(text: bytes) -> None:
        (folder / "task.yaml").write_bytes(text)
        task = load_task(folder / "task.yaml", counts={"test": 3})
        assert task.key
        assert all(task.problems(split) is not None for split in ("search", "validation", "test"))

    return Kind(yaml_bytes(*tasks()), read)


def examples(bench: Bench) -> Kind:
    """A file of a task's examples."""
    folder = _rows(bench.folder / "examples")
    whole = {path.name: path.read_bytes() for path in folder.glob("rows.*")}
    task = {"choices": "choices", "metric": "loglikelihood"}
    named = [{**row, "choices": [row["answer"], row["wrong"]]} for row in ROWS_OF_TASK[:3]]

    def read(changed: tuple[str, bytes]) -> None:
        name, text = changed
        (folder / name).write_bytes(text)
        columns = {"columns": ["question", "answer"]} if name == "rows.tsv" else {}
        where = {"folder": str(folder), "test": name, **columns}
        assert load_task({"examples": where, **(task if b"choices" in text else {})}).key

    lines = st.lists(json_bytes(*named), min_size=1, max_size=4).map(b"\n".join)
    tables = [st.tuples(st.just(name), torn(whole[name])) for name in ("rows.csv", "rows.tsv")]
    parquet = st.tuples(st.just("rows.parquet"), torn(_parquet(named)))
    values = st.tuples(st.just("rows.json"), json_bytes(named, ROWS_OF_TASK[:3]))
    return Kind(st.one_of(values, st.tuples(st.just("rows.jsonl"), lines), *tables, parquet), read)


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import io

    from pyarrow import Table, parquet

    file = io.BytesIO()
    parquet.write_table(Table.from_pylist(rows), file)
    return file.getvalue()


def a_run(bench: Bench) -> Kind:
    """What a search left in its folder, and what is made of it: exports, reports, going on."""
    run, made = bench.folder / "run", bench.folder / "a-run"
    solution = recipes(*bench.models.values())[3]
    path = {"models": [str(bench.models["math"])], "layers": [[0, 0], [0, 2]], "scales": [1.0, 0.5]}
    found = [evaluation(0, [0.5], solution=solution), evaluation(1, [0.6], solution=path)]
    spec = searches(bench)[0]
    rows = [{**row, "values": "0110", "n": 4, "note": ""} for row in ROWS]
    write_run(made, found, spec=spec, rows=rows, winner={"recipe": solution, "evaluation": 0}, front=[0, 1])
    results = {**json.loads((made / "results.json").read_bytes()), "problems": ["a", "b", "c", "d"]}
    sets = [{"positions": [0, 1], "weights": [1.0, 2.0]}]
    chosen = {"key": "5" * 64, "sets": sets, "answers": {"x": 0.5}, "tokens": 5, "seconds": 0.5}
    whole = {
        "journal.jsonl": (made / "journal.jsonl").read_bytes(),
        "search.yaml": (made / "search.yaml").read_bytes(),
        "results.json": json.dumps(results).encode(),
        "examples.json": json.dumps(chosen).encode(),
        "best.yaml": json.dumps(solution).encode(),
    }
    search = Search.from_dict(spec)

    def read(changed: tuple[str, bytes]) -> None:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        for name, text in {**whole, changed[0]: changed[1]}.items():
            (run / name).write_bytes(text)
        name = changed[0]
        if name == "results.json":
            Results.read(run / name)
        elif name == "examples.json":
            read_chosen(run / name, chosen["key"], 2, 3)
        elif name == "search.yaml":
            resumed(search, run)
        elif name == "journal.jsonl":
            bench.plan(candidate_recipe(run, 0), changed)
            bench.plan(candidate_recipe(run, 1), changed)
        stages = read_stages(run)
        if one_in(10, changed):
            render(stages)

    header, *lines = [json.loads(line) for line in whole["journal.jsonl"].splitlines()]
    journals = st.tuples(json_bytes(header), json_bytes(lines[0]), json_bytes(lines[1])).map(
        lambda said: b"".join(line + b"\n" for line in said)
    )
    files = [
        st.tuples(st.just("journal.jsonl"), journals | torn(whole["journal.jsonl"])),
        st.tuples(st.just("search.yaml"), yaml_bytes(spec)),
        st.tuples(st.just("best.yaml"), yaml_bytes(solution)),
        st.tuples(st.just("results.json"), json_bytes(results)),
        st.tuples(st.just("examples.json"), json_bytes(chosen)),
    ]
    return Kind(st.one_of(files), read, 20)


SEARCH_KINDS: Mapping[str, Callable[[Bench], Kind]] = {
    "search": a_search,
    "task": a_task,
    "examples": examples,
    "run": a_run,
}
