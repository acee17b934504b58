"""Answers that come late: texts that another has replaced meanwhile, and events that wait for each other."""

from collections import Counter

import httpx
import pytest

from space import standing as standing_module
from space.standing import after, standing


def kept(*texts: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for text in texts:
        found = after(text, found)
    return found


def test_a_text_that_was_replaced_gives_way_to_the_newest() -> None:
    assert standing("a", kept("a", "b", "c")) == standing("b\n", kept("a", "b", "c")) == "c"


def test_the_newest_and_what_a_person_typed_stand() -> None:
    assert standing("c", kept("a", "b", "c")) == "c"
    assert standing("typed", kept("a", "b")) == standing("typed", []) == "typed"
    # What was written again is the newest, whatever it had been before.
    assert standing("a", kept("a", "b", "a")) == "a"


def test_what_was_replaced_long_ago_was_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = kept("a", "b")
    later = texts[0][1] + standing_module.IN_FLIGHT + 1
    monkeypatch.setattr(standing_module.time, "monotonic", lambda: later)
    assert standing("a", texts) == "a"


def test_what_is_kept_has_an_end() -> None:
    texts = kept(*(str(number) for number in range(1000)))
    assert len(texts) == standing_module._MOST and texts[-1][0] == "999"
    assert after("999", texts) is texts


def test_no_two_events_of_a_box_wait_for_each_other(own_page) -> None:
    """gradio repeats the whole event for one that had to wait, so two that do go round in a ring."""
    with own_page.page().quietly() as url:
        config = httpx.get(f"{url}config").raise_for_status().json()
    states = {one["id"] for one in config["components"] if one["type"] == "state"}  # gradio repeats one function there
    waiting = Counter(
        tuple(target)
        for one in config["dependencies"]
        if one["trigger_mode"] == "always_last" and one["backend_fn"]
        for target in one["targets"]
        if target[0] not in states
    )
    assert waiting and not [target for target, count in waiting.items() if count > 1]
