"""lm-eval's tasks, asked of a model in memory: the same values as lm-eval's own evaluator gives."""

import importlib.util
import json
from pathlib import Path

import pytest

from hubmerge.errors import TaskError
from hubmerge.evaluate.models import load_model
from hubmerge.evaluate.score import evaluate
from hubmerge.evaluate.task import load_task

installed = importlib.util.find_spec("lm_eval") is not None
needs_lm_eval = pytest.mark.skipif(not installed, reason="the extra lm-eval is not installed")
ignored = pytest.mark.filterwarnings("ignore")  # lm-eval and datasets have many of their own

EXAMPLES = {"search": "train", "validation": "train", "test": "test"}


@pytest.fixture(scope="module")
def loaded(siblings):
    return load_model(str(siblings["math"]), dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two lm-eval tasks over local JSON: a choice and a generated number, both with two shots."""
    folder = tmp_path_factory.mktemp("lm_eval")
    for split, start, count in (("train", 0, 12), ("test", 12, 7)):
        rows = [
            {"question": f"w{i} w{i + 1} {i}", "options": [f"{i + 1}", f"w{i % 7} w2", "3 w4"], "answer": i % 3}
            for i in range(start, start + count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {s: str(folder / f"{s}.jsonl") for s in ("train", "test")}},
        "training_split": "train",
        "test_split": "test",
        "fewshot_split": "train",
        "num_fewshot": 2,
        "doc_to_text": "{{question}}",
    }
    choice = {
        **shared,
        "task": "tiny_choice",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{options}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": name, "higher_is_better": True} for name in ("acc", "acc_norm")],
    }
    number = {
        **shared,
        "task": "tiny_number",
        "output_type": "generate_until",
        "doc_to_target": "{{question.split()[-1] if answer else 0}}",  # a model with tied weights repeats itself
        "generation_kwargs": {"until": ["</s>"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "higher_is_better": True}],
        "filter_list": [
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": "(\\d+)"}, {"function": "take_first"}]}
        ],
    }
    for task in (choice, number):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(task))
    return folder


def harness_task(folder: Path, name: str, **settings):
    given = {"task": name, "include_path": str(folder), **settings}
    return load_task({"lm_eval": given, "examples": EXAMPLES}, counts={"validation": 4})


@needs_lm_eval
@ignored
@pytest.mark.parametrize(
    ("name", "metric"), [("tiny_choice", "acc"), ("tiny_choice", "acc_norm"), ("tiny_number", None)]
)
def test_values_are_those_of_lm_evals_own_evaluator(loaded, folder: Path, name: str, metric: str | None) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from hubmerge.evaluate.harness import _manager

    model, tokenizer = loaded
    settings = {"metric": metric} if metric else {"chat_template": False}
    task = harness_task(folder, name, num_fewshot=0, **settings)
    assert (len(task.search), len(task.validation), len(task.test)) == (8, 4, 7)
    scores = evaluate(model, tokenizer, task.test, task)
    theirs = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4),
        tasks=[name],
        num_fewshot=0,
        apply_chat_template=metric is not None,
        task_manager=_manager(str(folder)),
        bootstrap_iters=0,
    )
    samples = {f"test:{sample['doc_id']}": sample for sample in theirs["samples"][name]}
    assert [samples[e.id][metric or "exact_match"] for e in task.test] == list(scores.values)
    assert 0 < scores.score < 1
    assert (scores.tokens > 0) == (name == "tiny_number")
    assert all(scores.outputs)


@needs_lm_eval
@ignored
def test_a_document_is_asked_alike_whatever_is_asked_beside_it(loaded, folder: Path) -> None:
    from hubmerge.evaluate.harness import _requests

    model, tokenizer = loaded
    task = harness_task(folder, "tiny_choice")
    whole = evaluate(model, tokenizer, task.search, task)
    pieces = [evaluate(model, tokenizer, task.search[at : at + 3], task) for at in (6, 3, 0)]
    assert [value for piece in reversed(pieces) for value in piece.values] == list(whole.values)

    class Plain:
        tokenizer = None

    for example in task.search:
        (context, _), *_ = [request.arguments for request in _requests(task.settings, Plain(), example, 0, None)]
        assert context.count(example.prompt) == 1, "a shot shows the document's own answer"
        assert context.count("\n\n") == 2


@needs_lm_eval
@ignored
def test_what_cannot_be_asked_is_refused(folder: Path) -> None:
    with pytest.raises(TaskError, match="no single task 'nothing'"):
        load_task({"lm_eval": "nothing", "examples": EXAMPLES})
    with pytest.raises(TaskError, match="no validation documents"):
        load_task({"lm_eval": {"task": "tiny_choice", "include_path": str(folder)}, "examples": {"test": "validation"}})
    with pytest.raises(TaskError, match="must be one of train, validation, test"):
        load_task({"lm_eval": {"task": "tiny_choice", "include_path": str(folder)}, "examples": {"test": "x.jsonl"}})
    with pytest.raises(TaskError, match="`prompt` does not go with"):
        load_task(
            {"lm_eval": {"task": "tiny_choice", "include_path": str(folder)}, "examples": EXAMPLES, "prompt": "x"}
        )


@needs_lm_eval
@ignored
def test_a_metric_that_the_task_lacks_is_named(loaded, folder: Path) -> None:
    task = harness_task(folder, "tiny_choice", metric="f1")
    with pytest.raises(TaskError, match="no metric 'f1'; it has acc, acc_norm"):
        evaluate(*loaded, task.test, task)


@pytest.mark.skipif(installed, reason="lm-eval is installed")
def test_without_lm_eval_one_sentence_says_what_to_install() -> None:
    with pytest.raises(TaskError, match=r"pip install 'hubmerge\[lm-eval\]'"):
        load_task({"lm_eval": "gsm8k", "examples": EXAMPLES})
