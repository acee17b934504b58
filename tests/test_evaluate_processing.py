"""What processors make of pictures: bounded before it is made, and the same one by one as all at once."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from vlms import add_processor, loaded, make_whole

from hubmerge.errors import ResourceError, SourceError, TaskError
from hubmerge.evaluate import placement
from hubmerge.evaluate.examples import Example
from hubmerge.evaluate.models import load_model, load_processor
from hubmerge.evaluate.pictures import Picture, Place
from hubmerge.evaluate.processing import pixels_made
from hubmerge.evaluate.seeing import answers, lengths, processed, question_texts, stream_answer
from hubmerge.hub.source import open_source
from hubmerge.stream.carried import Carried

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # a processor's


def shown(folder: Path, *sizes: tuple[int, int]) -> list[Example]:
    """Questions of different lengths about pictures of these sizes."""
    found = []
    for number, size in enumerate(sizes):
        file, content = folder / f"{number}.png", io.BytesIO()
        Image.effect_mandelbrot(size, (-2, -1, 1, 1 + number / 9), 9).save(content, "PNG")
        file.write_bytes(content.getvalue())
        words = " ".join(f"w{at}" for at in range(3 * number + 1))
        found.append(Example(words, "w3", where=f"row {number}", image=Picture.of(content.getvalue(), Place(file))))
    return found


def processor_of(folder: Path) -> Any:
    return load_processor(Carried(open_source(str(folder))))


@pytest.mark.parametrize("family", ["llava", "smolvlm", "tiles", "paligemma"])
def test_one_by_one_is_as_all_at_once(family: str, tmp_path: Path, monkeypatch) -> None:
    kind = "smolvlm" if family == "tiles" else family
    processor = processor_of(add_processor(kind, make_whole(kind, tmp_path / "sees", 1)))
    if family == "tiles":  # of which pictures have different numbers
        processor.image_processor.do_image_splitting = True
        processor.image_processor.size = {"longest_edge": 48}
    examples = shown(tmp_path, (20, 30), (64, 16), (16, 16))
    texts = question_texts(processor, examples, None)
    processor.tokenizer.padding_side = "left"
    images = [[one.image.load()] for one in examples if one.image]
    plain = processor(text=texts, images=images, return_tensors="pt", padding=True, add_special_tokens=False)
    open_now, most = [], []
    load = Picture.load
    monkeypatch.setattr(Picture, "load", lambda self: open_now.append(self) or load(self))
    whole = processor.__class__.__call__
    counted = lambda self, **given: most.append(len(given["images"])) or whole(self, **given)  # noqa: E731
    monkeypatch.setattr(processor.__class__, "__call__", counted)
    made = processed(processor, examples, texts)
    assert most == [1, 1, 1] and len(open_now) == 3
    assert set(made) == set(plain) - {"labels", "num_crops", "offset_mapping"}
    for key, value in made.items():
        assert torch.equal(value, plain[key]) if isinstance(value, torch.Tensor) else value == plain[key], key
    assert family != "tiles" or made["pixel_values"].shape[1] > 1


def own(**settings: Any) -> Any:
    return SimpleNamespace(image_processor=SimpleNamespace(**settings))


def test_what_a_processor_makes_is_told_from_its_settings() -> None:
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    clip = transformers.CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    assert pixels_made(clip, 100, 50) == 672 * 336 and pixels_made(clip, 400_000, 1) > 10**10
    assert pixels_made(own(size={"shortest_edge": 10, "longest_edge": 30}), 90, 9) == 30 * 3
    assert pixels_made(own(size={"longest_edge": 30}), 60, 30) == 30 * 15
    assert pixels_made(own(size={"max_height": 10, "max_width": 20}), 400, 100) == 20 * 5
    assert pixels_made(own(size=9), 9, 90) == 9 * 90
    assert pixels_made(own(size={"height": 9, "width": 8}, do_resize=False), 9, 90) == 0
    assert pixels_made(own(image_grid_pinpoints=[[7, 8], [70, 80]]), 9, 90) == 70 * 80
    assert pixels_made(own(size={"shortest_edge": 9, "width": "wide", "height": True}), 9, 9) == 81
    assert pixels_made(own(size={"min_pixels": 100, "max_pixels": 400}), 10, 90) == 400
    counts = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 12_845_056})
    assert pixels_made(counts, 1, 1) == 3136 and pixels_made(counts, 5_000, 5_000) == 12_845_056


@pytest.fixture
def sees(tmp_path: Path) -> Path:
    return add_processor("llava", make_whole("llava", tmp_path / "sees", 1))


@pytest.mark.parametrize("side", [12_000, 100_000, 10**30])
def test_a_processor_that_asks_for_far_too_much_is_refused(side: int, sees: Path) -> None:
    """Whether it is cut to the tower's size afterwards or not."""
    file = sees / "processor_config.json"
    document = json.loads(file.read_text())
    document["image_processor"]["size"] = {"shortest_edge": side}
    file.write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"makes [0-9,]+ x [0-9,]+ pixels of every picture, .* looks at 16 x 16"):
        processor_of(sees)


def test_a_tower_that_is_none_of_the_files_is_refused_before_it_is_made(sees: Path) -> None:
    document = json.loads((sees / "config.json").read_text())
    document["vision_config"]["image_size"] = 10**6
    (sees / "config.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"is \[5, 16\], and by its own config.json \[156250[0-9]+, 16\]"):
        load_model(str(sees), device="cpu")


def test_a_picture_that_takes_too_much_is_one_sentence(sees: Path, tmp_path: Path, monkeypatch) -> None:
    model, processor = loaded("llava", sees), processor_of(sees)
    small, large = shown(tmp_path, (20, 30), (900, 800))
    how = {"max_new_tokens": 2, "memory": placement.held(model) + 8_000_000}
    assert len(list(answers(model, processor, [small], **how))) == 1
    with pytest.raises(ResourceError, match=r"1\.png of 900 x 800 pixels takes 11.* MB .* the limit leaves .* allow"):
        list(answers(model, processor, [small, large], **how))
    with pytest.raises(ResourceError, match=r"1\.png of 900 x 800 pixels takes 11.* MB"):
        list(stream_answer(model, processor, large, **how))
    [narrow] = shown(tmp_path, (200, 1))
    assert lengths(processor, [narrow], None)
    monkeypatch.setattr("hubmerge.evaluate.processing.MOST_PIXELS", 16 * 16 * 199)
    with pytest.raises(TaskError, match=r"is 200 x 1 pixels, and the model's processor would make 51,200 of them"):
        lengths(processor, [narrow], None)
