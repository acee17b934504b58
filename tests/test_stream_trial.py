"""How long computing takes: tried where torch is loaded, and remembered for processes without it."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from test_stream_merge import Siblings, recipe

from hubmerge.stream import trial
from hubmerge.stream.plan import Plan, make_plan


@pytest.fixture
def speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is remembered, of a machine where nothing was tried yet."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    return tmp_path / "hubmerge" / "speeds"


@pytest.fixture
def plan(siblings: Siblings) -> Plan:
    return make_plan(recipe(siblings))


def test_what_was_tried_is_told_without_trying_again(plan: Plan, speeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan.compute_seconds
    monkeypatch.setattr(trial, "is_loaded", lambda: False)
    monkeypatch.setattr(trial, "_tried", lambda *_: pytest.fail("tried again"))
    assert plan.compute_seconds == found > 0


def test_where_torch_is_loaded_it_is_tried_anew(plan: Plan, speeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_tried", lambda *_: 1.0)
    before = plan.compute_seconds
    monkeypatch.setattr(trial, "_tried", lambda *_: 2.0)
    assert plan.compute_seconds == 2 * before
    assert [float(note.read_text()) for note in speeds.iterdir()] == [2.0]


@pytest.mark.parametrize("broken", ["", "nan", "-1", "inf", "0", "soon", "\udcff", None])
def test_a_note_that_tells_nothing_is_made_again(
    plan: Plan, speeds: Path, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    monkeypatch.setattr(trial, "_tried", lambda *_: 3.0)
    expected = plan.compute_seconds
    (note,) = speeds.iterdir()
    note.unlink()
    if broken is None:
        note.mkdir()  # which cannot be written, either
    else:
        note.write_bytes(broken.encode(errors="surrogateescape"))
    monkeypatch.setattr(trial, "is_loaded", lambda: False)
    assert plan.compute_seconds == expected
    assert note.is_dir() or float(note.read_text()) == 3.0


def test_what_makes_a_difference_is_tried_by_itself(
    siblings: Siblings, speeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_tried", lambda *_: 1.0)
    models = [{"model": str(siblings[name])} for name in ("math", "japanese")]
    tried = []
    for method, parameters in (
        ("karcher", {"max_iter": 5}),
        ("karcher", {"max_iter": 500}),
        ("linear", {"weight": 0.5}),
        ("linear", {"weight": 0.7}),
    ):
        one = recipe(siblings, method, models=models, base_model=None, parameters=parameters)
        assert make_plan(one).compute_seconds > 0
        tried.append(len([*speeds.iterdir()]))
    assert tried == [1, 2, 3, 3]
