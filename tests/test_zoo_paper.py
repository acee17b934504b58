"""The paper's table in small: which searches it makes, and that it says what they found."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hubmerge.errors import SearchError
from hubmerge.evaluate import task as task_module
from hubmerge.zoo.kinds import shipped
from hubmerge.zoo.paper import Zoo, runs
from hubmerge.zoo.paper_page import markdown, write
from hubmerge.zoo.paper_table import NAMES, OURS, TUNED, Line, Table
from hubmerge.zoo.trade_off import SHARES, Point, english_task, with_front
from hubmerge.zoo.word_problems import dataset_folder, problems

SPLITS = {"search": 8, "validation": 8, "test": 12}
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from hubmerge import demo
from hubmerge.zoo import paper

def small(run):
    searchers = {
        name: replace(searcher, popsize=4, evaluations=searcher.evaluations // 4)
        for name in ("searcher", "path_searcher")
        if (searcher := getattr(run.search, name))
    }
    return replace(run, search=replace(run.search, **searchers))

if __name__ == "__main__":
    whole = paper.runs
    paper.runs = lambda zoo, seeds, evaluations, splits: map(small, whole(zoo, seeds, evaluations, %r))
    demo.paper(Path(sys.argv[1]), [], [1], 32, 12, 2)
"""


def test_every_search_has_the_same_budget_and_the_seeds_asked_for() -> None:
    made = list(runs(Zoo(shipped(), 0, "lab"), (4, 5), 96, SPLITS))
    assert [run.seed for run in made] == [4] * 5 + [5] * 5
    assert {run.name for run in made} == set(NAMES)
    for run in made:
        search = run.search
        second = search.path_searcher
        assert search.searcher.evaluations + (second.evaluations if second else 0) == 96
        assert {search.searcher.seed, second.seed if second else run.seed} == {run.seed}
        assert dict(search.splits) == SPLITS
        assert all(str(model).startswith("lab/zoo-") for model in search.models)
        assert search.task["examples"]["repo_id"].startswith("lab/")
    assert made[0].search.baselines[-2:] == ("random", "grid")
    assert [run.search.spaces for run in made[:5]] == [("ps",), ("ps",), ("ps",), ("dfs",), ("ps", "dfs")]


def test_a_folder_without_a_zoo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="is no zoo"):
        Zoo.of(tmp_path)
    (tmp_path / "training.json").write_text('{"seed": 3}')
    with pytest.raises(SearchError, match="lacks base, math"):
        Zoo.of(tmp_path)


def line(name: str, right: int, n: int = 100) -> Line:
    return Line(name, ({f"p{number:02}": float(number < right) for number in range(n)},), right / n, 1.0)


def made_up(ps: int = 80) -> Table:
    others = {"zoo-base (base)": 0, "TIES, untuned": 30, "average (all four)": 40, TUNED: 45}
    evolved = {"random search, same budget": 60} | dict.fromkeys(NAMES.values(), 70) | {OURS: ps}
    lines = tuple(line(name, right) for name, right in (others | evolved).items())
    return Table("lab", lines, frozenset(f"p{number:02}" for number in range(100) if number % 3 < 2))


def test_the_table_compares_with_the_best_untuned_merge_and_tells_seen_from_unseen() -> None:
    text = markdown(made_up())
    assert [rival.name for rival in made_up().rivals] == ["average (all four)", TUNED, "random search, same budget"]
    assert "- evolved: recipes (PS) - average (all four): +40.0 points" in text
    assert "); one seed: +40.0 (p < .001)" in text
    ours = next(row for row in text.splitlines() if row.startswith(f"| **{OURS}**"))
    # The first 80 of 100 are right; two of three are of seen templates.
    cells = [cell.strip() for cell in ours.split("|")[2:8]]
    assert cells == ["80.0%", "71.1% - 86.7%", "", "", "80.6%", "78.8%"]


def test_a_table_is_read_back_from_what_little_is_kept_of_it() -> None:
    mixtures = (Point(0.0, 0.8, 0.7), Point(1.0, 0.0, 0.99))
    one = replace(made_up(), mixtures=mixtures)
    plain = json.loads(json.dumps(one.to_dict()))
    assert Table.from_dict(plain) == one
    assert all(isinstance(run, str) and len(run) == 100 for line in plain["lines"] for run in line["runs"])


def test_a_table_of_contestants_that_were_asked_different_problems_is_refused() -> None:
    one = made_up()
    with pytest.raises(ValueError, match="lab: average was asked other problems"):
        replace(one, lines=(*one.lines, line("average", 3, n=101)))


def test_a_mixture_that_another_beats_is_not_on_the_front() -> None:
    scores = [(0.8, 0.7), (0.8, 0.9), (0.5, 0.95), (0.4, 0.95), (0.0, 0.95)]
    points = with_front([Point(number / 4, *pair) for number, pair in enumerate(scores)])
    assert [point.on_front for point in points] == [False, True, True, False, False]


def test_several_zoos_are_summed_up(tmp_path: Path) -> None:
    mixtures = (Point(0.0, 0.8, 0.7), Point(1.0, 0.0, 0.99))
    path = write([replace(made_up(80), mixtures=mixtures), made_up(60)], tmp_path, "heading")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("heading")
    assert f"| {OURS} | 70.0% | 60.0% | 80.0% |" in text
    assert "| 100% | 0.0% | 99.0% | yes |" in text
    for name in ("paper.png", "trade-off.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    kept = [Table.from_dict(plain) for plain in json.loads((tmp_path / "paper.json").read_text())]
    assert [markdown(one) in text for one in kept] == [True, True]


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--seeds", "1,x"], "--seeds must be whole numbers"), (["--zoo", "nowhere"], "nowhere is no zoo")],
)
def test_bad_input_is_one_sentence(
    options: list[str], said: str, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("demo", "--paper", "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_the_runs_of_a_table_that_was_killed_end_with_it() -> None:
    script = (
        "import os, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from hubmerge.zoo.paper import _end_with_the_parent\n"
        "pool = ProcessPoolExecutor(1, get_context('fork'), initializer=_end_with_the_parent)\n"
        "pool.submit(os.getpid).result()\n"
        "pool.submit(time.sleep, 600)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    # The worker holds the output open as long as it lives: that it is read to its end says that the worker has ended.
    killed = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=120)
    assert killed.returncode == -9


@pytest.mark.thorough
@pytest.mark.slow
def test_the_whole_table_and_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % SPLITS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}

    def run() -> str:
        done = subprocess.run(
            [sys.executable, script, tmp_path / "paper"], capture_output=True, text=True, env=environment, timeout=800
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return (tmp_path / "paper" / "paper.md").read_text(encoding="utf-8")

    first = run()
    for name in (*NAMES.values(), "zoo-errands", "TIES, untuned (all four)", "grid of two scalars, same budget"):
        assert name in first
    assert all(f"| {share:.0%} |" in first for share in SHARES)
    journals = sorted((tmp_path / "paper").rglob("journal.jsonl"))
    before = [path.read_bytes() for path in journals]
    assert len(before) == 8  # five runs, a grid, a random search, and the recipes of PS+DFS
    assert run() == first
    assert [path.read_bytes() for path in journals] == before


def test_the_english_problems_are_the_twins_of_the_japanese_ones_and_no_others(tmp_path, monkeypatch) -> None:
    whole = task_module.load_task
    for lang in ("ja", "en"):
        dataset_folder(lang, tmp_path / lang)

    def local(document: dict, **options):
        where = {key: value for key, value in document["examples"].items() if key != "repo_id"}
        return whole({**document, "examples": {**where, "folder": str(tmp_path / "en")}}, **options)

    examples = {"folder": str(tmp_path / "ja"), "test": "test.jsonl"}
    japanese = whole({"examples": examples, "language": "ja"}, counts={"test": 40}, seed=3)
    monkeypatch.setattr(task_module, "load_task", local)
    english = english_task("lab", japanese)
    both = zip(problems("test", 600, "ja"), problems("test", 600, "en"), strict=True)
    twins = {ja.question: en.question for ja, en in both}
    assert [example.prompt for example in english.test] == [twins[example.prompt] for example in japanese.test]
    assert [example.answer for example in english.test] == [example.answer for example in japanese.test]
    assert len(english.test) == 40
