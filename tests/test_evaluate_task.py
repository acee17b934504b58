"""Tasks: files in every format, splits that share nothing, sizes that a seed fixes."""

import json
from pathlib import Path

import pytest

from hubmerge.errors import NotFoundError, TaskError
from hubmerge.evaluate.task import Example, Task, load_task


def rows(start: int, n: int) -> list[dict]:
    return [{"question": f"What is {i} plus 1?", "answer": i + 1} for i in range(start, start + n)]


def spec(**changes) -> dict:
    examples = {"search": rows(0, 20), "validation": rows(20, 10), "test": rows(30, 15)}
    return {"name": "sums", "examples": examples, **changes}


def test_splits_are_read_and_limited() -> None:
    task = load_task(spec(), counts={"search": 5}, seed=3)
    assert (len(task.search), len(task.validation), len(task.test)) == (5, 10, 15)
    assert task == load_task(spec(), counts={"search": 5}, seed=3)
    assert task.search != load_task(spec(), counts={"search": 5}, seed=4).search
    assert task.test == load_task(spec(), counts={"search": 5}, seed=4).test
    assert set(task.search) < set(load_task(spec()).search)
    assert task.key == load_task(spec(), counts={"search": 5}, seed=3).key != load_task(spec()).key


def test_overlap_is_refused_whatever_case_width_spacing_and_punctuation() -> None:
    shared = [{"question": "  what is: １ PLUS 1 ", "answer": 2}]
    with pytest.raises(
        TaskError, match=r"both the search and the test split \(row 2 of .* and row 4 of the test rows\)"
    ):
        load_task({"examples": {"search": rows(0, 3), "test": rows(5, 3) + shared}})


SECRET = "sesame-7c1f"


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ({"answer": "five"}, {}),
        ({"answer": "7"}, {"prompt": "{nothing}"}),
        ({"answer": "7"}, {"answer": "{nothing}"}),
        ({"answer": SECRET, "options": [SECRET, SECRET]}, {"metric": "loglikelihood", "choices": "options"}),
        ({"answer": SECRET, "options": ["a", "b"]}, {"metric": "loglikelihood", "choices": "options"}),
        ({"answer": 37_919, "options": ["a", "b"]}, {"metric": "loglikelihood", "choices": "options"}),
        ({"answer": "3" * 5000, "options": ["a", "b"]}, {"metric": "loglikelihood", "choices": "options"}),
        ({"answer": SECRET, "options": SECRET}, {"metric": "loglikelihood", "choices": "options"}),
        ({"answer": "7"}, {"prompt": "{question}", "test": [{"question": SECRET, "answer": 7}]}),
    ],
)
def test_no_error_quotes_an_example(row: dict, changes: dict, tmp_path: Path) -> None:
    """They reach people who may not read the file, on a page; its row is named instead."""
    (tmp_path / "secret.jsonl").write_text("\n" + json.dumps({"question": SECRET, "answer": SECRET, **row}) + "\n")
    examples = {"folder": str(tmp_path), "search": "secret.jsonl"}
    changes = dict(changes)
    examples |= {"test": changes.pop("test")} if "test" in changes else {}
    with pytest.raises(TaskError, match=r"row 1 of secret\.jsonl") as refused:
        load_task({"examples": examples, **changes})
    said = str(refused.value)
    assert SECRET not in said and "37919" not in said and "333" not in said and "five" not in said


def test_one_file_is_cut_into_disjoint_splits(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in rows(0, 30)]
    (tmp_path / "all.jsonl").write_text("\n".join([*lines, lines[0]]) + "\n")
    examples = {"folder": str(tmp_path), "search": "all.jsonl", "validation": "all.jsonl", "test": "all.jsonl"}
    task = load_task({"examples": examples}, counts={"search": 12, "validation": 8})
    assert (len(task.search), len(task.validation), len(task.test)) == (12, 8, 10)
    assert not {e.prompt for e in task.search} & {e.prompt for e in task.test}
    shared = load_task({"examples": examples}, counts={"validation": 9})
    assert (len(shared.search), len(shared.validation), len(shared.test)) == (11, 9, 10)
    with pytest.raises(TaskError, match="no examples are left"):
        load_task({"examples": examples}, counts={"search": 20, "validation": 15})
    with pytest.raises(TaskError, match="size of the search split"):
        load_task({"examples": examples}, counts={"search": 0})


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tested", [7, None])
def test_no_seed_changes_which_problems_are_tested_nor_their_order(
    shared: bool, tested: int | None, tmp_path: Path
) -> None:
    pool, names = rows(0, 60), ("search", "validation", "test")
    parts = [pool] if shared else [pool[:20], pool[20:40], pool[40:]]
    counts = {"search": 12, "validation": 9, **({"test": tested} if tested else {})}

    def drawn(seed: int, parts: list[list[dict]] = parts) -> Task:
        for number, part in enumerate(parts):
            (tmp_path / f"{number}.json").write_text(json.dumps(part))
        files = {name: f"{0 if shared else number}.json" for number, name in enumerate(names)}
        return load_task({"examples": {"folder": str(tmp_path), **files}}, counts=counts, seed=seed)

    tasks = [drawn(seed) for seed in range(6)]
    assert len({task.test for task in tasks}) == 1
    assert len({task.problems("test") for task in tasks}) == 1
    assert len({task.search for task in tasks}) == len({task.validation for task in tasks}) == 6
    for task in tasks:
        asked = [{example.prompt for example in task.split(name)} for name in names]
        assert not asked[0] & asked[1] and not asked[2] & (asked[0] | asked[1])
    # Nor does the order of the rows, nor one more of them, beyond the place that it takes.
    assert drawn(3, [part[::-1] for part in parts]).test == tasks[0].test
    fewer = load_task({"examples": {"test": pool}}, counts={"test": 5})
    assert fewer.test == load_task({"examples": {"test": pool}}, counts={"test": 30}).test[:5]
    more = load_task({"examples": {"test": [*pool, *rows(60, 1)]}}).test
    assert [e for e in more if e.prompt != "What is 60 plus 1?"] == list(load_task({"examples": {"test": pool}}).test)


def test_a_problem_has_one_name_however_it_is_spelled_and_wherever_it_stands() -> None:
    task = load_task(spec())
    assert len({name for split in ("search", "validation", "test") for name in task.problems(split)}) == 45
    again = load_task({"examples": {"search": [{"question": " what is: ３１ PLUS 1 ", "answer": 32}]}})
    assert again.problems("search")[0] in task.problems("test")
    assert again.problems("test") == ()


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("t.jsonl", '{"question": "一は？", "answer": "1"}\n\n{"question": "二\u2028は？", "answer": "2"}\n', None),
        ("t.json", '[{"question": "一は？", "answer": "1"}, {"question": "二\u2028は？", "answer": "2"}]', None),
        ("t.csv", 'question,answer\n"一は？",1\n"二\u2028は？",2\n', None),
        ("t.tsv", "一は？\t1\n二\u2028は？\t2\n", ["question", "answer"]),
    ],
)
def test_formats(tmp_path: Path, name: str, text: str, columns: list[str] | None) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "task.yaml").write_text(
        json.dumps({"examples": {"folder": ".", "test": name, **({"columns": columns} if columns else {})}})
    )
    task = load_task(tmp_path / "task.yaml")
    assert set(task.test) == {Example("一は？", "1"), Example("二\u2028は？", "2")}


def test_examples_come_from_a_pinned_dataset_of_the_hub(hub) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("alice/evaluate-sums", repo_type="dataset", exist_ok=True)
    first = api.upload_file(
        path_or_fileobj="\n".join(map(json.dumps, rows(0, 4))).encode(),
        path_in_repo="test.jsonl",
        repo_id="alice/evaluate-sums",
        repo_type="dataset",
    )
    task = load_task({"examples": {"repo_id": "alice/evaluate-sums", "test": "test.jsonl"}})
    assert len(task.test) == 4
    assert task.source == f"alice/evaluate-sums@{first.oid}"
    with pytest.raises(NotFoundError):
        load_task({"examples": {"repo_id": "alice/evaluate-sums", "test": "missing.jsonl"}})
    with pytest.raises(NotFoundError):
        load_task({"examples": {"repo_id": "alice/no-such-dataset", "test": "test.jsonl"}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrik": "exact_number"}, "did you mean 'metric'"),
        ({"metric": "bleu"}, "unknown metric"),
        ({"language": "xx"}, "ISO 639"),
        ({"language": False}, "in quotes"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"prompt": "{queston}"}, "no field 'queston' in this row"),
        ({"answer": "none"}, "no number"),
        ({"examples": {"train": "x.jsonl"}}, "Unknown key 'train'"),
        ({"examples": {"test": "../x.jsonl"}}, "outside its folder"),
        ({"examples": {"test": "x.jsonl"}}, "no example file"),
        ({"examples": {"test": 3}}, "file name or a list"),
        ({"examples": {}}, "has no examples"),
        ({"examples": None}, "needs `examples:`"),
    ],
)
def test_bad_tasks_say_what_is_wrong(change: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(spec(**change))


@pytest.mark.parametrize("field", ["question", "answer"])
@pytest.mark.parametrize("value", [None, True, {"a": 1}, [], ["x"]], ids=str)
@pytest.mark.parametrize("metric", ["exact_match", "rouge_l", "strict_words"])
def test_what_is_neither_text_nor_number_is_no_text(field: str, value: object, metric: str) -> None:
    """Python writes such a value in words of its own, and a model would be asked and scored by these."""
    row = {"question": "Who?", "answer": "Ann", field: value}
    told = f"task sums, row 2 of the test rows: the field '{field}' must hold text or a number, got"
    with pytest.raises(TaskError, match=told):
        load_task(spec(metric=metric, examples={"test": [{"question": "Where?", "answer": 1.5}, row]}))


@pytest.mark.parametrize("metric", ["exact_number", "exact_match", "rouge_l", "strict_words", "perplexity"])
@pytest.mark.parametrize("answer", ["", "  "])
def test_an_empty_answer_is_refused_by_every_metric(metric: str, answer: str) -> None:
    with pytest.raises(TaskError, match=r"row 1 of the test rows (is empty|holds no)"):
        load_task(spec(metric=metric, examples={"test": [{"question": "Who?", "answer": answer}]}))


def test_unknown_task_names_the_built_in_ones() -> None:
    with pytest.raises(TaskError, match="ja-word-problems"):
        load_task("no-such-task")


def test_a_template_reads_fields_only() -> None:
    task = load_task(spec(prompt="Q: {question} {{x}}", examples={"test": [{"question": "a", "x": "b", "answer": 1}]}))
    assert task.test[0].prompt == "Q: a {b}"


def test_task_without_language_needs_none() -> None:
    assert Task("t", test=(Example("1+1?", "2"),)).language is None
