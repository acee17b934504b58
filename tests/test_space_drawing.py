"""The prompt box: what is drawn is what diffusers draws, within bounds, in a process of its own."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hubmerge.errors import HubmergeError, Interrupted, ResourceError, SourceError, TaskError
from hubmerge.evaluate import studio
from hubmerge.evaluate.drawing import seed_of
from hubmerge.evaluate.studio import Studio, Studios
from hubmerge.hub import open_source
from space.limits import Limits
from space.state import Owner
from space.tabs.drawing import LARGEST, STRANGERS_SIDE, Wish, asked, drawings, draws, models_of, paced
from space.work.turns import Turns

diffusers = pytest.importorskip("diffusers")

import torch  # noqa: E402
from pipelines import save  # noqa: E402

WISH = Wish("org/fine", None, "w1 w2\n\n w3 ", None, "1, 2", 2, None, None, False)


def wish(**changes: Any) -> Wish:
    return Wish(**{**vars(WISH), **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("drawn")
    return {name: save("sd15", root / name, seed) for seed, name in enumerate(("fine", "plain"))}


@pytest.fixture(scope="module")
def studios() -> Iterator[Studios]:
    found = Studios(4 * 10**9, limited=True)
    yield found
    found.sweep(idle=0)


@pytest.fixture
def page(made: dict[str, Path], studios: Studios) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(limits=Limits(), on_space=True),
        open=lambda name, token: open_source(str(made[name.partition("/")[2]]) if name.startswith("org/") else name),
        turns=Turns(2, 4),
        studios=studios,
        jobs=SimpleNamespace(of=lambda *_: []),
    )


def by_diffusers(folder: Path, prompt: str, seed: int) -> np.ndarray:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(seed_of(prompt, seed))
    return np.asarray(pipeline(prompt, generator=noise, num_inference_steps=2).images[0]).astype(int)


def test_each_model_draws_the_same_prompts_and_seeds(page: Any, made: dict[str, Path], tmp_path: Path) -> None:
    owner, halt = Owner("alice"), threading.Event()
    found = list(drawings(page, owner, ["org/fine", "org/plain"], asked(WISH, True), None, halt))
    drawn, said = found[-1][0], [line for _, line in found]
    assert [(one.model, one.caption) for one in drawn] == [
        (f"org/{name}", f"{name} · {prompt} · seed {seed}")
        for name in ("fine", "plain")
        for prompt in ("w1 w2", "w3")
        for seed in (1, 2)
    ]
    for place, (name, prompt, seed) in {0: ("fine", "w1 w2", 1), 7: ("plain", "w3", 2)}.items():
        assert abs(np.asarray(drawn[place].picture).astype(int) - by_diffusers(made[name], prompt, seed)).max() <= 1
    assert "fine: picture 2 of 4, step 1" in said and said[-1] == ""
    # What a stranger's model breaks is its own: the others draw, and the process is there for the next.
    broken = save("sd15", tmp_path / "broken", 3)
    index = broken / "vae" / "config.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scaling_factor": "much"}))
    one = asked(wish(prompts="w1", seeds="5"), True)
    *_, (drawn, line) = drawings(page, owner, [str(broken), "org/fine", str(made["fine"] / "unet")], one, None, halt)
    assert [one.model for one in drawn] == ["org/fine"] and line.startswith("broken: ")
    halt.set()
    *_, (drawn, line) = drawings(page, owner, ["org/fine"], one, None, halt)
    assert drawn == [] and line == "Stopped."


def test_what_takes_too_long_or_too_much_ends_alone(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    one = Studio(memory=10**9, limited=True)
    how = {"prompts": ["w1"], "seeds": [1], "steps": 1, "guidance": None, "negative": None, "most_side": None}
    with pytest.raises(ResourceError, match="more memory than there is"):
        list(one.ask("draw", str(made["fine"]), lambda: False, **{**how, "side": 8192}))
    assert any("picture" in answer for answer in one.ask("draw", str(made["fine"]), lambda: False, **how, side=16))
    steps: list[Any] = []
    many = one.ask("draw", str(made["fine"]), lambda: len(steps) > 1, **{**how, "steps": 900}, side=16)
    with pytest.raises(Interrupted):
        steps.extend(many)
    assert not any("picture" in answer for answer in steps)
    with pytest.raises(ResourceError, match="more than the 0 seconds"):
        list(one.ask("draw", str(made["fine"]), lambda: False, 0, **how, side=16))
    with pytest.raises(SourceError):
        list(one.ask("draw", str(made["fine"] / "scheduler"), lambda: False, **how, side=16))
    process = one._process
    assert process is not None
    process.kill()
    process.wait()
    assert any("picture" in answer for answer in one.ask("draw", str(made["fine"]), lambda: False, **how, side=16))
    one.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompts": " \n "}, "Say what to draw"),
        ({"seeds": " , "}, "Give a seed"),
        ({"seeds": "-1"}, "A seed is a whole number"),
        ({"seeds": "²"}, "A seed is a whole number"),
        ({"seeds": "9" * 400}, "A seed is a whole number"),
        ({"seeds": "1 2 3"}, "are 6 pictures of a model; at most 4"),
        ({"prompts": "w" * 30_000}, "30,000 characters"),
        ({"steps": 51}, "Steps must be a whole number from 1 to 50"),
        ({"steps": 1.5}, "Steps must be"),
        ({"side": STRANGERS_SIDE + 8}, "at most|from 8 to 768"),
        ({"side": 20}, "multiple of 8"),
        ({"guidance": -1}, "Guidance must be"),
    ],
)
def test_more_than_may_be_drawn_is_refused_in_a_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError, match=says):
        asked(wish(**changes), on_space=True)


def test_on_one_s_own_machine_more_is_drawn() -> None:
    many = asked(wish(seeds="1 2 3", steps=99, side=LARGEST), on_space=False)
    assert (len(many.seeds), many.how["steps"], many.how["side"], many.seconds) == (3, 99, LARGEST, None)


def test_models_that_draw_are_told_from_those_that_speak(page: Any, made: dict[str, Path], siblings: Any) -> None:
    owner = Owner("alice")
    assert draws(page, owner, "org/fine", None) and draws(page, owner, f"{made['fine']}#unet", None)
    for name in (str(siblings["math"]), str(made["fine"] / "unet"), "nobody/nothing", None):
        assert not draws(page, owner, name, None)


def test_a_merge_is_drawn_beside_its_sources(page: Any) -> None:
    recipe = "merge_method: linear\ncomponents:\n  unet: {models: [{model: org/a}, {model: org/b}]}\n  vae: org/c\n"
    job = SimpleNamespace(status="done", result={"folder": "x", "recipe": recipe}, title="linear", id="7")
    page.jobs = SimpleNamespace(get=lambda owner, number: job)
    owner = Owner("alice")
    assert models_of(page, owner, wish(model="job:7", sources=True), ["org/d"]) == ["job:7", "org/a", "org/b"]
    assert models_of(page, owner, wish(sources=True, other="org/e"), ["org/fine", "org/d"]) == [
        "org/fine",
        "org/e",
        "org/d",
    ]
    with pytest.raises(TaskError, match="at most 8 draw"):
        models_of(page, owner, wish(sources=True), [f"org/{n}" for n in range(9)])
    with pytest.raises(TaskError, match="Choose a model"):
        models_of(page, owner, wish(model=None), [])


def test_without_diffusers_one_is_told_what_to_install(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubmerge.extras.find_spec", lambda name: None)
    with pytest.raises(HubmergeError, match=r"pip install 'hubmerge\[diffusers\]'"):
        list(drawings(page, Owner("alice"), ["org/fine"], asked(WISH, True), None, threading.Event()))


def test_pictures_are_sent_now_and_then_and_at_the_end() -> None:
    times = iter([0.0, 0.0, 0.2, 0.6, 0.6, 0.7])
    assert list(paced("abcd", 0.5, lambda: next(times))) == ["a", "c", "d"]


def test_a_studio_that_nobody_uses_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(Studio, "close", lambda self: closed.append(self))
    found = Studios()
    with found.one("a") as first, found.one("b") as second:
        assert first is not second
        first.model, second.model = "a", "b"
    with found.one("b") as again:
        assert again is second
        found.sweep(idle=0)
        assert closed == [first]
    found.sweep(studio.IDLE_SECONDS)
    assert closed == [first]
    found.sweep(idle=0)
    assert closed == [first, second]
