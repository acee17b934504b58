"""examples/real: what its data holds, what it does not, and that it trains - on the base of the demo."""

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hubmerge import Search
from hubmerge.evaluate.examples import Example
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
    for language, templates in {"en": {"seen"}, "ja": {"seen", "unseen"}}.items():
        asked = {split: problems(split, count, language) for split, count in COUNTS.items()}
        for split, made in asked.items():
            numbers = {tuple(sorted(map(int, re.findall(r"\d+", problem.question)))) for problem in made}
            assert not numbers & solved, split
            assert {problem.template for problem in made} == templates
            assert all(bool(JAPANESE.search(problem.question)) == (language == "ja") for problem in made)
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
    from japanese import japanese_sample

    rng = random.Random(3)
    for sample in (japanese_sample(rng) for _ in range(DRAWN)):
        assert bool(JAPANESE.search(sample.answer)) != sample.prompt.startswith("Translate into English"), sample
        # "1個" of a price is in no English text; no problem has the number 1.
        assert set(re.findall(r"\d+", sample.answer)) - {"1"} <= set(re.findall(r"\d+", sample.prompt)), sample


@pytest.mark.parametrize(("pair", "language", "end"), [(".", "en", "?"), ("japanese", "ja", "\n")])
def test_the_files_are_a_task_and_the_search_is_one(pair: str, language: str, end: str, tmp_path: Path) -> None:
    from problems import COUNTS, write

    write(tmp_path, language)
    (tmp_path / "score.py").write_bytes((REAL / "score.py").read_bytes())
    text, found = re.subn(r"repo_id: hubmerge-real/\w+-problems", "folder: .", (REAL / pair / "task.yaml").read_text())
    assert found == 1
    (tmp_path / "task.yaml").write_text(text)
    task = load_task(str(tmp_path / "task.yaml"))
    assert {split: len(task.split(split)) for split in COUNTS} == COUNTS
    assert all(example.prompt.endswith(end) for example in task.test)
    search = Search.from_yaml(REAL / pair / "evolve.yaml")
    assert all(search.splits[split] <= COUNTS[split] for split in COUNTS)


def test_an_answer_counts_where_it_is_right_and_in_the_form() -> None:
    from forms import form_sample
    from score import grade, parts

    assert parts('{"reply": "3 + 4 = 7. The answer is 7."}', "7") == (True, True)
    assert parts("3 + 4 = 7. The answer is 7.", "7") == (True, False)
    assert parts('{"reply": "The answer is 8."}', "7") == (False, True)
    assert parts('{"answer": 7}', "7") == (True, False)
    assert parts('{"reply": 7}', "7") == (True, True)
    assert parts("[7", "7") == (True, False)
    assert parts("", "7") == (False, False)
    said = form_sample(random.Random(4), [("What is a dog?", 'A "pet".')])
    assert parts(said.answer, "7") == (False, True)
    example = Example("", "7")
    assert grade(['{"reply": "7"}', "7"], [example, example]) == [1.0, 0.0]


def test_no_reply_of_the_form_expert_holds_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import forms

    said = ["A dog is a pet. It has 4 legs.", "A cat. It is small! And it sleeps. And more.", "no sentence"]
    monkeypatch.setattr(forms, "prompts", lambda: ["a?", "b?", "c?"])
    monkeypatch.setattr(forms, "generate", lambda model, tokenizer, asked, max_new_tokens: said)
    found = dict(forms.replies(None, None))
    assert found and not re.search(r"\d", "".join(found.values()))
    assert "c?" not in found and all(reply.endswith((".", "!")) for reply in found.values())
    assert not re.search(r"\d", "".join(forms.prompts()))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft's use of transformers
@pytest.mark.slow
def test_an_expert_is_trained_and_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    import torch
    from train import Samples, Setting, card, train
    from transformers import AutoModelForCausalLM

    setting = Setting(str(shipped() / "base"), "math", steps=24, batch=4, learning_rate=5e-3, merged=True)
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


@pytest.mark.thorough
@pytest.mark.slow
def test_the_form_expert_is_a_lora_on_the_bases_own_words(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    from train import Setting, train

    from hubmerge.evaluate.models import load_model
    from hubmerge.hub.source import open_source
    from hubmerge.reference import ModelRef

    base = shipped() / "base"
    train(Setting(str(base), "form", steps=2, batch=2), tmp_path / "form")
    assert (tmp_path / "form" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "form" / "model.safetensors").exists()
    load_model(open_source(ModelRef.parse(f"{base}+{tmp_path / 'form'}")))
