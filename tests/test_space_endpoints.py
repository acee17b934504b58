"""Every endpoint of a served page, called by a program with what no control of the page would send."""

import json
import re
from typing import Any

import httpx
import pytest
from space_server import ended

pytestmark = pytest.mark.slow

WRONG: dict[str, Any] = {
    "null": None,
    "switch": True,
    "negative": -1,
    "huge": -(2**63),
    "float": 1e308,
    "NaN": float("nan"),
    "text": "x",
    "null in text": "a\x00b",
    "half a character": "\ud800",
    "long": "x" * 100_000,
    "list": [None],
    "object": {"a": {"b": []}},
    "file": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    "turn": [{"role": 5, "content": {"a": []}}],
    "nested": json.loads("[" * 200 + "]" * 200),
}
UNSAID = re.compile(r"inside hubmerge|Traceback|File \"|site-packages|root:|\.py\b|/jobs\b")


def answers(url: str, calls: list[tuple[int, list[Any]]], session: str) -> dict[int, dict[str, Any]]:
    """What became of each call; all of one session, which gradio tells of in one stream."""
    told: dict[int, dict[str, Any]] = {}
    with httpx.Client(base_url=f"{url}gradio_api/", timeout=60) as http:
        places: dict[str, int] = {}
        for place, (index, data) in enumerate(calls):
            body = json.dumps({"fn_index": index, "data": data, "session_hash": session})
            answer = http.post("queue/join", content=body, headers={"content-type": "application/json"})
            if answer.status_code == 200:
                places[answer.json()["event_id"]] = place
            else:
                told[place] = {"status": answer.status_code, "error": answer.text}
        if places:
            with http.stream("GET", "queue/data", params={"session_hash": session}) as stream:
                for line in stream.iter_lines():
                    if not line.startswith("data:"):
                        continue
                    message = json.loads(line[5:])
                    if message["msg"] == "process_completed":
                        told[places.pop(message["event_id"])] = {"success": message["success"], **message["output"]}
                    if not places or message["msg"] == "close_stream":
                        break
        assert not places, places
    return told


def test_each_endpoint_refuses_with_one_sentence(public_page) -> None:
    url = public_page.url
    config = httpx.get(f"{url}config").json()
    named = [event for event in config["dependencies"] if event["api_visibility"] == "public" and event["inputs"]]
    assert len(named) >= 8
    values = {**WRONG, "digits": 10**400, "whole": 10**30}
    calls = [(event["id"], [value] * len(event["inputs"])) for event in named for value in values.values()]
    told = answers(url, calls, "endpoints")
    for place, got in told.items():
        index, value = calls[place]
        search = next(event["api_name"] for event in named if event["id"] == index) == "search"
        if got.get("success") and search and isinstance(value[0], str):
            continue  # any words may be looked for
        said = str(got["error"])
        assert not got.get("success") and said and "\n" not in said.strip() and len(said) < 1_000, (calls[place], got)
        assert not UNSAID.search(said), (index, str(value)[:100], said)


def test_a_page_that_missed_the_end_of_a_job_looks_again_until_it_is_drawn(public_page) -> None:
    """As after a slow answer to the clock that came late and stopped it: a clock that never stops tells to go on."""
    url = public_page.url
    config = httpx.get(f"{url}config").json()
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    panels = {ids[f"hm-{kind}-job"] for kind in ("merge", "evolve", "publish")}
    ticks = [event for event in config["dependencies"] if any(name == "tick" for _, name in event["targets"])]
    draw = [event for event in ticks if panels & set(event["outputs"])]
    [clock] = {on for event in draw for on, _ in event["targets"]}
    look = [event for event in ticks if event["outputs"] == [clock]]
    assert len(draw) == 3 and len(look) == 2 and len({event["targets"][0][0] for event in look}) == 2
    api = {event["api_name"]: event["id"] for event in config["dependencies"]}

    marks = [ids[f"hm-{kind}-seen"] for kind in ("merge", "evolve", "publish")]
    shown = dict.fromkeys(marks, "")  # what the browser shows

    def tell(index: int, *values: Any) -> list[Any]:
        event = next(event for event in config["dependencies"] if event["id"] == index)
        rest = [shown.get(part) for part in event["inputs"][len(values) :]]
        told = answers(url, [(index, [*values, *rest])], "a visitor")[0]
        assert told["success"], told
        return told["data"]

    def looks_on() -> set[bool]:
        return {tell(event["id"])[0]["active"] for event in look}

    def drawn() -> None:
        for event in draw:
            [(part, told)] = [
                pair for pair in zip(event["outputs"], tell(event["id"]), strict=True) if pair[0] in shown
            ]
            shown.update({part: told} if isinstance(told, str) else {})  # else nothing is to be changed

    assert looks_on() == {True}, "nothing was drawn yet"
    drawn()
    assert looks_on() == {False}
    before = dict(shown)
    models = [{"model": f"alice/nothing-{n}"} for n in range(2)]
    job = tell(api["merge"], json.dumps({"merge_method": "linear", "models": models}))[0]
    assert ended(lambda: tell(api["job"], job)[0])["status"] == "failed"
    assert looks_on() == {True}
    drawn()
    assert looks_on() == {False}
    after = dict(shown)
    shown.update(before)
    assert looks_on() == {True}, "an older answer came after it"
    drawn()
    assert looks_on() == {False} and shown == after
