"""Every endpoint of a served page, called by a program with what no control of the page would send."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hubtools import publish
from lineagetools import beginning, files, tuned
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
DOCUMENTED = Path(__file__).parent.parent / "docs" / "space.md"
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


def test_the_endpoints_have_the_names_that_the_documentation_tells(public_page) -> None:
    told = re.search(r"every button is an endpoint \(([^)]+)\)", DOCUMENTED.read_text(encoding="utf-8"))
    assert told is not None
    dependencies = httpx.get(f"{public_page.url}config").json()["dependencies"]
    served = {event["api_name"] for event in dependencies if event["api_visibility"] == "public"}
    assert served - {"_check_login_status"} == set(re.findall(r"`/(\w+)`", told[1]))


def test_each_endpoint_refuses_with_one_sentence(public_page) -> None:
    url = public_page.url
    config = httpx.get(f"{url}config").json()
    named = [event for event in config["dependencies"] if event["api_visibility"] == "public" and event["inputs"]]
    assert len(named) >= 8
    values = {**WRONG, "digits": 10**400, "whole": 10**30}
    for event in named:
        # gradio tells every call that waits of each that begins: all calls at once would be ten thousand messages.
        told = answers(url, [(event["id"], [value] * len(event["inputs"])) for value in values.values()], "endpoints")
        for (name, value), got in zip(values.items(), (told[place] for place in range(len(values))), strict=True):
            if got.get("success") and event["api_name"] == "search" and isinstance(value, str):
                continue  # any words may be looked for
            if got.get("success") and (event["api_name"], name) == ("transplant", "text"):
                continue  # a name that a model can have
            said, where = str(got["error"]), (event["api_name"], name)
            assert not got.get("success") and said and "\n" not in said.strip() and len(said) < 1_000, (where, got)
            assert not UNSAID.search(said), (where, said)


def test_the_base_that_is_found_is_filled_in(public_page) -> None:
    """Of one that names it, and one whose weights alone tell it; not over what a visitor has put there."""
    root = beginning(171)
    publish("alice/fills-base", files(root, []))
    for seed, (name, said) in enumerate((("told", ["alice/fills-base"]), ("silent", [])), 172):
        publish(f"alice/fills-{name}", files(tuned(root, seed), said))
    config = httpx.get(f"{public_page.url}config").json()
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    asked = next(event for event in config["dependencies"] if [ids["hm-siblings"], "click"] in event["targets"])
    then = [event for event in config["dependencies"] if event["trigger_after"] == asked["id"]]
    assert asked["inputs"] == [ids["hm-models"], ids["hm-base"]] and [ids["hm-base"] in one["outputs"] for one in then]
    chosen = ["alice/fills-told", "alice/fills-silent"]
    calls = [(asked["id"], [chosen, base]) for base in (None, "org/mine")]
    told = answers(public_page.url, calls, "fills")
    assert told[0]["data"][-1] == [[chosen, chosen], [None, "alice/fills-base"]], told
    assert told[1]["data"][-1] == [[chosen, chosen], ["org/mine", "org/mine"]]


def test_what_writes_for_a_while_can_be_asked_anew_meanwhile(public_page) -> None:
    """gradio's own way is to drop an event whose former one has not ended: a question without an answer."""
    config = httpx.get(f"{public_page.url}config").json()
    dependencies = config["dependencies"]
    writers = [event for event in dependencies if event["types"]["generator"] and event["api_visibility"] == "private"]
    assert writers and {event["trigger_mode"] for event in writers} == {"multiple"}


def test_a_page_draws_a_job_anew_until_the_browser_shows_how_it_ended(public_page) -> None:
    """Also where the answer to a late tick stopped the clock, or overtook a newer one on its way."""
    url = public_page.url
    config = httpx.get(f"{url}config").json()
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    marks = {ids[f"hm-{kind}-seen"]: kind for kind in ("merge", "evolve", "publish", "tool")}
    ticks = [event for event in config["dependencies"] if any(name == "tick" for _, name in event["targets"])]
    looks = [event for event in ticks if set(marks) <= set(event["outputs"])]
    stops_itself = [event["targets"][0][0] == event["outputs"][-1] for event in looks]
    assert sorted(stops_itself) == [False, True], "a clock that can be stopped, and one that never is"
    api = {event["api_name"]: event for event in config["dependencies"]}
    shown = dict.fromkeys(marks, "")  # what the browser shows

    def tell(event: dict[str, Any], *values: Any) -> list[Any]:
        rest = [shown.get(part) for part in event["inputs"][len(values) :]]
        told = answers(url, [(event["id"], [*values, *rest])], "a visitor")[0]
        assert told["success"], told
        return told["data"]

    def drawn(event: dict[str, Any]) -> set[str]:
        """The kinds of jobs that are drawn anew, after which the clock is to rest."""
        told = dict(zip(event["outputs"], tell(event), strict=True))
        assert told[event["outputs"][-1]]["active"] is False
        fresh = {part: told[part] for part in marks if isinstance(told[part], str)}
        shown.update(fresh)
        return {marks[part] for part in fresh}

    for look in looks:
        shown.update(dict.fromkeys(marks, ""))
        assert drawn(look) == set(marks.values()), "nothing was drawn yet"
        assert drawn(look) == set()
    before = dict(shown)
    models = [{"model": f"alice/nothing-{n}"} for n in range(2)]
    job = tell(api["merge"], json.dumps({"merge_method": "linear", "models": models}))[0]
    assert ended(lambda: tell(api["job"], job)[0])["status"] == "failed"
    for look in looks:
        shown.update(before)  # an older answer came after it
        assert drawn(look) == {"merge"}
        assert drawn(look) == set()
