"""Tasks with pictures: where the pictures come from, how models are asked, and what is refused."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor
from vlms import add_processor, loaded, make_plain, make_whole

from hubmerge.errors import HubmergeError, TaskError
from hubmerge.evaluate import pictures, placement, seeing
from hubmerge.evaluate.demand import Demand
from hubmerge.evaluate.examples import Example
from hubmerge.evaluate.generation import prompt_texts
from hubmerge.evaluate.models import load_model, load_processor
from hubmerge.evaluate.pictures import Picture
from hubmerge.evaluate.score import evaluate
from hubmerge.evaluate.seeing import Seen, answers, stream_answer
from hubmerge.evaluate.task import load_task
from hubmerge.evaluate.texts import chat_texts
from hubmerge.evolve.plan import plan_search
from hubmerge.evolve.run import evolve
from hubmerge.evolve.search import Search
from hubmerge.hub.source import open_source
from hubmerge.reference import ModelRef
from hubmerge.stream.carried import Carried

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # a processor's
CPU = torch.device("cpu")
COLOURS = ["red", "green", "blue", "white", "black", "yellow", "purple", "orange"]


def picture(colour: str, kind: str = "PNG", size: tuple[int, int] = (20, 30)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, kind)
    return content.getvalue()


def publish(folder: Path, repo_id: str) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo(repo_id, repo_type="dataset", exist_ok=True)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder, repo_type="dataset")


def rows(count: int = 8, **more: Any) -> list[dict[str, Any]]:
    return [{"question": "w1 w2", "answer": f"w{n + 3}", "photo": f"photos/{n}.png", **more} for n in range(count)]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder with questions in JSON lines and the pictures beside them."""
    folder = tmp_path / "album"
    (folder / "data" / "photos").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        (folder / "data" / "photos" / f"{number}.png").write_bytes(picture(colour))
    (folder / "data" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return folder


def document(folder: object, file: str = "data/test.jsonl", **more: Any) -> dict[str, Any]:
    examples = {"folder": str(folder), "test": file}
    return {"examples": examples, "image": "photo", "metric": "exact_match", "max_new_tokens": 4, **more}


def parquet(file: Path, table: dict[str, list[Any]], groups: int = 3) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table(table), file, row_group_size=groups)
    return file


def test_one_picture_is_one_wherever_it_lies(album: Path, hub, tmp_path: Path) -> None:
    """Files beside JSON lines, cells of Parquet as the Hub's Image feature writes them, a dataset by its ID: equal."""
    beside = load_task(document(album))
    assert beside.sees and {example.answer for example in beside.test} == {f"w{n + 3}" for n in range(8)}
    cells = [{"bytes": picture(colour), "path": f"{n}.png"} for n, colour in enumerate(COLOURS)]
    table = {"question": ["w1 w2"] * 8, "answer": [f"w{n + 3}" for n in range(8)], "photo": cells}
    halves = [{name: values[at : at + 4] for name, values in table.items()} for at in (0, 4)]
    for number, half in enumerate(halves):
        parquet(tmp_path / "cells" / "data" / f"test-0000{number}-of-00002.parquet", half)
    stored = load_task(document(tmp_path / "cells", "data/test-*.parquet"))
    assert set(stored.test) == set(beside.test) and stored.problems("test") == beside.problems("test")
    publish(tmp_path / "cells", "alice/cells")
    examples = {"repo_id": "alice/cells", "test": "*test-*.parquet"}
    by_id = load_task({**document(album), "examples": examples})
    assert by_id.key != beside.key and set(by_id.test) == set(beside.test)
    for task in (beside, stored, by_id):
        found = {example.answer: example.image.load().getpixel((0, 0)) for example in task.test}
        assert found["w3"] == (255, 0, 0) and found["w5"] == (0, 0, 255)


def test_the_paper_s_benchmarks_are_known_by_name(hub, tmp_path: Path) -> None:
    """Their shapes: several questions about a picture in a list, and one a row."""
    cell = {"bytes": picture("red", "JPEG"), "path": None}
    other = {"bytes": picture("blue", "JPEG"), "path": None}
    asked = [{"qa_id": n, "question": f"何色ですか{n}", "answer": "赤い"} for n in range(2)]
    parquet(
        tmp_path / "vg" / "data" / "test-00000-of-00001-0a1b.parquet",
        {"image_id": [1, 2], "image": [cell, other], "qas": [asked, asked[:1]]},
    )
    table = {"image": [cell], "question": ["何色ですか"], "answer": ["赤い"], "page_url": ["x"]}
    parquet(tmp_path / "wild" / "data" / "test-00000-of-00001.parquet", table)
    for name, folder in (("JA-VG-VQA-500", "vg"), ("JA-VLM-Bench-In-the-Wild", "wild")):
        publish(tmp_path / folder, f"SakanaAI/{name}")
        task = load_task(name.lower())
        assert len(task.test) == (3 if folder == "vg" else 1) and not task.search
        assert task.language == "ja" and task.metric == "rouge_l" and all(example.image for example in task.test)
        assert task.source is not None and task.source.startswith(f"SakanaAI/{name}@")


def test_a_cell_is_read_without_those_beside_it(tmp_path: Path, monkeypatch) -> None:
    """A group of rows may be gigabytes, of a file that is small: the same pictures are packed into nothing."""
    import tracemalloc

    file = tmp_path / "same" / "test.parquet"
    cells = [{"bytes": picture(colour) + bytes(2**18), "path": None} for colour in COLOURS for _ in range(32)]
    questions = [f"w{number}" for number in range(256)]
    parquet(file, {"question": questions, "answer": ["w3"] * 256, "photo": cells}, groups=200)
    assert file.stat().st_size < 8 * 2**20 < 64 * 2**20 == sum(len(cell["bytes"]) for cell in cells) // 2**20 * 2**20
    monkeypatch.setattr(pictures, "_KEPT", 2**20)
    task = load_task(document(file.parent, file.name))
    by_row = sorted(task.test, key=lambda example: int(example.prompt[1:]))
    tracemalloc.start()
    for row in (250, 0, 199, 200, 3, 2, 1, 255):
        expected = cells[row]["bytes"]
        assert by_row[row].image.where.read() == expected, row
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    parquet(file, {"question": ["w1"], "answer": ["w3"], "photo": cells[:1]})
    pictures._sizes.cache_clear()
    pictures._cells.cache_clear()
    with pytest.raises(TaskError, match=r"cannot be read .*; fetch it again"):
        by_row[9].image.load()


def bomb(side: int) -> bytes:
    """A PNG that says it is so large, in a few bytes."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(b"\0" * 64)) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bomb(8_000), r"0\.png has 64,000,000 pixels; at most 50,000,000"),
        (bomb(60_000), r"0\.png has (too many|3,600,000,000) pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of PNG, JPEG, WEBP, GIF, BMP, or broken"),
        (picture("red", size=(4_020, 20)), r"0\.png is 4,020 x 20 pixels; its longer side may be at most 200 times"),
        (picture("red", "GIF", (1, 201)), r"0\.png is 1 x 201 pixels; its longer side may be at most 200 times"),
        (picture("red", "TIFF"), "none of PNG"),
        (picture("red", "PPM"), "none of PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of PNG"),
        (b"", "none of PNG"),
        (picture("red")[:20], "none of PNG|broken"),
        (b"\0" * 60, "none of PNG"),
    ],
    ids=["bomb", "large bomb", "wide", "high", "svg", "tiff", "ppm", "eps", "empty", "cut in the head", "zeros"],
)
def test_what_is_no_picture_is_refused_as_the_task_is_read(content: bytes, says: str, album: Path) -> None:
    (album / "data" / "photos" / "0.png").write_bytes(content)
    with pytest.raises(TaskError, match=says):
        load_task(document(album))


def test_what_is_missing_or_leads_away_is_refused(album: Path, tmp_path: Path, monkeypatch) -> None:
    def refused(says: str, error: type[HubmergeError] = TaskError, **more: Any) -> None:
        with pytest.raises(error, match=says):
            load_task({**document(album), **more})

    def written(**row: Any) -> dict[str, Any]:
        return {"examples": {"folder": str(album / "data"), "test": [{**rows(1)[0], **row}]}}

    refused("row 1 of the test rows: There is no example file .*9.png", **written(photo="photos/9.png"))
    for address in ("http://127.0.0.1:9/x.png", "file:///etc/hostname", "data:image/png;base64,aGVsbG8="):
        refused("row 1 .*field 'photo' holds an address, .*pictures are not fetched", **written(photo=address))
    refused(r"The example file .*photos is no file that can be read", **written(photo="photos"))
    refused("points outside its folder", **written(photo="../../secret.png"))
    refused("points outside its folder", **written(photo="/etc/hostname"))
    refused("row 1 of the test rows: no picture and no path to one is the field", **written(photo=None))
    refused("row 1 of the test rows: no picture and no path to one is the field 'photo'", **written(photo=3))
    refused("row 1 of data/test.jsonl: there is no field 'pic'", image="pic")
    refused("loglikelihood asks without pictures", metric="loglikelihood", choices=["{answer}", "no"])
    refused("No file .* is called like data/tset-", examples={"folder": str(album), "test": "data/tset-*.jsonl"})
    refused("holds no list of rows", examples={"folder": str(album), "test": "data/test.jsonl", "each": "question"})
    (album / "data" / "photos" / "1.png").unlink()
    (album / "data" / "photos" / "1.png").symlink_to("/etc/hostname")
    refused("is a link that leads out of its folder")
    monkeypatch.setattr(pictures, "MOST_BYTES", 50)
    refused("has [0-9]+ bytes; at most 50 are read", **written())


@pytest.fixture
def sees(tmp_path: Path) -> Path:
    return add_processor("llava", make_whole("llava", tmp_path / "sees", 1))


@pytest.mark.parametrize("template", [True, False], ids=["template", "no template"])
@pytest.mark.parametrize("family", ["llava", "smolvlm", "paligemma"])
def test_a_model_is_asked_as_transformers_asks_it(family: str, template: bool, album: Path, tmp_path: Path) -> None:
    """One after another by its own processor; here in batches, with padding, features from before, and in blocks."""
    from transformers import AutoProcessor

    whole = add_processor(family, make_whole(family, tmp_path / "whole", 1), template)
    task = load_task(document(album, system="w9" if template else None))
    model, _ = load_model(str(whole), dtype="float32", device="cpu")
    processor = load_processor(Carried(open_source(str(whole))))
    expected, plain, own = [], loaded(family, whole), AutoProcessor.from_pretrained(whole)
    for example in task.test:
        text = f"<s> w9 <s> <image> {example.prompt} </s> " if template else f"<image>\n{example.prompt}"
        how = {"return_tensors": "pt", "add_special_tokens": not template}
        inputs = own(text=[text], images=[[example.image.load()]], **how)
        inputs.pop("labels", None)
        with torch.no_grad():
            made = plain.generate(**inputs, max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0)
        expected.append(own.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    seen = Seen()
    for ends, size in (((), 3), ((), 3), ((3, 8), 2)):
        asked = answers(
            model,
            processor,
            task.test,
            max_new_tokens=4,
            batch_size=size,
            system=task.system,
            block_ends=ends,
            seen=seen.by("x"),
        )
        found = {answer.index: answer.text for answer in asked}
        assert [found[at] for at in range(8)] == expected
    assert len(set(expected)) > 1, "what it says depends on the picture"


def test_a_picture_is_looked_at_once(sees: Path, album: Path, monkeypatch) -> None:
    """As long as the tower is the same, and there is room; one of another model is looked at anew."""
    task = load_task(document(album))
    model, _ = load_model(str(sees), device="cpu")
    processor = load_processor(Carried(open_source(str(sees))))
    looked: list[int] = []
    look = model.model.vision_tower.forward
    monkeypatch.setattr(model.model.vision_tower, "forward", lambda *a, **k: looked.append(len(a[0])) or look(*a, **k))
    seen = Seen()

    def ask(key: object, memory: int | None = None) -> tuple[str, ...]:
        looked.clear()
        return evaluate(model, processor, task.test, task, batch_size=4, seen=seen.by(key), memory=memory).outputs

    first = ask("tower")
    assert sum(looked) == 8 and seen.nbytes > 0
    assert ask("tower") == first and looked == []
    assert ask("another") == first and sum(looked) == 8
    assert ask(None) == first and sum(looked) == 8
    assert ask(None) == first and sum(looked) == 8, "of a tower that nobody knows nothing is kept"
    held = seen.nbytes
    seen = Seen(held // 2)
    ask("tower")
    ask("tower")
    assert sum(looked) == 4 and seen.nbytes <= held // 2
    roomy = placement.held(model) + 50_000_000
    seen = Seen()
    assert ask("tower", memory=roomy) == first
    assert 0 < seen.nbytes <= seen.limit <= placement.memory_left(model, roomy) * seeing.SHARE
    # Where an answer would not fit beside them, they go.
    processed = seeing.lengths(processor, task.test, None)
    answer = Demand(1, max(processed), task.max_new_tokens, 1)
    beside = answer.nbytes_of(model.config.text_config, model.dtype, CPU)
    tight = placement.held(model) + beside + beside // 10
    assert ask("tower", memory=tight) == first and seen.nbytes == seen.limit == 0
    assert ask("tower", memory=tight) == first and sum(looked) == 8


def test_a_broken_picture_is_one_sentence(sees: Path, album: Path, tmp_path: Path) -> None:
    """A head that is right, and a body that is cut: known when it is opened, and to `plan` before a search starts."""
    whole = picture("red", "JPEG", (300, 300))
    (album / "data" / "photos" / "0.png").write_bytes(whole[: len(whole) // 2])
    task = load_task(document(album))
    with pytest.raises(TaskError, match=r"The picture 0\.png is broken: "):
        next(example for example in task.test if example.answer == "w3").image.load()
    outlook = plan_search(search(sees, make_plain("llava", tmp_path / "ja", 3), album))
    assert any("0.png is broken" in told.message for told in outlook.findings)
    (album / "data" / "photos" / "0.png").write_bytes(picture("blue"))
    with pytest.raises(TaskError, match="has changed meanwhile"):
        next(example for example in task.test if example.answer == "w3").image.load()


def search(*models: object, **more: Any) -> Search:
    *named, album = models
    examples = {"folder": str(album), "search": "data/test.jsonl", "test": "data/test.jsonl"}
    return Search.from_dict(
        {
            "models": [f"{named[0]}#language_model", str(named[1])] if len(named) > 1 else [str(named[0])] * 2,
            "merge_method": "linear",
            "genome": {"granularity": "layer", "genes": {"weight": [0, 1]}},
            "task": document(album) | {"examples": examples},
            "searcher": {"name": "random", "popsize": 4, "evaluations": 4},
            **more,
        }
    )


def test_plan_refuses_what_cannot_be_shown_pictures(sees: Path, album: Path, tmp_path: Path) -> None:
    plain, other = (make_plain("llava", tmp_path / f"p{seed}", seed) for seed in (3, 4))
    blind = search(plain, other, album, models=[str(plain), str(other)])
    assert any("a candidate is a llama model, which has no eyes" in one.message for one in plan_search(blind).findings)
    with pytest.raises(HubmergeError, match="has no eyes; search the language model of one that sees"):
        evolve(blind, tmp_path / "run")
    bare = make_whole("llava", tmp_path / "bare", 1)
    [told] = [one for one in plan_search(search(bare, plain, album)).findings if one.level == "error"]
    assert "has no processor_config.json or preprocessor_config.json" in told.message
    plan_search(search(sees, plain, album)).require()
    model, tokenizer = load_model(str(plain), device="cpu")
    with pytest.raises(TaskError, match="this model has no eyes"):
        evaluate(model, tokenizer, load_task(document(album)).test, load_task(document(album)))


@pytest.mark.parametrize("space", ["ps", "dfs"])
def test_a_search_is_shown_pictures(space: str, sees: Path, album: Path, tmp_path: Path, monkeypatch) -> None:
    """Each is looked at once for all candidates; what the winner is scored with is what its checkpoint says."""
    expert, base = (make_plain("llava", tmp_path / name, seed) for name, seed in (("ja", 3), ("base", 2)))
    made: list[Any] = []
    monkeypatch.setattr(
        seeing.Seen, "keep", lambda self, *batch, keep=seeing.Seen.keep: made.append(batch[0]) or keep(self, *batch)
    )
    more = (
        {"base_model": str(base), "merge_method": "task_arithmetic"} if space == "ps" else {"data_flow": {"repeats": 1}}
    )
    model, _ = load_model(str(sees), device="cpu")
    processor = load_processor(Carried(open_source(str(sees))))
    said = evaluate(model, processor, (before := load_task(document(album))).test, before).outputs
    answers = {example.answer: output for example, output in zip(before.test, said, strict=True)}
    lines = [json.dumps({**row, "answer": told}) for row in rows() if (told := answers[row["answer"]])]
    (album / "data" / "test.jsonl").write_text("\n".join(lines))  # what it says itself is right
    asked = search(sees, expert, album, **more)
    if space == "dfs":
        recipes = ("merge_method", "parameters", "genome")
        asked = Search.from_dict({key: value for key, value in asked.to_dict().items() if key not in recipes})
    result = evolve(asked, tmp_path / "run")
    names = " ".join(row.model for row in result.rows)
    assert f"with the eyes of local folder {sees.name} " in names
    assert len(made) == len(set(made)), "no picture was looked at twice"
    task = load_task(asked.task)
    model, _ = load_model(str(tmp_path / "run" / "model"), device="cpu")
    processor = load_processor(Carried(open_source(ModelRef(str(tmp_path / "run" / "model")))))
    again = evaluate(model, processor, task.test, task)
    [winner] = [row for row in result.rows if row.model.startswith("evolved")]
    assert winner.value == pytest.approx(again.score)
    values = {row.model: row.value for row in result.rows}
    assert values[f"local folder {sees.name}#language_model"] == 1 > min(values.values()), values


def test_the_command_shows_pictures(sees: Path, album: Path, tmp_path: Path, call) -> None:
    task = {**document("album"), "name": "photos"}
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    done = call("eval", sees, "--task", tmp_path / "task.yaml", "--show", 1)
    assert done.returncode == 0 and "photos, test split" in done.stdout
    plain = make_plain("llava", tmp_path / "plain", 2)
    done = call("eval", plain, "--task", tmp_path / "task.yaml")
    assert done.returncode == 2 and "cannot be shown pictures" in done.stderr


LLAVA = (  # what llava-hf/llava-1.5-7b-hf has
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
PARTS = "{% for m in messages %}{% for c in m.content %}{{ c.text.strip() + ' ' }}{% endfor %}{% endfor %}"
PLAIN = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
LOUD = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (LLAVA, "be brief USER: w1 w2 ASSISTANT:"),
        (PARTS, "be brief w1 w2 "),
        (PLAIN, "[be brief][w1 w2]"),
        (LOUD, "BE BRIEFW1 W2"),
    ],
)
def test_a_template_that_takes_parts_alone_loses_no_text(template: str, expected: str, tmp_path: Path) -> None:
    """Without a picture, too: in chat, in tasks of texts, and where a picture is left out."""
    processor = AutoProcessor.from_pretrained(add_processor("llava", make_whole("llava", tmp_path / "sees", 1)))
    tokenizer = processor.tokenizer
    tokenizer.chat_template = template
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "w1 w2"}]
    assert chat_texts(tokenizer, [turns]) == [expected]
    assert prompt_texts(tokenizer, ["w1 w2", "w1 w2"], "be brief") == [expected] * 2
    assert seeing.question_texts(processor, [Example("w1 w2", "")], "be brief") == [expected]
    tokenizer.chat_template = "{{ raise_exception('no system message') }}"
    with pytest.raises(TaskError, match="no system message"):
        chat_texts(tokenizer, [turns])


def test_chat_shows_a_picture(sees: Path, album: Path, tmp_path: Path) -> None:
    """Each message is about it alone; a model that sees says so where none is shown, and what is none is refused."""
    from typer.testing import CliRunner

    from hubmerge.cli.commands import app

    def talk(model: Path, *words: object, said: str | None = None) -> Any:
        return CliRunner().invoke(app, ["chat", str(model), *map(str, words), "--max-new-tokens", "3"], input=said)

    photo = album / "data" / "photos" / "3.png"
    network, processor = loaded_of(sees)
    question = Example("w1 w2", "", image=Picture.in_file(photo))
    answer = "".join(stream_answer(network, processor, question, max_new_tokens=3))
    once = talk(sees, "--picture", photo, "--prompt", "w1 w2")
    assert once.exit_code == 0 and once.output.strip() == answer.strip()
    again = talk(sees, "--picture", photo, said="w1 w2\nw1 w2\n\n")
    assert again.exit_code == 0 and again.output.count(answer.strip()) >= 2
    blind = talk(sees, "--prompt", "w1 w2")
    assert blind.exit_code == 0 and "sees: --picture FILE shows it a picture" in blind.output
    (tmp_path / "torn.png").write_bytes(photo.read_bytes()[:20])
    for model, file, told in (
        (sees, album / "none.png", "cannot be read (No such file or directory)"),
        (sees, album, "is no file"),
        (sees, Path("/dev/zero"), "is no file"),
        (sees, tmp_path / "torn.png", "torn.png"),
        (make_plain("llava", tmp_path / "plain", 2), photo, "name a model that sees"),
    ):
        refused = talk(model, "--picture", file, "--prompt", "w1")
        assert isinstance(refused.exception, HubmergeError) and told in str(refused.exception)


def loaded_of(folder: Path) -> tuple[Any, Any]:
    source = open_source(folder)
    return load_model(source)[0], load_processor(Carried(source))
