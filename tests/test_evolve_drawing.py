"""Searches whose candidates draw: what is scored is what is written, by models and functions that look at pictures."""

import io
import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from PIL import Image
from streamtools import weights

from hubmerge.errors import HubmergeError, SourceError
from hubmerge.evaluate.drawing import Draw, Painter, keep_in, seed_of
from hubmerge.evaluate.examples import Example
from hubmerge.evaluate.pipelines import load_painter
from hubmerge.evaluate.score import Scores, evaluate
from hubmerge.evaluate.task import load_task
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.records.journal import read_evaluations
from hubmerge.evolve.result import EvolveResult
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.evolve.workers.gallery import Gallery, sheet, strips
from hubmerge.evolve.workers.resident import ResidentModel
from hubmerge.hub.source import open_source
from hubmerge.jobs.asked import extras_of, require_task_on_hub
from hubmerge.publish import push_result
from hubmerge.recipe import Recipe
from hubmerge.stream.executor import merge
from hubmerge.stream.plan import make_plan
from space.views.search import SHOWN_STRIPS
from space.views.search import drawn as drawn_by

diffusers = pytest.importorskip("diffusers")

from pipelines import PIPELINES, save, save_lookers  # noqa: E402

HOW = Draw(steps=2, seeds=(1, 2), guidance=1.5, height=16, width=16)
EXAMPLES = [Example(prompt, "dark") for prompt in ("w1 w2", "w3", "w4 w5 w6")]
LABELS = ("dark", "bright")
FUNCTION = """
import numpy

def grade(pictures, examples):
    assert all(example.prompt and example.answer == "dark" for example in examples)
    return [1 - float(numpy.asarray(picture).mean()) / 255 for picture in pictures]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two pipelines of each kind, a classifier, a CLIP model, and a function that looks at pictures."""
    root = tmp_path_factory.mktemp("drawing")
    for kind in PIPELINES:
        for seed, name in enumerate("ab", 1):
            save(kind, root / f"{kind}-{name}", seed)
    (root / "score.py").write_text(FUNCTION)
    save_lookers(root, LABELS)
    return root


def drawn(painter: Painter) -> np.ndarray:
    return np.stack([np.asarray(picture) for _, _, picture in painter.draw(EXAMPLES, HOW, 4)]).astype(int)


def by_diffusers(folder: Path) -> np.ndarray:
    """The same by plain diffusers, one at a time."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    asked = [(one, seed) for one, seed, _ in _NOTHING.draw(EXAMPLES, HOW, 1)]
    found = [
        pipeline(one.prompt, generator=torch.Generator().manual_seed(seed), **HOW.said).images[0] for one, seed in asked
    ]
    return np.stack([np.asarray(picture) for picture in found]).astype(int)


class _Blank:
    """A pipeline that draws nothing, to be told the seeds."""

    def set_progress_bar_config(self, **how: Any) -> None: ...
    def encode_prompt(self) -> None: ...
    def __call__(self, prompt: list[str], **how: Any) -> Any:
        return type("Made", (), {"images": prompt})


_NOTHING = Painter(_Blank(), {})


def recipe(root: Path, kind: str, part: str, weight: object) -> Recipe:
    a, b = (f"{root}/{kind}-{name}#{part}" for name in "ab")
    models = [{"model": a, "parameters": {"weight": 0.4}}, {"model": b, "parameters": {"weight": weight}}]
    return Recipe.from_dict({"merge_method": "linear", "models": models, "parameters": {"normalize": False}})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of a scheduler of diffusers
@pytest.mark.parametrize("kind", PIPELINES)
def test_a_candidate_in_memory_is_its_export(kind: str, made: Path, tmp_path: Path) -> None:
    """One after another in place, texts encoded once; then a text encoder, for which they are encoded anew."""
    part = "unet" if (made / f"{kind}-a" / "unet").is_dir() else "transformer"
    first, second = (
        recipe(made, kind, part, weight) for weight in (0.3, [{"filter": "attention", "value": 0.9}, {"value": 2.0}])
    )
    resident = ResidentModel(make_plan(first), device="cpu", load=lambda carried: None)
    painter, found = resident.model, []
    for one in (first, second):
        resident.load(one)
        found.append(drawn(resident.model))
        assert resident.model is painter and resident.is_written_in_place
    merge(second, tmp_path / "out")
    state = weights(tmp_path / "out" / part)
    assert all(torch.equal(painter.weights[f"{part}/{name}"], tensor) for name, tensor in state.items())
    assert abs(found[-1] - by_diffusers(tmp_path / "out")).max() <= 1
    assert abs(found[0] - found[1]).max() > 3
    assert len(painter.pipeline.encode_prompt.kept) == 2, "one for each batch, whatever draws"
    if kind != "sd15":
        return
    resident.load(recipe(made, kind, "text_encoder", 0.7))
    others = drawn(resident.model)
    resident.load(again := recipe(made, kind, "text_encoder", 3.0))
    merge(again, tmp_path / "texts")
    assert abs((last := drawn(resident.model)) - by_diffusers(tmp_path / "texts")).max() <= 1
    assert (last != others).any()


def document(root: Path, **changes: Any) -> dict[str, Any]:
    rows = [{"question": f"w{n} w{n + 1}", "answer": "dark"} for n in range(9)]
    examples = {"search": rows[:3], "validation": rows[3:5], "test": rows[5:]}
    return {
        "models": [f"{root}/sd15-a#unet", f"{root}/sd15-b#unet"],
        "merge_method": "linear",
        "parameters": {"normalize": False},
        "genome": {"granularity": ["group", "side_group"], "genes": {"weight": [0, 1]}},
        "task": {
            "name": "dark",
            "examples": examples,
            "python": f"{root}/score.py:grade",
            "draw": {"steps": 2, "seeds": [1, 2], "height": 16, "width": 16},
        },
        "searcher": {"name": "random", "popsize": 4, "evaluations": 8},
        **changes,
    }


def _shows_its_best(run: Path) -> None:
    """Each strip is better than the one before, and the last is the best candidate's: a picture a prompt."""
    scores = [score for score, _ in strips(run / "drawn")]
    best = max(evaluation.score for evaluation in read_evaluations(run / "journal.jsonl"))
    assert scores == sorted(set(scores)) and scores[-1] == pytest.approx(best, abs=1e-4)
    shown = drawn_by(run / "drawn")
    assert [score for score, _ in shown] == [f"{100 * score:.1f}%" for score in reversed(scores)][:SHOWN_STRIPS]
    with Image.open(strips(run / "drawn")[-1][1]) as strip:
        assert strip.size == (3 * 16, 16)
    painter = Painter(_Blank(), {})
    again = Gallery(run / "drawn")
    with again.watching(painter) as kept:
        list(painter.draw(EXAMPLES, HOW, 1))
    assert list(kept) == [one.prompt for one in EXAMPLES] and painter.keep is None
    again.show(Scores((0.0,) * 3, (0.0,) * 3, (1.0,) * 3, ("",) * 3), 3, kept)
    assert strips(run / "drawn")[-1][0] == scores[-1], "what was found before counts"


def with_task(root: Path, **changes: Any) -> dict[str, Any]:
    given = document(root)
    task = {**given["task"], **changes}
    return {**given, "task": {key: value for key, value in task.items() if value is not None}}


def test_a_search_ends_in_a_pipeline_with_the_scores_of_its_table(hub: Any, made: Path, tmp_path: Path) -> None:
    search = Search.from_dict(document(made))
    outlook = plan_search(search)
    outlook.require()
    assert [phase.genes for phase in outlook.phases] == [(4, 12)]  # attention and rest; three sides of two models
    with pytest.raises(HubmergeError, match="a pipeline is not read from disk as it draws"):
        plan_search(search, memory=1_000_000).require()
    result = evolve(search, tmp_path / "run")
    _shows_its_best(tmp_path / "run")
    names = [row.model for row in result.rows]
    assert names[:3] == ["local folder sd15-a#unet", "local folder sd15-b#unet", "average"] and len(names) == 4
    lines = read_evaluations(tmp_path / "run" / "journal.jsonl")
    assert len({line.score for line in lines}) > 4 and all(line.n == 3 for line in lines)
    task = load_task(search.task)
    for row, folder in ((result.rows[-1], tmp_path / "run" / "model"), (result.rows[0], made / "sd15-a")):
        scores = evaluate(load_painter(open_source(folder), task.draw), None, task.test, task)
        assert scores.score == pytest.approx(row.value, abs=1e-3)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "run" / "model")
    assert isinstance(loaded, diffusers.StableDiffusionPipeline)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "StableDiffusionPipeline" in card and "Tokens written" not in card, "it draws"
    again = evolve(search, tmp_path / "run", resume=True)
    assert again.rows == result.rows and again.card.pictures == result.card.pictures
    _shows_what_each_drew(result, made, tmp_path)


def _shows_what_each_drew(result: EvolveResult, made: Path, root: Path) -> None:
    """The card has a picture of pictures, the winner's above the models' that it was made of, and it is pushed."""
    pictures = result.card.pictures
    assert pictures is not None and [*pictures.models] == [f"local folder sd15-{name}#unet" for name in "ab"]
    task = load_task(Search.from_dict(document(made)).task)
    assert sorted(pictures.prompts) == sorted(one.prompt for one in task.test)
    asked = [next(one for one in task.test if one.prompt == prompt) for prompt in pictures.prompts]
    prompt = f"image = pipeline({json.dumps(pictures.prompts[0])})"
    told = (result.folder / "README.md").read_text()
    assert f"“{pictures.prompts[0]}”, “" in told and prompt in told
    pushed = push_result(result, "alice/draws-evolved", private=False, names_private=True)
    there = Path(HfApi().snapshot_download(pushed.repo_id, revision=pushed.commit, local_dir=root / "there"))
    with Image.open(there / "pictures.jpg") as opened:
        assert opened.size == (4 * 128, 3 * 128) and not opened.getexif() and "comment" not in opened.info
        shown = np.asarray(opened).astype(int)
    for row, folder in enumerate((there, made / "sd15-a", made / "sd15-b")):
        drawn = load_painter(open_source(folder), task.draw).draw(asked, replace(task.draw, seeds=(1,)), 4)
        whole = np.concatenate([np.asarray(one.resize((128, 128), Image.Resampling.NEAREST)) for *_, one in drawn], 1)
        assert abs(shown[row * 128 : (row + 1) * 128] - whole.astype(int)).mean() < 16  # JPEG's
    card = (there / "README.md").read_text()
    assert "(pictures.jpg)" in card and "From above: **this model**, then local folder sd15-a" in card
    assert prompt not in card and not any(f"“{one}”" in card for one in pictures.prompts), "what is private stays so"
    for file in (*there.glob("*.md"), *there.glob("*.json"), *there.glob("*.yaml"), there / "pictures.jpg"):
        assert str(made).encode() not in file.read_bytes()


def test_a_picture_of_pictures_is_small_whatever_they_are() -> None:
    noise = np.random.default_rng(1)
    large = [[Image.fromarray(noise.integers(0, 256, (512, 768, 3), np.uint8)) for _ in range(4)] for _ in range(6)]
    assert 50_000 < len(sheet(large)) <= 500_000
    with Image.open(io.BytesIO(sheet([[Image.new("RGB", (40, 24), "red")], [Image.new("RGB", (512, 512))]]))) as small:
        assert small.size == (256, 24 * 3 + 256) and small.getpixel((60, 36))[0] > 240


def test_models_that_look(made: Path, tmp_path: Path) -> None:
    """What a classifier and a CLIP model give is what transformers gives; a search pins them, and goes on with them."""
    from transformers import AutoModel, AutoModelForImageClassification, AutoProcessor

    painter = load_painter(open_source(made / "sd15-a"), HOW)
    pictures = [picture for _, _, picture in painter.draw(EXAMPLES, HOW, 4)]
    rows = [{"question": one.prompt, "answer": "dark"} for one in EXAMPLES]
    base = {
        "examples": {"test": rows},
        "draw": {"steps": 2, "seeds": [1, 2], "guidance": 1.5, "height": 16, "width": 16},
    }
    with torch.inference_mode():
        processor, model = (
            kind.from_pretrained(made / "classifier") for kind in (AutoProcessor, AutoModelForImageClassification)
        )
        likely = model(**processor(images=pictures, return_tensors="pt")).logits.softmax(-1)[:, 0]
        processor, model = (kind.from_pretrained(made / "clip") for kind in (AutoProcessor, AutoModel))
        seen = model(**processor(images=pictures, text=["w9"] * 6, padding=True, return_tensors="pt"))
    cosine = (seen.image_embeds * seen.text_embeds).sum(-1).clamp(0, 1)
    for more, each in (
        ({"classifier": str(made / "classifier")}, likely),
        ({"classifier": {"model": str(made / "classifier"), "value": "right"}}, (likely > 0.5).float()),
        ({"clip": str(made / "clip"), "answer": "w9"}, cosine),
    ):
        task = load_task({**base, **more})
        scores = evaluate(painter, None, task.test, task, batch_size=4)
        by_prompt = dict(zip((one.prompt for one in EXAMPLES), each.view(3, 2).mean(1).tolist(), strict=True))
        assert scores.values == pytest.approx([by_prompt[one.prompt] for one in task.test], abs=1e-5)
    assert load_task({**base, "clip": str(made / "clip"), "prompt": "a {question}"}).test[0].answer.startswith("a w")
    (tmp_path / "s.yaml").write_text(json.dumps(with_task(made, python=None, classifier="./looks")))
    copytree(made / "classifier", tmp_path / "looks")
    search = Search.from_yaml(tmp_path / "s.yaml")
    small = replace(search, granularity=("model",), searcher=replace(search.searcher, popsize=4, evaluations=4))
    result = evolve(small, tmp_path / "run")
    saved = (tmp_path / "run" / "search.yaml").read_text()
    assert "model: ./looks@sha256:" in saved and str(tmp_path) not in saved
    more = replace(small, baselines=())
    assert len(evolve(more, tmp_path / "run", resume=True).rows) < len(result.rows)


def test_pictures_are_kept_as_they_were_drawn(made: Path, tmp_path: Path) -> None:
    painter = load_painter(open_source(made / "sd15-a"), HOW)
    painter.keep = keep_in(tmp_path / "kept")
    expected = drawn(painter)
    found = sorted((tmp_path / "kept").iterdir())
    assert [path.name[:9] for path in found] == [f"00{number}-seed-" for number in (1, 1, 2, 2, 3, 3)]
    asked = [seed_of(one.prompt, seed) for one in EXAMPLES for seed in HOW.seeds]
    by_seed = {int(path.stem.rpartition("-")[2]): np.asarray(Image.open(path)).astype(int) for path in found}
    assert all((by_seed[seed] == picture).all() for seed, picture in zip(asked, expected, strict=True))


def test_a_job_brings_diffusers_and_reads_no_folder_of_here() -> None:
    task = {"examples": {"search": []}, "draw": {}, "clip": {"model": "org/clip"}}
    require_task_on_hub(task)
    assert extras_of(task).endswith(",diffusers") and "diffusers" not in extras_of({"examples": {}})
    with pytest.raises(HubmergeError, match=r"The task's clip\.model is of this machine"):
        require_task_on_hub({**task, "clip": {"model": "/looks"}})


def test_a_part_alone_draws_in_a_pipeline(made: Path, tmp_path: Path) -> None:
    models = [f"{made}/sd15-a#unet", f"{made}/sd15-b/unet"]
    search = Search.from_dict(
        document(made, models=models, searcher={"name": "random", "popsize": 4, "evaluations": 4})
    )
    result = evolve(replace(search, granularity=("model",)), tmp_path / "run")
    assert [row.model for row in result.rows[:2]] == [
        "local folder sd15-a#unet",
        "local folder unet in local folder sd15-a#unet",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data_flow": {}, "merge_method": None, "genome": None, "parameters": None}, "leave out `data_flow`"),
        ({"models": ["sd15-a", "sd15-b"]}, "is a whole pipeline, of which a search varies one part"),
        (
            {"models": ["sd15-a/unet", "sd15-b/unet"]},
            "a candidate is a UNet2DConditionModel, which makes none of words",
        ),
        ({"models": ["sd15-a#unet", "sdxl-a#unet"]}, "sdxl-a"),
    ],
)
def test_what_evolve_cannot_run_is_refused_by_plan(changes: dict[str, Any], told: str, made: Path) -> None:
    if "models" in changes:
        changes = {**changes, "models": [f"{made}/{name}" for name in changes["models"]]}
    given = {key: value for key, value in document(made, **changes).items() if value is not None}
    with pytest.raises(HubmergeError, match=told):
        plan_search(Search.from_dict(given)).require()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"draw": None, "python": None, "classifier": "classifier"}, "say how they are drawn"),
        ({"draw": {"step": 3}}, "did you mean 'steps'"),
        ({"chat_template": False}, "who draws has no chat template"),
        ({"chat_template": "no"}, "must be true or false"),
        ({"draw": {"steps": 0}}, "draw.steps must be a whole number of at least 1"),
        ({"draw": {"seeds": []}}, "needs one seed or more"),
        ({"draw": {"seeds": [1, 1]}}, "each once"),
        ({"draw": {"height": 20}}, "multiple of 8 pixels, got 20"),
        ({"draw": {"guidance": "much"}}, "draw.guidance must be"),
        ({"python": None, "metric": "exact_match"}, "does not look at pictures"),
        ({"python": None, "classifier": "clip"}, "gives pictures no labels"),
        ({"python": None, "clip": "classifier"}, "does not compare pictures with words"),
        ({"python": None, "classifier": {"model": "classifier", "value": "rigth"}}, "did you mean"),
        ({"python": None, "classifier": "classifier", "answer": "{question}"}, "which is no label of the classifier"),
        ({"python": None, "classifier": {}}, "must name a model"),
        ({"language": "ja"}, "leave out `language`"),
        ({"system": "Draw well."}, "no `system` message"),
    ],
)
def test_tasks_that_cannot_be_asked(changes: dict[str, Any], told: str, made: Path) -> None:
    for key in ("classifier", "clip"):
        if isinstance(name := changes.get(key), str):
            changes = {**changes, key: str(made / name)}
        elif isinstance(name, dict) and "model" in name:
            changes = {**changes, key: {**name, "model": str(made / name["model"])}}
    with pytest.raises(HubmergeError, match=told):
        load_task(Search.from_dict(with_task(made, **changes)).task)


def test_words_and_pictures_are_not_mixed(made: Path) -> None:
    words = with_task(made, python=None, draw=None, metric="exact_match")
    with pytest.raises(SourceError, match="answers nothing in words"):
        plan_search(Search.from_dict(words))
