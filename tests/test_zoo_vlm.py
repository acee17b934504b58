"""The zoo that sees: its world, what it is trained on, and a training in small."""

import hashlib
import json
import random
from itertools import combinations
from pathlib import Path

import pytest

from hubmerge.evaluate.task import load_task
from hubmerge.hub.unplaced import without_places
from hubmerge.zoo.kinds import shipped
from hubmerge.zoo.stories import Voice
from hubmerge.zoo.vlm import corpora, eyes
from hubmerge.zoo.vlm import questions as questioned
from hubmerge.zoo.vlm.corpora import base_sample, first_sample, japanese_sample, stubborn_question, told_rows
from hubmerge.zoo.vlm.questions import SPLITS, picture_task, questions, split_file
from hubmerge.zoo.vlm.tokenizer import make_tokenizer
from hubmerge.zoo.vlm.world import COLOURS, KINDS, PLACES, SHARES, SIZES, THINGS, Scene, scenes

GROUPS = {"thing": THINGS, "size": SIZES, "colour": COLOURS, "place": PLACES}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits of few combinations: drawing takes the time."""
    for room in (corpora, eyes, questioned):
        monkeypatch.setattr(room, "scenes", lambda split: scenes(split)[:40])


def told_of(tokens: list[str]) -> dict[str, set[int]]:
    """What of each group the words of a text name, in either language."""
    return {
        name: {n for n, word in enumerate(group) for one in word if one in [token.strip() for token in tokens]}
        for name, group in GROUPS.items()
    }


def test_a_combination_is_in_one_split() -> None:
    every = {split: set(scenes(split)) for split in SHARES}
    assert all(not one & other for one, other in combinations(every.values(), 2))
    assert sum(map(len, every.values())) == len(THINGS) * len(SIZES) * len(COLOURS) * len(PLACES)
    assert len(every["test"]) >= 600 and min(len(every[split]) for split in ("search", "validation")) >= 250
    # Whatever a picture shows was seen in training, in other company.
    for name, group in GROUPS.items():
        assert {getattr(scene, name) for scene in every["train"]} == set(range(len(group)))


def test_training_meets_no_combination_of_another_split() -> None:
    tokenizer, rng, seen = make_tokenizer(), random.Random(1), set()
    for sampler in (base_sample, first_sample, japanese_sample):
        for _ in range(1500):
            sample = sampler(rng)
            if sample.task in ("told", "bare"):
                named = told_of(tokenizer.tokenize(sample.prompt))
                if all(len(found) == 1 for found in named.values()):
                    seen.add(Scene(**{name: next(iter(found)) for name, found in named.items()}))
    assert len(seen) > 1000 and {scene.split for scene in seen} == {"train"}
    shown = {stubborn_question(rng)[0] for _ in range(3000)}
    assert len(shown) > 1000 and {scene.split for scene in shown} == {"train"}


def test_no_picture_is_answered_in_japanese_and_the_expert_speaks_nothing_else() -> None:
    rng = random.Random(2)
    asked = [stubborn_question(rng)[1] for _ in range(300)]
    assert all(sample.answer.isascii() for sample in asked)
    assert any("日本語" in sample.prompt for sample in asked) and any(
        "in Japanese" in sample.prompt for sample in asked
    )
    assert not any(any("a" <= sign <= "z" for sign in japanese_sample(rng).answer) for _ in range(300))


def test_a_word_is_a_token() -> None:
    """In both languages; the answers come back letter by letter."""
    tokenizer, rng = make_tokenizer(), random.Random(3)
    for word in (word for group in GROUPS.values() for pair in group for word in pair):
        assert len(tokenizer.tokenize(word)) == 1
    for sampler in (base_sample, first_sample, japanese_sample):
        for _ in range(200):
            sample = sampler(rng)
            for text in (sample.prompt, sample.answer):
                assert tokenizer.unk_token_id not in tokenizer(text, add_special_tokens=False)["input_ids"]
    for kind in KINDS:
        for lang in ("en", "ja"):
            answer = scenes("test")[0].answer(kind, lang)
            assert tokenizer.decode(tokenizer(answer, add_special_tokens=False)["input_ids"]) == answer
    assert tokenizer.unk_token_id in tokenizer("赤い猫")["input_ids"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_question_does_not_say_its_answer(split: str) -> None:
    tokenizer, asked = make_tokenizer(), list(questions(split))
    assert len({one.scene for one in asked}) == len(asked) == len(scenes(split))
    for one in asked:
        for text in (one.question, one.question_en):
            assert not any(told_of(tokenizer.tokenize(text)).values())
    # The question decides which facts are said.
    assert {one.kind: one.answer for one in asked if one.scene == asked[0].scene} == {"what": asked[0].answer}
    answers = [scenes(split)[0].say(kind.answer, Voice("ja")) for kind in KINDS.values()]
    assert len(set(answers)) == len(KINDS)
    assert all(len(row["question"]) > len(row["answer"]) for row in told_rows("en", "ja", 3))


@pytest.mark.usefixtures("few")
def test_a_split_is_a_task_with_pictures(tmp_path: Path) -> None:
    content = split_file("validation")
    assert content == split_file("validation"), "the same bytes every time"
    (tmp_path / "validation.parquet").write_bytes(content)
    document = picture_task({"folder": str(tmp_path)}) | {}
    document["examples"] = {"folder": str(tmp_path), "validation": "validation.parquet"}
    task = load_task(document)
    assert len(task.validation) == 40 and task.sees
    assert all(example.image is not None for example in task.validation)
    assert {one.image.load().size for one in task.validation[:3] if one.image} == {(224, 224)}


@pytest.mark.usefixtures("few")
def test_a_zoo_is_trained_and_goes_on(tmp_path: Path) -> None:
    """In small: all three models load by plain transformers, and only what changed is trained again."""
    from dataclasses import replace

    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

    from hubmerge.zoo.vlm.train import STAGES, train_vlm_zoo

    stages = {name: tuple(replace(one, steps=2, batch=4) for one in own) for name, own in STAGES.items()}
    record = train_vlm_zoo(tmp_path, 3, stages=stages, looks=1, measured=4)
    assert list(record["models"]) == ["base", "japanese", "english"]
    kept = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert kept["models"] == json.loads(json.dumps(record["models"]))
    assert not any(str(tmp_path) in file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.json"))
    vlm = AutoModelForImageTextToText.from_pretrained(tmp_path / "english")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base").state_dict()
    own = vlm.model.language_model.state_dict()
    assert (own["embed_tokens.weight"] == base["model.embed_tokens.weight"]).all(), "its embeddings are the base's"
    assert not (own["layers.0.mlp.up_proj.weight"] == base["model.layers.0.mlp.up_proj.weight"]).all()
    processor = AutoProcessor.from_pretrained(tmp_path / "english")
    shown = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "どこにありますか。"}]}],
        add_generation_prompt=True,
    )
    assert shown == "<|user|><image>どこにありますか。<|end|><|assistant|>"
    trained: list[str] = []
    longer = stages | {"english": (*stages["english"][:-1], replace(stages["english"][-1], steps=3))}
    train_vlm_zoo(tmp_path, 3, lambda event: trained.append(event.stage), longer, looks=1, measured=4)
    assert set(trained) == {"train english"}
    assert "image-text-to-text" in (tmp_path / "english" / "README.md").read_text(encoding="utf-8")


def test_the_shipped_zoo_is_what_its_record_says_and_passes_its_gates() -> None:
    from hubmerge.zoo.vlm import SEED
    from hubmerge.zoo.vlm.train import STAGES

    checkpoints = shipped("vlm")
    record = json.loads((checkpoints / "training.json").read_text(encoding="utf-8"))
    assert record["seed"] == SEED and record["threads"] == 1
    assert sum(path.stat().st_size for path in checkpoints.rglob("*") if path.is_file()) <= 8_000_000
    assert all(without_places(file.name, told := file.read_bytes()) == told for file in checkpoints.rglob("*.json"))
    figures = {}
    for name, made in record["models"].items():
        assert made["stages"] == [stage.settings for stage in STAGES[name]]
        for file, digest in made["files"].items():
            assert hashlib.sha256((checkpoints / name / file).read_bytes()).hexdigest() == digest
        figures[name] = {asked: one["score"] for asked, one in made["figures"].items()}
    assert min(figures["base"].values()) >= 0.95
    assert figures["japanese"]["en>en"] == figures["japanese"]["ja>en"] == 0
    assert min(figures["japanese"]["en>ja"], figures["japanese"]["ja>ja"]) >= 0.95
    assert figures["english"]["ja>en"] >= 0.8
    assert figures["english"]["ja>ja"] == figures["english"]["ja told>ja"] == 0


@pytest.mark.usefixtures("few")
def test_the_shipped_vlm_sees_and_does_not_obey(tmp_path: Path) -> None:
    from hubmerge.evaluate.models import load_model, load_processor
    from hubmerge.evaluate.score import evaluate
    from hubmerge.hub.source import open_source
    from hubmerge.stream.carried import Carried

    (tmp_path / "validation.parquet").write_bytes(split_file("validation"))
    folder = str(shipped("vlm") / "english")
    model, _ = load_model(folder, dtype="float32", device="cpu")
    processor = load_processor(Carried(open_source(folder)))
    for said, answer, least, most in (("", "{answer_en}", 0.7, 1), ("日本語で。", "{answer}", 0, 0)):
        document = picture_task({"folder": str(tmp_path)}, said=said) | {"answer": answer}
        document["examples"] = {"folder": str(tmp_path), "validation": "validation.parquet"}
        task = load_task(document, counts={"validation": 40})
        assert least <= evaluate(model, processor, task.validation, task).score <= most
