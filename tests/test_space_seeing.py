"""A question about a picture in the Chat tab, and what is refused."""

import json
from base64 import b64encode
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from vlms import add_processor, make_whole

from hubmerge.errors import HubmergeError
from hubmerge.evaluate.examples import Example
from hubmerge.evaluate.models import load_model, load_processor
from hubmerge.evaluate.pictures import MOST_BYTES, Picture, Place
from hubmerge.evaluate.seeing import answers
from hubmerge.evaluate.studio import Studios
from hubmerge.hub import open_source
from hubmerge.reference import ModelRef
from hubmerge.stream.carried import Carried
from space.api import Endpoints
from space.limits import Limits
from space.state import LOOKING
from space.tabs.answer import reply
from space.work.timed_cache import TimedCache
from space.work.turns import Turns

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # a processor's
ASK = [
    {"role": "system", "content": "w3"},
    {"role": "user", "content": "w4"},
    {"role": "assistant", "content": "w5"},
    {"role": "user", "content": "w1 w2"},
]


@pytest.fixture
def page() -> Any:
    return SimpleNamespace(
        gpu=None,
        settings=SimpleNamespace(limits=Limits(), on_space=False),
        open=lambda name, token: open_source(ModelRef(name)),
        loaded=TimedCache(2, 60.0, in_use=True),
    )


def asked(page: Any, model: Path, file: Path) -> str:
    pieces = reply(page, "alice", str(model), ASK, None, max_new_tokens=6, turn=nullcontext(), picture=file)
    return "".join(pieces).strip()


def test_what_is_said_of_a_picture_is_what_a_task_would_hear(page: Any, tmp_path: Path) -> None:
    model = make_whole("llava", tmp_path / "sees", 1)
    add_processor("llava", model)
    network, _ = load_model(str(model))
    processor = load_processor(Carried(open_source(ModelRef(str(model)))))
    said = set()
    for colour in ("red", "blue", "white"):
        file = tmp_path / f"{colour}.png"
        Image.new("RGB", (20, 30), colour).save(file)
        question = Example("w1 w2", "", image=Picture.of(file.read_bytes(), Place(file)))
        (expected,) = answers(network, processor, [question], max_new_tokens=6, system="w3")
        assert asked(page, model, file) == expected.text
        said.add(expected.text)
    assert len(said) > 1, "the picture is looked at"


def test_a_program_sends_a_picture_as_its_address(page: Any, tmp_path: Path) -> None:
    """What is said of it is what the page's own chat says; what is no picture's address is refused."""
    model, file = make_whole("llava", tmp_path / "sees", 1), tmp_path / "red.png"
    add_processor("llava", model)
    Image.new("RGB", (20, 30), "red").save(file)
    page.jobs = SimpleNamespace(of=lambda owner: [])
    page.turns = Turns(2, 8)
    request: Any = SimpleNamespace(headers={}, session_hash="s")

    def said(picture: str) -> str:
        *_, whole = Endpoints(page).chat(str(model), "w1 w2", request, None, "w3", max_new_tokens=6, picture=picture)
        return whole.strip()

    address = f"data:image/png;base64,{b64encode(file.read_bytes()).decode()}"
    assert said(address) == asked(page, model, file) != said("")
    for wrong, says in (
        (str(file), "is sent as its data address"),
        ("data:image/png;base64,x", "is sent as its data address"),
        (f"data:text/plain;base64,{b64encode(b'x').decode()}", "is sent as its data address"),
        (f"data:image/png;base64,{b64encode(b'<svg/>').decode()}", "The picture sent is none of PNG"),
    ):
        with pytest.raises(HubmergeError, match=says):
            said(wrong)
    page.settings.on_space = True
    with pytest.raises(HubmergeError, match="bytes; at most 16,000,000 are taken"):
        said(f"data:image/png;base64,{'A' * 22_000_000}")


def test_a_stranger_s_model_makes_no_more_of_a_picture_than_there_is_room_for(page: Any, tmp_path: Path) -> None:
    """What its settings ask for is tried apart; within bounds the answer is the one of one's own machine."""
    model, file = make_whole("llava", tmp_path / "sees", 1), tmp_path / "red.png"
    add_processor("llava", model)
    Image.new("RGB", (20, 30), "red").save(file)
    own = asked(page, model, file)
    page.settings.on_space = True
    page.lookers = Studios(LOOKING, limited=True)
    try:
        assert asked(page, model, file) == own
        settings = next(path for path in model.glob("*processor_config.json") if "crop_size" in path.read_text())
        text = settings.read_text()
        Image.new("RGB", (20, 600), "red").save(file)
        for side, says in (
            (256, "makes 5,[0-9,]+ numbers of the picture; at most 4,194,304"),
            (60_000, "60,000 x 60,000 pixels of every picture"),
        ):
            kept = json.loads(text)
            sizes = kept.get("image_processor", kept)
            sizes |= {"size": {"shortest_edge": side}, "do_center_crop": False}
            settings.write_text(json.dumps(kept))
            with pytest.raises(HubmergeError, match=says):
                asked(page, model, file)
        Image.new("1", (5_000, 4_000)).save(file)
        with pytest.raises(HubmergeError, match="20,000,000 pixels; at most 16,000,000 are shown"):
            asked(page, model, file)
    finally:
        page.lookers.sweep(idle=0)


def test_what_cannot_be_shown_is_told_in_a_sentence(page: Any, siblings, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(file)
    with pytest.raises(HubmergeError, match="cannot be shown"):
        asked(page, siblings["math"], file)
    page.gpu = object()
    with pytest.raises(HubmergeError, match="On ZeroGPU models are shown no pictures"):
        asked(page, siblings["math"], file)
    page.gpu = None
    file.write_bytes(b"<svg/>")
    with pytest.raises(HubmergeError, match="none of PNG"):
        asked(page, siblings["math"], file)
    with file.open("wb") as opened:
        opened.truncate(MOST_BYTES + 1)
    with pytest.raises(HubmergeError, match=f"at most {MOST_BYTES:,} are read"):
        asked(page, siblings["math"], file)
