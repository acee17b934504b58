"""The zoo that draws: its world, its pictures, its judges, and a training in small."""

import hashlib
import json
import random
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from hubmerge.errors import PlanError
from hubmerge.evolve.search import Search
from hubmerge.hub.unplaced import without_places
from hubmerge.zoo.kinds import demo_search, shipped

diffusers = pytest.importorskip("diffusers")

from hubmerge.zoo.image import SEED, beside, judges  # noqa: E402
from hubmerge.zoo.image.drawn import SIDE, draw  # noqa: E402
from hubmerge.zoo.image.learning import any_picture, crude_picture, every_picture, fine_picture  # noqa: E402
from hubmerge.zoo.image.networks import LONGEST, Drawing, new_tokenizer, prompts, token_ids  # noqa: E402
from hubmerge.zoo.image.prompts import DRAW, drawing_task, rows  # noqa: E402
from hubmerge.zoo.image.sheet import picture_sheet  # noqa: E402
from hubmerge.zoo.image.train import STAGES, train_image_zoo  # noqa: E402
from hubmerge.zoo.image.world import (  # noqa: E402
    COLOURS,
    FRAMES,
    OBJECTS,
    SPLITS,
    STYLES,
    TIMES,
    Scene,
    every_scene,
    labels,
    scenes,
)

SHIPPED = shipped("image")


def test_a_combination_is_in_one_split_and_half_of_the_test_is_new() -> None:
    every = {split: set(scenes(split)) for split in SPLITS}
    assert all(not one & other for one, other in combinations(every.values(), 2))
    assert set.union(*every.values()) == set(every_scene())
    new = [scene for scene in scenes("test") if scene.is_new]
    assert 2 * len(new) == len(scenes("test"))
    assert not any(scene.is_new for split in ("search", "validation") for scene in scenes(split))
    pairs = {(scene.object, scene.colour) for scene in new}
    assert {scene for scene in every_scene() if (scene.object, scene.colour) in pairs} == set(new)
    # Every object and every colour was seen in training, in other company.
    known = [scene for scene in every_scene() if not scene.is_new]
    assert {scene.object for scene in known} == set(range(len(OBJECTS)))
    assert {scene.colour for scene in known} == set(range(len(COLOURS)))


def test_no_model_that_draws_is_shown_a_new_pair() -> None:
    rng = random.Random(1)
    for sampler, styles in ((any_picture, set(STYLES)), (fine_picture, {"fine"}), (crude_picture, {"crude"})):
        shown = [sampler(rng) for _ in range(800)]
        assert not any(scene.is_new for scene, _ in shown) and {style for _, style in shown} == styles
    assert any(scene.is_new for scene, _ in (every_picture(rng) for _ in range(100))), "judges know all"
    assert {stage.sampler for name, stage in STAGES.items() if name in ("vae", "base", "fine", "japanese")} <= {
        any_picture,
        fine_picture,
        crude_picture,
    }


def test_prompts_are_read_whole() -> None:
    for lang, other in (("en", "ja"), ("ja", "en")):
        tokenizer = new_tokenizer(lang)
        every = prompts(lang)
        assert len(set(every)) == len(every) == len(OBJECTS) * len(COLOURS) * len(TIMES) * len(FRAMES)
        ids = token_ids(tokenizer, every)
        assert ids.shape == (len(every), LONGEST) and len({tuple(one) for one in ids.tolist()}) == len(every)
        assert not (ids == tokenizer.unk_token_id).any() and (ids == tokenizer.eos_token_id).any(1).all()
        foreign = tokenizer(prompts(other)[0], add_special_tokens=False).input_ids
        assert set(foreign) <= {tokenizer.unk_token_id}, "not a word of it is known"
    assert {row["pair"] for row in rows("search")} == {"known"} and len(rows("test")) == 2 * len(scenes("test"))


def test_pictures_show_what_they_should() -> None:
    def made(scene: Scene, style: str, seed: int = 3) -> np.ndarray:
        return draw(scene, style, np.random.default_rng(seed)).astype(int)

    one = Scene(4, 0, 0)
    assert made(one, "fine").shape == (SIDE, SIDE, 3) and (made(one, "fine") == made(one, "fine")).all()
    different = [made(one, style) for style in STYLES]
    different += [made(replace(one, object=n), "fine") for n in range(len(OBJECTS)) if n != one.object]
    different += [made(replace(one, colour=2), "fine"), made(replace(one, time=1), "fine"), made(one, "fine", 4)]
    assert all(abs(a - b).max() > 40 for a, b in combinations(different, 2))
    assert made(one, "plain").mean() > 150 > made(replace(one, time=1), "plain").mean()


def test_a_label_is_worth_the_product_of_its_parts() -> None:
    torch.manual_seed(1)
    shape = judges.SHAPES["judge"]
    plain = judges.new_judge(shape).eval()
    whole = judges.with_labels(plain, shape)
    with torch.inference_mode():
        pixels = torch.randn(2, 3, SIDE, SIDE)
        parts = [one.softmax(-1) for one in plain(pixels).logits.split(judges.SIZES, 1)]
        likely = whole(pixels).logits.softmax(-1)
    for scene, style in ((Scene(4, 0, 1), "fine"), (Scene(7, 5, 0), "crude")):
        at = whole.config.label2id[scene.label(style)]
        numbers = (scene.object, scene.colour, scene.time, STYLES.index(style))
        expected = torch.stack([part[:, n] for part, n in zip(parts, numbers, strict=True)]).prod(0)
        assert torch.allclose(likely[:, at], expected, rtol=1e-4)
    assert len(set(labels())) == whole.config.num_labels == likely.shape[1]


def test_a_sheet_has_a_row_for_each_model() -> None:
    import io

    from PIL import Image

    pictures = [(prompt, Image.new("RGB", (SIDE, SIDE), "red")) for prompt in prompts("ja")[:3]]
    with Image.open(io.BytesIO(picture_sheet({"one": pictures, "two": pictures}))) as sheet:
        red = (np.asarray(sheet.convert("RGB")) == (255, 0, 0)).all(-1)
    assert red.sum() == 6 * (2 * SIDE) ** 2


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A zoo that learnt next to nothing."""
    out = tmp_path_factory.mktemp("zoo")
    record = train_image_zoo(out, 3, stages=_few(STAGES), measured=1, fresh=8)
    assert list(record["models"]) == [*STAGES]
    return out


def _few(stages):
    return {name: replace(stage, steps=2, batch=8, pictures=24) for name, stage in stages.items()}


def test_a_zoo_is_trained_and_goes_on(small: Path, tmp_path: Path) -> None:
    """In small: plain diffusers loads it, parts are whose they should be, and only what changed is trained again."""
    kept = json.loads((small / "training.json").read_text(encoding="utf-8"))
    assert kept["models"]["japanese"]["figures"]["ja"]["n"] == 1
    assert not any(str(small) in file.read_text(encoding="utf-8") for file in small.rglob("*.json"))
    found = {name: diffusers.DiffusionPipeline.from_pretrained(small / name) for name in ("base", "fine", "japanese")}
    base, fine, japanese = found.values()
    assert {type(one).__name__ for one in found.values()} == {"StableDiffusionPipeline"}
    for one in (fine, japanese):
        assert not _same(one.unet, base.unet) and _same(one.vae, base.vae)
    assert fine.tokenizer.get_vocab() == base.tokenizer.get_vocab() != japanese.tokenizer.get_vocab()
    assert "鳥" in japanese.tokenizer.get_vocab()
    out = shutil.copytree(small, tmp_path / "zoo")
    trained: list[str] = []
    stages = _few(STAGES)
    longer = stages | {"japanese": replace(stages["japanese"], steps=3)}
    train_image_zoo(out, 3, lambda event: trained.append(event.stage), longer, measured=1, fresh=8)
    assert {stage for stage in trained if stage.startswith("train")} == {"train japanese", "train judge-2"}
    (out / "japanese" / "unet" / "notes.txt").write_text("mine")
    with pytest.raises(PlanError, match="is not a model as a training wrote it"):
        train_image_zoo(out, 3, stages=stages, measured=1, fresh=8)
    assert (out / "japanese" / "unet" / "notes.txt").read_text() == "mine"


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_who_draws_beside_a_winner(small: Path, tmp_path: Path) -> None:
    """By hand means the Japanese attention and the fine rest; a swap means the fine UNet; each with Japanese texts."""
    from hubmerge.evaluate.measurement import Measurement
    from hubmerge.evaluate.table import Row
    from hubmerge.evolve.result import card_for, card_rows
    from hubmerge.evolve.run import evolve
    from hubmerge.evolve.workers.resident import ResidentModel
    from hubmerge.hub.source import open_source
    from hubmerge.recipe import Recipe
    from hubmerge.stream.plan import make_plan

    search = Search.from_dict(
        {
            "base_model": f"{small}/japanese#unet",
            "models": [f"{small}/fine#unet", f"{small}/base#unet"],
            "merge_method": "task_arithmetic",
            "genome": {"granularity": "group", "genes": {"weight": [-1, 2]}, "start": 0.33},
            "task": drawing_task(
                {"search": rows("search")[:2], "validation": rows("validation")[:2]}, f"{small}/judge", draw=_quick()
            ),
            "baselines": ["random"],
            "searcher": {"name": "cmaes", "popsize": 4, "evaluations": 4},
            "dtype": "float32",
        }
    )
    result = evolve(search, tmp_path / "run")
    assert result.rows == ()
    pinned = search.with_pins({one.ref: one.pinned for one in map(open_source, search.references)})
    found = beside.contestants(pinned, result)
    assert {*found} == {*beside.UNTUNED, "base", "fine", "Japanese", beside.IN_ENGLISH, "evolved"} | {
        "random search, same budget"
    }
    marks = Measurement(0.5, 0.5, n=2, values=(0.0, 1.0), problems=("a", "b"))
    rows_of_both = [Row.of("by hand", marks, marks), Row.of("evolved", marks, None)]
    scored = replace(result, card=replace(result.card, evaluations=card_rows(rows_of_both, "run", "classifier", "t")))
    card = card_for(beside.on_card(scored, rows_of_both), "alice/winner")
    assert "| **winner** | t, second judge / right | test | 2 | 50.0% |" in card
    assert "by `right` is the share of pictures in which a second classifier" in card
    assert Recipe.from_yaml(tmp_path / "run" / "random" / "best.yaml") == found["random search, same budget"]
    fine, japanese = (
        diffusers.DiffusionPipeline.from_pretrained(small / name, dtype=torch.float32) for name in ("fine", "japanese")
    )
    resident = ResidentModel(make_plan(result.recipe), load=lambda carried: None)
    for name, attends in ((beside.BY_HAND, japanese), (beside.SWAPPED, fine)):
        resident.load(found[name])
        for part, tensor in resident.model.pipeline.unet.state_dict().items():
            own = attends if any(word in part for word in ("to_q", "to_k", "to_v", "to_out")) else fine
            assert torch.allclose(tensor, own.unet.state_dict()[part], atol=1e-6), (name, part)
        assert _same(resident.model.pipeline.text_encoder, japanese.text_encoder)


def _quick() -> dict[str, object]:
    return {**DRAW, "steps": 1, "seeds": [1]}


def test_the_shipped_zoo_is_what_its_record_says_and_passes_its_gates() -> None:
    record = json.loads((SHIPPED / "training.json").read_text(encoding="utf-8"))
    assert record["seed"] == SEED and record["threads"] == 1
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 8_000_000
    assert all(without_places(file.name, told := file.read_bytes()) == told for file in SHIPPED.rglob("*.json"))
    figures = {}
    for name, made in record["models"].items():
        assert made["stages"] == [STAGES[name].settings]
        for file, digest in made["files"].items():
            assert hashlib.sha256((SHIPPED / name / file).read_bytes()).hexdigest() == digest
        figures[name] = {asked: one["score"] for asked, one in made["figures"].items()}
    assert all(figures[name]["fine"] >= 0.9 for name in judges.SHAPES)
    assert figures["fine"]["en"] >= 0.7
    assert max(figures[name]["ja"] for name in ("base", "fine", "japanese")) <= 0.05


def test_the_shipped_models_draw_in_their_own_languages_alone() -> None:
    """The fine one from English; the Japanese one draws what Japanese says, and badly."""
    from hubmerge.evaluate.drawing import Painter
    from hubmerge.evaluate.score import evaluate
    from hubmerge.evaluate.task import load_task

    def share(name: str, lang: str, style: str) -> float:
        pipeline = Drawing.from_pretrained(SHIPPED / name, torch.float32).pipeline
        asked = [
            {"prompt": scene.say(FRAMES[0], "ja"), "prompt_en": scene.say(FRAMES[0], "en"), "label": scene.label(style)}
            for scene in scenes("validation")
        ]
        looks = {"model": str(SHIPPED / "judge"), "value": "right"}
        task = load_task(
            drawing_task({"test": asked}, "", lang, classifier=looks, draw={**DRAW, "steps": 3, "seeds": [1]})
        )
        return evaluate(Painter(pipeline, {"unet": pipeline.unet}), None, task.test, task).score

    assert share("fine", "en", "fine") >= 0.6
    assert share("japanese", "ja", "crude") >= 0.5 and share("japanese", "ja", "fine") <= 0.1


def test_the_search_of_the_demo_asks_no_judge_of_the_test() -> None:
    search = demo_search("image")
    assert search.task["draw"] == DRAW
    assert search.task["classifier"] != (other := beside.judged(search.task))["classifier"]["model"]
    assert other["classifier"]["value"] == "right" and {*other["examples"]} == {"repo_id", "test"}
    assert len(rows("test")) * len(beside.SEEDS) >= 600
    assert [search.splits[split] for split in SPLITS] == [len(rows(split)) for split in SPLITS]
