"""ja-vlm-bench: answers, splits, baselines, pictures, files."""

import io
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import picture_reader
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from hubmerge.cli.commands import app
from hubmerge.errors import HubError, PlanError
from hubmerge.evaluate.builtin import BUILTIN
from hubmerge.evaluate.task import load_task
from hubmerge.progress import Event
from hubmerge.zoo.pictures import things, words
from hubmerge.zoo.pictures.baselines import baselines, blind, other_pictures
from hubmerge.zoo.pictures.bench import TEXTS, publish_bench, write_bench
from hubmerge.zoo.pictures.canvas import SIZE, Canvas, font
from hubmerge.zoo.pictures.card import COMBINATIONS, kinds_table
from hubmerge.zoo.pictures.painter import paint
from hubmerge.zoo.pictures.questions import PHRASINGS
from hubmerge.zoo.pictures.rows import ASKED, SCENES, rows
from hubmerge.zoo.pictures.scenes import KINDS, combinations
from hubmerge.zoo.pictures.sheet import contact_sheet
from hubmerge.zoo.pictures.things import COUNTED, GOODS, THINGS

SPLITS = ("train", "validation", "test")
FEW = {"train": 2, "validation": 1, "test": 2}


@pytest.fixture(scope="module")
def asked():
    return {split: [*rows(split)] for split in SPLITS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    return out, write_bench(out, FEW)


def files(folder: Path) -> dict[str, bytes]:
    paths = [folder / "README.md", *sorted((folder / "data").iterdir())]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("split", SPLITS)
def test_another_reader_of_question_and_scene_comes_to_the_same_answer(asked, split: str) -> None:
    for row in asked[split]:
        assert picture_reader.answer(row.scene, row.question) == (row.answer, row.answer_en), row


def test_splits_are_as_large_as_told_and_share_no_combination(asked) -> None:
    found = {split: {(row.kind, *one) for row in asked[split] for one in combinations(row.scene)} for split in SPLITS}
    for split in SPLITS:
        assert len(asked[split]) == len(KINDS) * SCENES[split] * ASKED
        assert len({row.id for row in asked[split]}) == len(asked[split])
        for other in SPLITS:
            assert split == other or not found[split] & found[other]
    assert len(asked["test"]) >= 5000
    assert {kind for kind, *_ in found["test"]} == set(KINDS) == set(COMBINATIONS)


def test_no_picture_comes_twice_and_each_has_different_questions(asked) -> None:
    every = [row for split in SPLITS for row in asked[split]]
    scenes = Counter((row.kind, row.scene.parts) for row in every)
    assert set(scenes.values()) == {ASKED}
    assert len({(row.scene, row.template) for row in every}) == len(every)


def test_questions_do_not_tell_their_answers(asked) -> None:
    told = {"place-way"}  # names all four directions alike
    for row in asked["test"]:
        if row.template not in told:
            assert row.answer not in re.findall(r"\d+\w|\w+", row.question)
            assert row.answer_en.lower() not in re.split(r"[ ,?.:]+", row.question_en.lower()), row


def test_guessing_without_the_picture_gets_few_right(asked) -> None:
    *kinds, every = baselines(asked["train"], asked["test"])
    assert every.kind == "all" and every.questions == len(asked["test"])
    assert every.blind <= 0.25 and every.other_pictures <= 0.25
    assert baselines(asked["test"], asked["test"])[-1].blind <= 0.25, "even where the test's own answers are known"
    assert [line.kind for line in kinds] == [*KINDS]
    assert max(line.blind for line in kinds) <= 0.5
    assert sum(line.questions * line.blind for line in kinds) == pytest.approx(every.questions * every.blind)


def test_baselines_by_hand(asked) -> None:
    row = asked["test"][0]
    known = [replace(row, template="a", answer=text) for text in ("x", "y", "y", "z", "z")]
    shown = [
        replace(row, template=name, answer=text) for name, text in (("a", "z"), ("b", "q"), ("a", "y"), ("a", "w"))
    ]
    assert blind(known, shown) == ["y", "", "y", "y"]
    assert other_pictures(shown) == ["y", "q", "w", "z"]
    (line, every) = baselines(known, shown)
    assert (line.blind, line.other_pictures, line.answers) == (0.25, 0.25, 4)
    assert (every.blind, every.questions, every.templates) == (0.25, 4, 2)


def test_a_picture_shows_all_that_is_asked(asked) -> None:
    """Changing what a question asks of a part, and nothing else, changes the picture."""
    shown = {
        "number": {*KINDS} - {"sign", "colour", "place", "odd"},
        "place": {"sign", "tag", "colour", "place", "name", "odd", "clock", "timetable"},
        "colour": {"sign", "colour", "calendar"},
        "more": {"timetable", "weather"},
        "what": {*KINDS} - {"calendar"},
    }
    seen = set()
    for scene in {row.kind: row.scene for row in asked["test"]}.values():
        before = paint(scene).png()
        *others, last = scene.parts
        for name in (name for name, kinds in shown.items() if scene.kind in kinds):
            value = getattr(others[-1], name)
            value = {"number": last.number + 1, "more": "rain" if last.more != "rain" else "snow"}.get(name, value)
            if scene.kind == "timetable" and name == "more":
                value = "local" if last.more != "local" else "rapid"
            if value != getattr(last, name):
                seen.add((scene.kind, name))
                parts = (*others, replace(last, **{name: value}))
                assert paint(replace(scene, parts=parts)).png() != before, (scene.kind, name)
    assert len(seen) > 30


def test_every_thing_can_be_drawn_and_every_glyph_is_there() -> None:
    assert set(COUNTED) | set(GOODS) <= set(THINGS)
    listed = [
        (Path(things.__file__).parent / name).read_text("utf-8").count(" | ") for name in ("culture.txt", "daily.txt")
    ]
    assert 3 * len(THINGS) == sum(listed), "no name twice"
    blank = Canvas((255, 255, 255)).png()
    for name, thing in THINGS.items():
        canvas = Canvas((255, 255, 255))
        canvas.thing(name, 50, 50, 80, "blue" if thing.paintable else "")
        assert canvas.png() != blank
    missing = bytes(font(20).getmask("\uffff"))
    tables = (words.SHOPS, words.DISHES, words.LANDMARKS, words.STATIONS, words.TRAINS, words.CITIES)
    texts = [word.ja for table in tables for word in table.values()] + [
        PHRASINGS.read_text(encoding="utf-8"),
        "0123456789:円月°日月火水木金土",
    ]
    texts += [thing.ja for thing in THINGS.values()]
    for glyph in set("".join(texts)) - {"\n", " "}:
        assert bytes(font(20).getmask(glyph)) != missing, glyph


def test_the_same_bytes_again_whatever_the_order_of_hashes(made, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from hubmerge.zoo.pictures.bench import write_bench
write_bench(Path({str(tmp_path)!r}), {FEW!r})
"""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    assert files(tmp_path) == files(made[0])


def test_files_hold_the_rows_and_the_hubs_columns(made) -> None:
    import json

    from pyarrow import parquet

    out, told = made
    for split in SPLITS:
        path = out / "data" / f"{split}-00000-of-00001.parquet"
        table = parquet.read_table(path)
        expected = [*rows(split, FEW)]
        columns = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        assert columns["image"] == {"_type": "Image"} and [*columns] == ["image", *TEXTS] == table.column_names
        for line, row in zip(table.to_pylist(), expected, strict=True):
            assert {name: line[name] for name in TEXTS} == {name: getattr(row, name) for name in TEXTS}
            image = Image.open(io.BytesIO(line["image"]["bytes"]))
            assert image.format == "PNG" and image.size == (SIZE, SIZE) and image.mode == "P"
            assert line["image"]["bytes"] == paint(row.scene).png()
        assert told.nbytes[split] == path.stat().st_size < 8000 * told.pictures[split]


def test_the_card_tells_what_was_made(made) -> None:
    out, told = made
    text = (out / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    info = front["dataset_info"]
    assert front["language"] == ["ja", "en"] and front["license"] == "apache-2.0"
    assert [column["name"] for column in info["features"]] == ["image", *TEXTS]
    assert {one["name"]: one["num_examples"] for one in info["splits"]} == {
        split: ASKED * len(KINDS) * count for split, count in FEW.items()
    }
    paths = {one["split"]: one["path"] for one in front["configs"][0]["data_files"]}
    for split in SPLITS:
        assert [path.stat().st_size for path in out.glob(paths[split])] == [told.nbytes[split]]
    few = {split: [*rows(split, FEW)] for split in SPLITS}
    every = baselines(few["train"], few["test"])[-1]
    assert f"Over all: blind **{every.blind:.1%}**, other pictures **{every.other_pictures:.1%}**." in text


def test_what_others_put_there_stays(made, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(PlanError, match="somebody else"):
        write_bench(tmp_path, FEW)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert not any((tmp_path / "data").glob("*"))


def test_published_twice_it_is_one_commit(hub, made) -> None:
    from huggingface_hub import HfApi

    repo_id, api = "hubmerge-demo/ja-vlm-bench", HfApi(endpoint=hub.endpoint, token="hf_alice")

    def publish() -> str | None:
        repo = publish_bench(repo_id, "hf_alice", hub.endpoint, FEW)
        return api.repo_info(repo, repo_type="dataset").sha

    head = publish()
    assert api.repo_info(repo_id, repo_type="dataset").private
    names = set(api.list_repo_files(repo_id, repo_type="dataset")) - {".gitattributes"}
    assert names == {"README.md", *(f"data/{split}-00000-of-00001.parquet" for split in SPLITS)}
    card = Path(api.hf_hub_download(repo_id, "README.md", repo_type="dataset")).read_text(encoding="utf-8")
    assert f'load_dataset("{repo_id}"' in card
    assert publish() == head

    task = load_task("ja-vlm-bench")  # as it is found by its name
    for split, examples in (("train", task.search), ("validation", task.validation), ("test", task.test)):
        # In another order, so that a part of a split has all kinds.
        expected = Counter((row.question, row.answer) for row in rows(split, FEW))
        assert Counter((one.prompt.partition("答えだけ")[0], one.answer) for one in examples) == expected
        assert all(one.image is not None for one in examples)


@pytest.mark.parametrize(
    ("repo_id", "told"),
    [("alice/own-pictures", "did not push"), ("alice/seen-pictures", "is public"), ("no name", "no name")],
)
def test_where_it_cannot_be_published_nothing_is_drawn(hub, repo_id: str, told: str) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint, token="hf_alice")
    for name in ("alice/own-pictures", "alice/seen-pictures"):
        api.create_repo(name, repo_type="dataset", exist_ok=True)
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="a.txt", repo_id="alice/own-pictures", repo_type="dataset")
    events: list[Event] = []
    with pytest.raises(HubError, match=told) as refused:
        publish_bench(repo_id, "hf_alice", hub.endpoint, FEW, events.append)
    assert not events and refused.value.exit_code == 2


def test_the_sheet_in_the_docs_is_of_these_pictures() -> None:
    shown = [*rows("test", {"test": 4})][: 50 * ASKED]
    stored = (Path(__file__).parent.parent / "docs" / "images" / "ja-vlm-bench.png").read_bytes()
    assert len(stored) <= 150_000
    fresh = Image.open(io.BytesIO(contact_sheet(shown))).convert("RGB")
    assert Image.open(io.BytesIO(stored)).convert("RGB").tobytes() == fresh.tobytes()


def test_the_docs_have_the_figures(asked) -> None:
    text = (Path(__file__).parent.parent / "docs" / "ja-vlm-bench.md").read_text(encoding="utf-8")
    assert kinds_table(baselines(asked["train"], asked["test"])) in text
    for split in SPLITS:
        count = len(KINDS) * SCENES[split]
        assert f"| {split} | {count:,} | {ASKED * count:,} |" in text


def test_the_docs_tell_how_a_copy_elsewhere_is_asked() -> None:
    text = (Path(__file__).parent.parent / "docs" / "ja-vlm-bench.md").read_text(encoding="utf-8")
    known = BUILTIN["ja-vlm-bench"]
    elsewhere = {**known["examples"], "repo_id": "you/ja-vlm-bench"}
    assert yaml.safe_load(text.partition("```yaml")[2].partition("```")[0]) == {**known, "examples": elsewhere}


@pytest.mark.parametrize("options", [[], ["--out", "a", "--push", "b/c"]])
def test_the_command_wants_one_place(options: list[str]) -> None:
    from hubmerge.errors import HubmergeError

    result = CliRunner().invoke(app, ["zoo", "bench", *options])
    assert isinstance(result.exception, HubmergeError) and "one of --out DIR and --push" in str(result.exception)
