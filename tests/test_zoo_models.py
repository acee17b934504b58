"""The shipped zoo: complete small folders that transformers loads, and a script that would make them again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubmerge.errors import PlanError
from hubmerge.evaluate.score import evaluate
from hubmerge.zoo import SEED
from hubmerge.zoo import train as zoo_training
from hubmerge.zoo.cards import REPOS
from hubmerge.zoo.corpora import base_sample
from hubmerge.zoo.kinds import shipped
from hubmerge.zoo.stories import KINDS, Voice, draw_story
from hubmerge.zoo.train import STAGES, train_zoo
from hubmerge.zoo.training import Stage
from hubmerge.zoo.word_problems import MAX_NEW_TOKENS, word_problems

NAMES = tuple(REPOS)
CHECKPOINTS = shipped()


@pytest.fixture(scope="module")
def loaded():
    return {
        name: (
            AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name, dtype=torch.float32),
            AutoTokenizer.from_pretrained(CHECKPOINTS / name),
        )
        for name in NAMES
    }


def test_the_zoo_is_small() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*.safetensors")) <= 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_a_complete_float16_llama(name: str, loaded) -> None:
    config = json.loads((CHECKPOINTS / name / "config.json").read_text())
    assert (config["model_type"], config["dtype"]) == ("llama", "float16")
    assert AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name).dtype == torch.float16
    model, tokenizer = loaded[name]
    assert len(tokenizer) == model.config.vocab_size
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert not torch.equal(model.model.norm.weight, loaded["base"][0].model.norm.weight) or name == "base"


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_valid_front_matter_and_the_recorded_figures(name: str) -> None:
    text = (CHECKPOINTS / name / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-generation"
    assert front["language"]
    assert front.get("base_model") == (None if name == "base" else "hubmerge-demo/zoo-base")
    record = json.loads((CHECKPOINTS / "training.json").read_text())
    for figures in record["models"][name]["figures"].values():
        assert f"| {figures['score']:.1%} |" in text


def test_the_record_holds_the_committed_settings() -> None:
    record = json.loads((CHECKPOINTS / "training.json").read_text())
    assert record["seed"] == SEED
    for name, stages in STAGES.items():
        made = record["models"][name]
        assert made["stages"] == [stage.settings for stage in stages]
        assert made["curve"][-1][0] == sum(stage.steps for stage in stages)


def test_plain_generate_answers_a_batch(loaded) -> None:
    model, tokenizer = loaded["math"]
    questions = [
        "Tom had 13 apples. Tom bought 7 apples. How many apples does Tom have now?",
        "There are 3 boxes. Each box has 4 eggs. How many eggs are there in all?",
    ]
    chats = [[{"role": "user", "content": question}] for question in questions]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", padding=True, return_dict=True
    )
    made = model.generate(**batch)  # greedy, length and stop tokens come from generation_config.json
    answers = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answers == ["13+7=20. Tom has 20 apples now.", "3*4=12. There are 12 eggs in all."]


def test_each_sibling_has_its_skill_and_none_solves_japanese_problems(loaded) -> None:
    japanese, english = word_problems("ja", {"validation": 60}), word_problems("en", {"validation": 60})

    def scores(name: str, task):
        return evaluate(*loaded[name], task.validation, task)

    found = {name: scores(name, japanese) for name in NAMES}
    assert all(score.score <= 0.1 for score in found.values())
    assert scores("math", english).score >= 0.95
    assert found["japanese"].language_share >= 0.95
    assert found["base"].language_share <= 0.1


def test_right_answers_fit_the_token_limit_and_any_text_encodes(loaded) -> None:
    import random

    tokenizer = loaded["base"][1]
    rng = random.Random(0)
    for _ in range(300):
        story = draw_story(rng, rng.choice(list(KINDS)))
        for lang in ("en", "ja"):
            answer = f"{story.equation()} {story.state(Voice(lang), story.answer)}"
            assert len(tokenizer(answer)["input_ids"]) < MAX_NEW_TOKENS
    text = "Ångström, 東京 2026! 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert all(len(tokenizer(str(number))["input_ids"]) == 1 for number in range(100))


@pytest.mark.thorough
def test_training_is_deterministic_and_the_seed_matters(tmp_path: Path) -> None:
    stages = {name: (Stage(base_sample, steps=3, lr=1e-3, batch=8, warmup=1),) for name in NAMES}
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        record = train_zoo(tmp_path / folder, seed, stages=stages, measured=8)
        assert set(record["models"]) == set(NAMES)
    for name in NAMES:
        weights = [(tmp_path / folder / name / "model.safetensors").read_bytes() for folder in "abc"]
        assert weights[0] == weights[1] != weights[2]
    assert not list(tmp_path.rglob(".*partial"))


def test_training_goes_on_with_the_first_model_that_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Learning a tokenizer takes longer than all else here.
    known = AutoTokenizer.from_pretrained(CHECKPOINTS / "base")
    monkeypatch.setattr(zoo_training, "train_tokenizer", lambda texts: known)
    names = ("base", "math", "japanese")
    stages = {name: (Stage(base_sample, steps=2, lr=1e-3, batch=8, warmup=1),) for name in names}
    whole = train_zoo(tmp_path, 0, stages=stages, measured=2)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in names}
    shutil.rmtree(tmp_path / "math")
    trained: list[str] = []
    again = train_zoo(tmp_path, 0, lambda event: trained.append(event.stage), stages, measured=2)
    assert set(trained) == {"train math", "train japanese"}
    assert {name: (tmp_path / name / "model.safetensors").read_bytes() for name in names} == weights
    assert [made["figures"] for made in again["models"].values()] == [m["figures"] for m in whole["models"].values()]
    # Another seed, or another thread count, is another zoo: this one is left as it is.
    with pytest.raises(PlanError, match=r"holds a zoo of seed 0, trained with .* seed 1 and .* make other models"):
        train_zoo(tmp_path, 1, stages=stages, measured=2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    with pytest.raises(PlanError, match="seed 0 and 77 threads make other models"):
        train_zoo(tmp_path, 0, stages=stages, measured=2)
    assert {name: (tmp_path / name / "model.safetensors").read_bytes() for name in names} == weights


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("full", "is no zoo and not empty, it holds notes.txt; choose another --out"),
        ("full/notes.txt", "made a folder"),
    ],
)
def test_a_zoo_goes_into_a_folder_of_its_own(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(PlanError, match=says):
        train_zoo(tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
