"""The paper's table joins seeds by problem: run folders whose problems come in different orders give the same table."""

import json
import random
import re
from dataclasses import replace

import pytest

from hubmerge.evaluate.statistics import wilson
from hubmerge.evaluate.table import Row, pack
from hubmerge.evolve.compared.scales import SCALED_LABEL
from hubmerge.evolve.records.results import EVOLVED, Results
from hubmerge.zoo.kinds import shipped
from hubmerge.zoo.paper import Zoo, runs
from hubmerge.zoo.paper_page import markdown
from hubmerge.zoo.paper_table import NAMES, OURS, TUNED, Table, mean, table
from hubmerge.zoo.trade_off import ENGLISH_FILE, TRADE_OFF_FILE
from hubmerge.zoo.word_problems import dataset_folder

N = 300
SEEDS = (1, 2)


def row(model: str, marks: dict[str, float], order: list[str], note: str = "") -> Row:
    values = [marks[problem] for problem in order]
    low, high = wilson(int(sum(values)), len(values))
    compared = (None, None) if model == EVOLVED else (0.5, (-0.1, 0.1))
    return Row(model, sum(values) / N, low, high, N, 0.5, 0.5, *compared, pack(values), tuple(order), note)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Table, dict]:
    """The table of run folders for two seeds, each with the problems in an order of its own, and what is in them."""
    from hubmerge.evaluate.task import load_task

    root = tmp_path_factory.mktemp("paper")
    dataset_folder("ja", root / "ja")
    generator = random.Random(5)
    todo = []
    for run in runs(Zoo(shipped(), 0, "lab"), SEEDS, 32, {"search": 20, "validation": 20, "test": N}):
        examples = {"folder": str(root / "ja"), **{name: f"{name}.jsonl" for name in ("search", "validation", "test")}}
        todo.append(replace(run, search=replace(run.search, task={**run.search.task, "examples": examples})))
    problems = list(load_task(todo[0].search.task, counts=todo[0].search.splits).problems("test"))

    def drawn(share: float) -> dict[str, float]:
        return {problem: float(generator.random() < share) for problem in problems}

    truth = {"average": drawn(0.4), "grid of two scalars, same budget": drawn(0.6), SCALED_LABEL: drawn(0.5)}
    evolved = {(name, seed): drawn(0.75) for name in NAMES for seed in SEEDS}
    for run in todo:
        order = generator.sample(problems, N)
        rows = [row(name, marks, order, "0.4 of 5" * (name == SCALED_LABEL)) for name, marks in truth.items()]
        rows = [*(rows if run.name in ("ps", "ps-all") else []), row(EVOLVED, evolved[run.name, run.seed], order)]
        folder = run.folder(root)
        folder.mkdir(parents=True)
        facts = {"seconds": 1.0, "evaluations": 32}
        (folder / "results.json").write_bytes(Results("key", facts, {}, tuple(rows)).to_json())
        (folder / ENGLISH_FILE).write_text(json.dumps({"value": 0.9}))
        (folder / TRADE_OFF_FILE).write_text("[]")
        assert Results.read(folder / "results.json").rows[-1].marks == evolved[run.name, run.seed]
    return table(todo, root), {"truth": truth, "evolved": evolved}


def test_values_meet_by_problem_whatever_their_order(made) -> None:
    one, given = made
    for name in ("average", "grid of two scalars, same budget", TUNED):
        assert one.line(name).runs == (given["truth"][name],)  # what no seed changes is one run
        right = int(sum(given["truth"][name].values()))
        assert one.line(name).interval == wilson(right, N)
    ours = one.line(OURS)
    assert ours.runs == tuple(given["evolved"]["ps", seed] for seed in SEEDS)
    first, second = (given["evolved"]["ps", seed] for seed in SEEDS)
    assert ours.marks == {problem: (first[problem] + second[problem]) / 2 for problem in first}
    assert ours.by_seed == tuple(mean(given["evolved"]["ps", seed].values()) for seed in SEEDS)


def test_the_gain_over_a_row_without_a_seed_is_that_of_a_bootstrap_by_hand(made) -> None:
    one, given = made
    text = next(line for line in markdown(one).splitlines() if f"{OURS} - grid" in line)
    printed = [float(bound) for bound in re.search(r"points \((\S+) to (\S+)\)", text).groups()]
    theirs, generator, found = given["truth"]["grid of two scalars, same budget"], random.Random(1), []
    for _ in range(3000):
        seeds, asked = generator.choices(SEEDS, k=2), generator.choices(list(theirs), k=N)
        found.append(sum(given["evolved"]["ps", s][p] - theirs[p] for s in seeds for p in asked) / 2 / N)
    found.sort()
    assert printed == pytest.approx([100 * found[75], 100 * found[2925]], abs=1.0)
    assert f"- {TUNED}: 0.4 of 5" in markdown(one)


def test_seen_and_unseen_templates_are_told_by_problem(made) -> None:
    from hubmerge.zoo.word_problems import problems

    one, _ = made
    assert one.seen < one.problems
    kinds = [problem.template for problem in problems("test", 600)]
    assert kinds.count("seen") / 600 == pytest.approx(len(one.seen) / N, abs=0.2)
