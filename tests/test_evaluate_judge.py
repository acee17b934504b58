"""Grades by a model behind an endpoint: a small local server that answers as the OpenAI-compatible ones do."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hubmerge.errors import NetworkError, TaskError
from hubmerge.evaluate import llm_judge
from hubmerge.evaluate.score import grade
from hubmerge.evaluate.task import load_task


class Endpoint:
    """Grades a reply by how often it says "good"; `failures` are statuses to answer first."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.failures: list[int] = []
        self.reply = lambda text: f"It is fine.\nGrade: {text.split('REPLY ')[1].split('END')[0].count('good')}"


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[tuple[Endpoint, str]]:
    found = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.requests.append(body)
            found.keys.append(self.headers.get("Authorization"))
            assert self.path == "/v1/chat/completions"
            status = found.failures.pop(0) if found.failures else 200
            content = found.reply(body["messages"][0]["content"]) if status == 200 else "busy"
            answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    llm_judge._ask.cache_clear()
    monkeypatch.setattr(llm_judge.time, "sleep", lambda seconds: None)
    yield found, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def judged(url: str, **settings):
    judge = {"base_url": url, "model": "judge", "rubric": "Q {prompt} A {answer} REPLY {output} END", **settings}
    rows = [{"question": f"q{i}", "answer": f"a{i}"} for i in range(3)]
    return load_task({"name": "manners", "examples": {"test": rows}, "judge": judge})


def test_replies_become_values(endpoint) -> None:
    found, url = endpoint
    task = judged(url, scale=4, options={"max_tokens": 50})
    scores = grade(["good good", "bad", "good good good good"], task.test, task)
    assert scores.values == (0.5, 0.0, 1.0)
    assert scores.interval[0] < scores.score < scores.interval[1]
    assert {(r["model"], r["temperature"], r["max_tokens"]) for r in found.requests} == {("judge", 0, 50)}
    asked = found.requests[0]["messages"][0]["content"]
    assert "from 0 to 4" in asked
    assert any(f"Q {e.prompt} A {e.answer} REPLY" in asked for e in task.test)
    assert found.keys == [None] * 3


def test_the_same_reply_is_asked_about_once_and_an_empty_one_never(endpoint) -> None:
    found, url = endpoint
    task = judged(url)
    first = grade(["good", "good", " "], task.test, task)
    assert grade(["good", "good", ""], task.test, task).values == first.values == (0.1, 0.1, 0.0)
    assert len(found.requests) == 2


def test_a_judge_that_sees_is_shown_pictures(endpoint) -> None:
    """Each as it was drawn, with the question; what the judge says of it becomes its value."""
    image = pytest.importorskip("PIL.Image")
    found, url = endpoint
    shades = (0, 102, 255)

    def reply(content: list[dict]) -> str:
        assert [part["type"] for part in content] == ["text", "image_url"]
        assert "It was to show:\nq" in content[0]["text"] and "Reference:\na" in content[0]["text"]
        head, _, data = content[1]["image_url"]["url"].partition(",")
        assert head == "data:image/png;base64"
        return f"Grade: {image.open(io.BytesIO(base64.b64decode(data))).getpixel((3, 3))[0] / 25.5:g}"

    found.reply = reply
    task = judged(url, rubric=llm_judge.RUBRIC)
    pictures = [image.new("RGB", (8, 8), (shade, 0, 0)) for shade in shades]
    assert task.settings.grade(pictures, task.test) == [0.0, 0.4, 1.0]
    assert task.settings.grade(pictures[:1] * 2, task.test[:2]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("reply", "value"),
    [("Grade: 7", 0.7), ("**Grade:** 7.5", 0.75), ("7/10", 0.7), ("Grade: 2\nno, Grade: 3", 0.3), (" 10. ", 1.0)],
)
def test_grades_are_read_in_the_forms_that_models_write(endpoint, reply: str, value: float) -> None:
    found, url = endpoint
    found.reply = lambda text: reply
    task = judged(url)
    assert grade(["x"], task.test[:1], task).values == (value,)


@pytest.mark.parametrize("reply", ["I cannot grade this.", "Grade: 11", "Grade: -1", "", "3 of 5 points were made"])
def test_a_reply_without_a_grade_counts_as_nothing_and_is_counted(endpoint, reply: str) -> None:
    found, url = endpoint
    found.reply = lambda text: reply
    task = judged(url)
    scores = grade(["x", "y"], task.test[:2], task)
    assert (scores.values, scores.ungraded) == ((0.0, 0.0), 2)


def test_a_busy_endpoint_is_asked_again_and_a_refusal_is_not(endpoint) -> None:
    found, url = endpoint
    task = judged(url, parallel=1, retries=2)
    found.failures = [503, 429]
    assert grade(["good"], task.test[:1], task).values == (0.1,)
    assert len(found.requests) == 3
    found.failures = [500, 500, 500]
    with pytest.raises(NetworkError, match=r"did not answer \(status 500"):
        grade(["good good"], task.test[:1], task)
    found.failures = [401]
    with pytest.raises(NetworkError, match="status 401"):
        grade(["good good good"], task.test[:1], task)
    assert len(found.requests) == 7


def test_an_endpoint_that_is_not_there_or_is_something_else_is_named(endpoint) -> None:
    task = judged("http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(NetworkError, match="is it running"):
        grade(["x"], task.test[:1], task)
    found, url = endpoint
    found.reply = lambda text: None
    task = judged(url)
    assert grade(["x"], task.test[:1], task).ungraded == 1


def test_the_key_comes_from_the_environment_and_stays_there(endpoint, monkeypatch) -> None:
    found, url = endpoint
    task = judged(url, api_key="TEST_JUDGE_API_KEY")
    with pytest.raises(TaskError, match="export TEST_JUDGE_API_KEY"):
        grade(["x"], task.test[:1], task)
    monkeypatch.setenv("TEST_JUDGE_API_KEY", "s3cret")
    grade(["x"], task.test[:1], task)
    assert found.keys == ["Bearer s3cret"]
    assert "s3cret" not in repr(task)
    with pytest.raises(TaskError, match="ends in _API_KEY"):
        judged(url, api_key="HF_TOKEN")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "http://me:key@host/v1"}, "without a user"),
        ({"model": ""}, "`model`"),
        ({"rubric": "Is {answer} right?"}, "{output}"),
        ({"scale": 0}, "`scale`"),
        ({"retries": True}, "`retries`"),
        ({"options": {"stop": ["x"]}}, "`options`"),
        ({"temprature": 1}, "Unknown key"),
    ],
)
def test_bad_settings_say_what_is_wrong(settings: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        judged("http://127.0.0.1:9/v1", **settings)


def test_another_rubric_is_another_task() -> None:
    url = "http://127.0.0.1:9/v1"
    assert judged(url).key == judged(url).key != judged(url, rubric="Grade {output}").key
