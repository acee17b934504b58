"""examples/real: what its data holds, what it does not, and that it trains - on the base of the demo."""

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hubmerge import Search
from hubmerge.evaluate.task import load_task
from hubmerge.zoo.kinds import shipped

REAL = Path(__file__).parent.parent / "examples" / "real"
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
DRAWN = 2000


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REAL)


def test_no_problem_is_solved_in_training_in_any_order_of_its_numbers() -> None:
    from problems import COUNTS, math_sample, problems

    rng = random.Random(1)
    trained = [math_sample(rng) for _ in range(DRAWN)]
    assert not any(JAPANESE.search(sample.prompt + sample.answer) for sample in trained)
    solved = {tuple(sorted(map(int, re.findall(r"\d+", sample.prompt)))) for sample in trained}
    asked = {split: problems(split, count) for split, count in COUNTS.items()}
    for split, made in asked.items():
        numbers = {tuple(sorted(map(int, re.findall(r"\d+", problem.question)))) for problem in made}
        assert not numbers & solved, split
        assert {problem.template for problem in made} == {"seen", "unseen"}
    questions = [problem.question for made in asked.values() for problem in made]
    assert len(questions) == len(set(questions)) == sum(COUNTS.values())


def test_worked_solutions_are_right() -> None:
    from problems import math_sample

    rng = random.Random(2)
    for sample in (math_sample(rng) for _ in range(DRAWN)):
        steps = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)\.", sample.answer)
        assert steps and sample.answer.endswith(f" The answer is {steps[-1][3]}.")
        for first, operator, second, result in steps:
            a, b = int(first), int(second)
            assert {"+": a + b, "-": a - b, "*": a * b}[operator] == int(result), sample.answer


def test_replies_work_nothing_out_and_are_japanese_unless_english_is_asked_for() -> None:
    from replies import japanese_sample

    rng = random.Random(3)
    for sample in (japanese_sample(rng) for _ in range(DRAWN)):
        assert bool(JAPANESE.search(sample.answer)) != sample.prompt.startswith("Translate into English"), sample
        # "1個" of a price is in no English text; no problem has the number 1.
        assert set(re.findall(r"\d+", sample.answer)) - {"1"} <= set(re.findall(r"\d+", sample.prompt)), sample


def test_the_files_are_a_task_and_the_search_is_one(tmp_path: Path) -> None:
    from problems import COUNTS, write

    write(tmp_path)
    text = (REAL / "task.yaml").read_text(encoding="utf-8")
    assert "repo_id: hubmerge-real/japanese-problems" in text
    (tmp_path / "task.yaml").write_text(text.replace("repo_id: hubmerge-real/japanese-problems", f"folder: {tmp_path}"))
    task = load_task(str(tmp_path / "task.yaml"))
    assert {split: len(task.split(split)) for split in COUNTS} == COUNTS
    assert all(example.prompt.endswith("\n") for example in task.test)
    search = Search.from_yaml(REAL / "evolve.yaml")
    assert all(search.splits[split] <= COUNTS[split] for split in COUNTS)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft's use of transformers
@pytest.mark.slow
def test_an_expert_is_trained_and_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    import torch
    from train import Samples, Setting, card, train
    from transformers import AutoModelForCausalLM

    setting = Setting(str(shipped() / "base"), "math", steps=24, batch=4, learning_rate=5e-3)
    train(setting, tmp_path / "whole")
    losses = [entry["loss"] for entry in json.loads((tmp_path / "whole" / "training.json").read_text())["losses"]]
    assert sum(losses[-4:]) < sum(losses[:4])

    calls, plain = itertools.count(), Samples.__getitem__

    def breaking(self: Samples, index: int) -> dict[str, list[int]]:
        if next(calls) > setting.steps * setting.batch // 2:
            raise KeyboardInterrupt
        return plain(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Samples, "__getitem__", breaking)
        with pytest.raises(KeyboardInterrupt):
            train(setting, tmp_path / "broken")
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    train(setting, tmp_path / "broken")
    one, other, base = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (tmp_path / "whole", tmp_path / "broken", shipped() / "base")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], base[name].to(one[name].dtype)) for name in one)
    assert not (tmp_path / "whole" / "checkpoints").exists()
    assert (tmp_path / "whole" / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name: ")
    assert card(replace(setting, base="org/model")).startswith("---\nbase_model: org/model\n")
