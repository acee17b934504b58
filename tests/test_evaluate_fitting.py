"""Models that see whose files do not fit together: a sentence, before weights are read where the files tell it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from vlms import add_processor, make_plain, make_whole

from hubmerge.errors import HubmergeError, SourceError, TaskError
from hubmerge.evaluate import models
from hubmerge.evaluate.examples import Example
from hubmerge.evaluate.models import load_model, load_processor
from hubmerge.evaluate.pictures import Picture, Place
from hubmerge.evaluate.seeing import answers, stream_answer
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.hub.source import open_source
from hubmerge.stream.carried import Carried

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # a processor's


@pytest.fixture
def sees(tmp_path: Path) -> Path:
    return add_processor("llava", make_whole("llava", tmp_path / "sees", 1))


def edit(folder: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / file).read_text())
    change(document)
    (folder / file).write_text(json.dumps(document))


def task(folder: Path) -> dict[str, Any]:
    Image.new("RGB", (20, 30), "red").save(folder / "x.png")
    row = {"question": "w1 w2", "answer": "w3", "photo": "x.png"}
    examples = {"folder": str(folder), "search": [row], "test": [{**row, "question": "w4"}]}
    return {"examples": examples, "image": "photo", "metric": "exact_match", "max_new_tokens": 2}


def search(sees: Path, folder: Path) -> Search:
    return Search.from_dict(
        {
            "models": [f"{sees}#language_model", str(make_plain("llava", folder / "plain", 3))],
            "merge_method": "linear",
            "genome": {"granularity": "layer", "genes": {"weight": [0, 1]}},
            "task": task(folder),
            "searcher": {"name": "random", "popsize": 4, "evaluations": 4},
        }
    )


def _size(document: dict[str, Any]) -> None:
    document["image_processor"].update(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("processor_config.json", lambda d: d.update(patch_size=4), "patch_size of its processor is 4, .* tower 8"),
        ("processor_config.json", _size, "makes pictures of 32 x 32 pixels, and its tower takes 16 x 16"),
        ("processor_config.json", lambda d: d.update(vision_feature_select_strategy="full"), "is full, .* default"),
        ("config.json", lambda d: d.update(image_token_index=99_999), r"\(<image>\) marks a picture, and 99999 in"),
        ("processor_config.json", lambda d: d.update(image_token="w5"), r"token 9 of its .* \(w5\) marks a picture"),
        ("config.json", lambda d: d.update(vision_feature_layer=-99), "reads layer -99 of its tower .*, which has 2"),
        ("config.json", lambda d: d.update(vision_feature_layer=[-1, 7]), "reads layer 7 of its tower"),
    ],
    ids=["patch", "size", "strategy", "token", "mark", "layer", "layers"],
)
def test_what_the_files_tell_is_told_before_weights_are_read(
    file: str, change: Callable[[dict[str, Any]], object], says: str, sees: Path, tmp_path: Path
) -> None:
    load_processor(Carried(open_source(str(sees))))
    edit(sees, file, change)
    told = f"sees cannot be shown pictures: .*{says}.*; take both from the repository"
    with pytest.raises(SourceError, match=told):
        load_processor(Carried(open_source(str(sees))))
    if "patch_size" in says:
        found = [one.message for one in plan_search(search(sees, tmp_path)).findings if one.level == "error"]
        assert any("sees cannot be shown pictures" in one for one in found), found


def test_what_the_tower_does_not_take_is_one_sentence(sees: Path, tmp_path: Path, call) -> None:
    """Told by no file: the processor counts one token less."""
    (tmp_path / "task.yaml").write_text(json.dumps(task(tmp_path)))
    question = Example("w1 w2", "", image=Picture.of((tmp_path / "x.png").read_bytes(), Place(tmp_path / "x.png")))
    edit(sees, "processor_config.json", lambda d: d.update(num_additional_image_tokens=0))
    model, _ = load_model(str(sees), device="cpu")
    processor = load_processor(Carried(open_source(str(sees))))
    for ask in (answers(model, processor, [question], max_new_tokens=2), stream_answer(model, processor, question)):
        with pytest.raises(SourceError, match="sees cannot be shown pictures, for its tower does not take") as told:
            list(ask)
        assert "\n" not in str(told.value) and "tokens" in str(told.value)
    list(answers(model, processor, [Example("w1", "")], max_new_tokens=2))
    with pytest.raises(HubmergeError, match="its tower does not take"):
        evolve(search(sees, tmp_path), tmp_path / "run")
    done = call("eval", sees, "--task", tmp_path / "task.yaml")
    assert done.returncode == 2 and "its tower does not take" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")  # numpy's
@pytest.mark.parametrize("broken", ["tower", "processor"])
def test_what_is_no_number_is_told(broken: str, sees: Path, tmp_path: Path) -> None:
    """NaN in a tower, and a picture of NaN: the model would say nothing at all."""
    task(tmp_path)
    question = Example("w1", "", image=Picture.of((tmp_path / "x.png").read_bytes(), Place(tmp_path / "x.png")))
    if broken == "processor":
        edit(sees, "processor_config.json", lambda d: d["image_processor"].update(image_std=[0, 0, 0]))
    model, _ = load_model(str(sees), device="cpu")
    if broken == "tower":
        next(model.model.vision_tower.parameters()).data.fill_(float("nan"))
    processor = load_processor(Carried(open_source(str(sees))))
    for ask in (answers(model, processor, [question], max_new_tokens=2), stream_answer(model, processor, question)):
        with pytest.raises(SourceError, match=r"makes no numbers \(NaN\) of a picture"):
            list(ask)


def test_a_mark_in_a_question_is_refused(sees: Path) -> None:
    model, _ = load_model(str(sees), device="cpu")
    processor = load_processor(Carried(open_source(str(sees))))
    for where, name in (("row 3 of x.jsonl", "row 3 of x.jsonl"), ("", "The question")):
        with pytest.raises(TaskError, match=f"^{name}: <image> in a question is how .*; take it out"):
            list(answers(model, processor, [Example("w1 <image> w2", "", where=where)], max_new_tokens=2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(processor_class="EvilProcessor"), "names 'EvilProcessor' as processor_class, which it"),
        (
            lambda d: d["image_processor"].update(image_processor_type="NoSuch"),
            "names 'NoSuch' as image_processor_type",
        ),
        (
            lambda d: d.update(processor_class="EvilProcessor", auto_map={"AutoProcessor": "evil.EvilProcessor"}),
            "names 'EvilProcessor' as processor_class, which is code of its own, which is never run",
        ),
    ],
    ids=["processor", "image processor", "remote"],
)
def test_a_processor_that_nobody_has_is_named(
    change: Callable[[dict[str, Any]], object], says: str, sees: Path
) -> None:
    edit(sees, "processor_config.json", change)
    with pytest.raises(
        SourceError, match=f"cannot load the processor of .*sees: its processor_config.json {says}"
    ) as told:
        load_processor(Carried(open_source(str(sees))))
    assert "hubmerge-processor" not in str(told.value) and "torchvision" not in str(told.value)


def test_memory_that_is_short_is_no_fault_of_the_files(sees: Path) -> None:
    from hubmerge.evaluate.fitting import shape_errors

    with pytest.raises(RuntimeError, match="allocate"), shape_errors("x"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def test_eval_reads_the_processor_before_the_weights(sees: Path, tmp_path: Path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from hubmerge.cli.searching import app

    (tmp_path / "task.yaml").write_text(json.dumps(task(tmp_path)))
    edit(sees, "processor_config.json", lambda d: d.update(patch_size=4))
    monkeypatch.setattr(models, "load_model", lambda *a, **k: pytest.fail("the weights were read"))
    done = CliRunner().invoke(app, ["eval", str(sees), "--task", str(tmp_path / "task.yaml")])
    assert isinstance(done.exception, SourceError) or "patch_size" in done.output
