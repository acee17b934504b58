"""The kinds of tasks: ROUGE-L, functions, choices in every shape, parquet, the benchmarks by Hub ID, and the docs."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from hubmerge.errors import NotFoundError, TaskError
from hubmerge.evaluate import task as task_module
from hubmerge.evaluate.fingerprint import fingerprint
from hubmerge.evaluate.metrics import METRICS
from hubmerge.evaluate.rouge import rouge_l, tokens
from hubmerge.evaluate.score import evaluate, grade
from hubmerge.evaluate.task import Example, Task, load_task

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


def test_rouge_l_has_its_known_values() -> None:
    # Lin 2004, section 3.1: police killed the gunman / police kill the gunman / the gunman kill police
    assert rouge_l("police kill the gunman", "police killed the gunman") == 0.75
    assert rouge_l("the gunman kill police", "police killed the gunman") == 0.5
    assert rouge_l("The CAT, sat.", "the cat sat on it") == pytest.approx(2 * 3 / (3 + 5))
    assert rouge_l("我爱北京", "我爱上海") == 0.5
    assert rouge_l("", "a") == rouge_l("...", "a") == 0.0


def test_rouge_l_cuts_japanese_into_words() -> None:
    pytest.importorskip("fugashi")
    assert tokens("トムは今、リンゴを２０個持っている。", japanese=True) == (
        ["トム", "は", "今", "リンゴ", "を", "20", "個", "持っ", "て", "いる"]
    )
    assert rouge_l("トムはリンゴを持っている。", "トムは今リンゴを20個持っている") == pytest.approx(2 * 7 / (7 + 10))
    task = Task("t", test=(Example("q", "リンゴを持っている"),), metric="rouge_l", language="ja")
    assert grade(["リンゴを持っている"], task.test, task).values == (1.0,)
    english = grade(["I have apples"], task.test, task)
    assert (english.values, english.metric) == ((0.0,), (0.0,))


def test_values_may_lie_between_but_count_only_in_the_language() -> None:
    pytest.importorskip("fugashi")
    task = Task("t", test=(Example("q", "リンゴを20個持っている"),), metric="rouge_l", language="ja")
    scores = grade(["リンゴを", "20"], task.test * 2, task)
    assert 0 < scores.metric[1] < scores.metric[0] < 1
    assert scores.values == (scores.metric[0], 0.0)
    assert scores.language_share == 0.5


def function_task(folder: Path, source: str, name: str = "grade") -> Task:
    (folder / "score.py").write_text(source)
    rows = [{"question": "q1", "answer": "a"}, {"question": "q2", "answer": "bb"}]
    (folder / "task.yaml").write_text(json.dumps({"examples": {"test": rows}, "python": f"score.py:{name}"}))
    return load_task(folder / "task.yaml")


def test_a_function_grades(tmp_path: Path) -> None:
    source = """
import math
def grade(outputs, examples):
    return [min(1, len(o) / len(e.answer) / 2) if o else math.nan for o, e in zip(outputs, examples)]
"""
    task = function_task(tmp_path, source)
    examples = sorted(task.test, key=lambda example: example.answer)
    scores = grade(["x", "y"], examples, task)
    assert (scores.values, scores.ungraded) == ((0.5, 0.25), 0)
    assert grade(["", "y"], examples, task).ungraded == 1
    # What was read is what runs, and a changed file is another task.
    (tmp_path / "score.py").write_text("def grade(outputs, examples): return [0 for _ in outputs]")
    assert grade(["x", "y"], examples, task) == scores
    assert load_task(tmp_path / "task.yaml").key != task.key == function_task(tmp_path, source).key


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def grade(outputs, examples): return [2.0 for _ in outputs]", "numbers in 0..1"),
        ("def grade(outputs, examples): return [0.5]", "1 values for 2 outputs"),
        ("def grade(outputs, examples): return ['x', 'y']", "failed: ValueError"),
        ("def grade(outputs, examples): 1 / 0", "failed: ZeroDivisionError"),
        ("import sys\ndef grade(outputs, examples): sys.exit(7)", "failed: SystemExit: 7"),
        ("import sys\nsys.exit(7)", "cannot be run: SystemExit: 7"),
        ("def other(): pass", "no function 'grade'"),
        ("import no_such_package", "cannot be run: ModuleNotFoundError"),
        ("def grade(:", "cannot be run: SyntaxError"),
    ],
)
def test_a_function_that_fails_is_named(tmp_path: Path, source: str, message: str) -> None:
    def ask() -> None:
        task = function_task(tmp_path, source)
        grade(["x", "y"], task.test, task)

    with pytest.raises(TaskError, match=re.escape(message)):
        ask()


def test_a_function_needs_a_file_and_a_name(tmp_path: Path) -> None:
    for given in ("score.py", "org/repo:grade", "missing.py:grade", 3):
        with pytest.raises(TaskError, match=r"python|cannot be read"):
            load_task({"examples": {"test": [{"question": "q", "answer": "a"}]}, "python": given})


LISTED = {"question": "q", "options": ["x", "y", "2"]}


@pytest.mark.parametrize(
    ("row", "given", "right"),
    [
        ({**LISTED, "answer": 2}, "options", "2"),
        ({**LISTED, "answer": 0}, "options", "x"),
        ({**LISTED, "answer": "y"}, "options", "y"),
        ({**LISTED, "answer": "2"}, "options", "2"),
        ({**LISTED, "answer": "1"}, "options", "y"),
        ({"question": "q", "c": {"text": ["x", "y"], "label": ["A", "B"]}, "answer": "B"}, "c", "y"),
        ({"question": "q", "c": {"text": ["2", "1"], "label": ["1", "2"]}, "answer": "2"}, "c", "1"),
        ({"question": "q", "a": "x", "b": "y", "answer": "x"}, ["{a}", "{b}"], "x"),
    ],
)
def test_choices_come_in_many_shapes(row: dict, given: str | list, right: str) -> None:
    task = load_task({"examples": {"test": [row]}, "choices": given, "metric": "loglikelihood"})
    assert task.test[0].answer == right
    assert right in task.test[0].choices


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        ({**LISTED, "answer": 3}, {}, "beyond those of the 3 choices"),
        ({**LISTED, "answer": "z"}, {}, "none of its choices"),
        ({"question": "q", "options": ["x", "x"], "answer": 0}, {}, "two or more different"),
        ({"question": "q", "options": "xy", "answer": 0}, {}, "list of choices"),
        ({"question": "q", "options": ["x", None], "answer": 0}, {}, "choices in the field 'options' must hold text"),
        ({"question": "q", "answer": 0}, {}, "no field 'options'"),
        ({**LISTED, "answer": 0}, {"metric": "exact_match"}, "go together"),
        ({**LISTED, "answer": 0}, {"choices": None}, "`choices`|go together"),
        ({**LISTED, "answer": 0}, {"choices": 3}, "name of a field"),
        ({**LISTED, "answer": 0}, {"language": "ja"}, "writes nothing"),
        ({**LISTED, "answer": 0}, {"python": "x.py:f"}, "both `metric` and `python`"),
    ],
)
def test_bad_choices_say_what_is_wrong(row: dict, change: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task({"examples": {"test": [row]}, "choices": "options", "metric": "loglikelihood", **change})


def test_questions_alike_but_for_their_choices_are_two() -> None:
    rows = [{"question": "Which is right?", "options": [f"{i}", f"{i + 1}"], "answer": 0} for i in range(4)]
    given = {"choices": "options", "metric": "loglikelihood"}
    assert len(load_task({"examples": {"test": rows}, **given}).test) == 4
    rows[1]["options"].reverse()
    with pytest.raises(TaskError, match="both the search and the test"):
        load_task({"examples": {"search": rows[:2], "test": [{**rows[1], "options": ["1", "2"]}]}, **given})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ｔｏｍ has 1,200 apples.", "tom has 1200 apples", True),
        ("「トムは、何個？」", "トムは何個", True),
        ("It's - so - late!", "its so late", True),
        ("What is 3-2?", "What is 32?", False),
        ("What is 1.5?", "What is 15?", False),
        ("3 2", "32", False),
        ("−5 + 3", "5 + 3", False),
        ("3 − 2", "3-2", True),
        ("?!", "...", False),
    ],
)
def test_fingerprints_leave_out_what_does_not_matter(one: str, other: str, same: bool) -> None:
    assert (fingerprint(one) == fingerprint(other)) is same


def test_parquet_is_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"question": f"q{i}", "options": ["a", "b"], "answer": i % 2} for i in range(5)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    given = {"examples": {"folder": str(tmp_path), "test": "rows.parquet"}, "choices": "options"}
    task = load_task({**given, "metric": "loglikelihood"})
    assert {(e.prompt, e.answer) for e in task.test} == {(f"q{i}", "ab"[i % 2]) for i in range(5)}
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TaskError, match=r"rows\.parquet is no Parquet that can be read"):
        load_task({**given, "metric": "loglikelihood"})


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmarks' files are not beside the project")


def publish_dataset(repo_id: str, files: dict[str, bytes]) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    api.create_commit(repo_id, operations=operations, commit_message="Files", repo_type="dataset")


@needs_data
def test_mgsm_and_gsm8k_load_by_hub_id(hub) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    publish_dataset("juletxara/mgsm", {"mgsm_ja.tsv": (DATA / "mgsm" / "mgsm_ja.tsv").read_bytes()})
    lines = (DATA / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    train = [{"question": f"Tom had {i} apples and ate one. How many?", "answer": f"#### {i - 1}"} for i in range(40)]
    files = {}
    for split, content in (("train", train), ("test", rows)):
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(content), sink)
        files[f"main/{split}-00000-of-00001.parquet"] = sink.getvalue().to_pybytes()
    publish_dataset("openai/gsm8k", files)

    mgsm = load_task("mgsm-ja")
    assert (len(mgsm.search), len(mgsm.validation), len(mgsm.test)) == (0, 0, 250)
    assert mgsm.source.startswith("juletxara/mgsm@")
    (robe,) = [example for example in mgsm.test if example.prompt.startswith("ローブを作成するには")]
    assert robe.answer == "3"
    gsm8k = load_task("gsm8k", counts={"search": 10, "validation": 20})
    assert (len(gsm8k.search), len(gsm8k.validation), len(gsm8k.test)) == (10, 20, 1319)
    assert len(load_task("gsm8k").search) == len(load_task("gsm8k").validation) == 20
    janet = next(example for example in gsm8k.test if example.prompt.startswith("Janet’s ducks"))
    scores = grade(["So she makes $18 every day.", "She sells 9 eggs."], [janet, janet], gsm8k)
    assert scores.values == (1.0, 0.0)
    # A benchmark's own reference answers are right, whatever their commas, signs and units.
    assert grade([example.answer for example in gsm8k.test], gsm8k.test, gsm8k).score == 1.0


def blocks() -> list[dict]:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize("document", blocks(), ids=lambda document: next(iter(document)))
def test_every_task_of_the_docs_is_one(document: dict, tmp_path: Path) -> None:
    if "lm_eval" in document and importlib.util.find_spec("lm_eval") is None:
        with pytest.raises(TaskError, match="not installed"):
            load_task(document)
        return
    if "lm_eval" in document:
        pytest.skip("its data set is on the Hub")
    if "classifier" in document:  # read to the end: it is opened last
        rows = {"search": [{"prompt": "a gate", "label": "torii"}]}
        with pytest.raises(NotFoundError, match=r"org/classifier"):
            load_task({**document, "examples": rows})
        return
    (tmp_path / "score.py").write_text("def grade(outputs, examples): return [1.0 for _ in outputs]")
    names = [name for name in ("search", "validation", "test") if name in document["examples"]]
    (tmp_path / "photo.bmp").write_bytes(b"BM:\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18" + bytes(29))
    more = {"answer": 1, "options": ["a", "b"], "photo": "photo.bmp"}
    rows = {name: [{"question": f"{name} {i}", "text": f"{name} {i}", **more} for i in range(3)] for name in names}
    here = {**document, "examples": rows}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(here, allow_unicode=True))
    task = load_task(tmp_path / "task.yaml")
    assert all(len(task.split(name)) == 3 for name in names)
    assert METRICS[task.metric] is task.asked


def test_the_docs_name_every_metric() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name in METRICS:
        assert re.search(rf"`{name}[`:]|^(metric: )?{name}\b", text, re.MULTILINE), name
        assert name in task_module.__doc__


def test_what_a_model_says_is_valued_by_any_text_metric(siblings) -> None:
    from hubmerge.evaluate.models import load_model

    loaded = load_model(str(siblings["math"]), dtype="float32")
    examples = tuple(Example(f"w1 w{i} {i}", f"{i} {i} w3") for i in range(3, 8))
    scores = {}
    for metric in ("exact_number", "exact_match", "rouge_l"):
        task = Task("t", test=examples, metric=metric, max_new_tokens=6)
        scores[metric] = evaluate(*loaded, task.test, task)
        assert scores[metric].tokens > 0
        assert grade(scores[metric].outputs, examples, task).values == scores[metric].values
    assert len({found.outputs for found in scores.values()}) == 1
    assert scores["rouge_l"].score == sum(
        rouge_l(output, example.answer) for output, example in zip(scores["rouge_l"].outputs, examples, strict=True)
    ) / len(examples)
