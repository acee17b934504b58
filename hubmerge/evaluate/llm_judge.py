"""Grades by a language model behind an OpenAI-compatible endpoint (/chat/completions: vLLM, TGI, llama.cpp, OpenAI).

judge:
  base_url: http://127.0.0.1:8000/v1
  model: org/judge
  api_key: JUDGE_API_KEY        # the NAME of an environment variable; leave out where none is needed
  rubric: |                     # fields: {prompt}, {answer}, {output}
    Is the reply a correct and polite answer? Question: {prompt} Reference: {answer} Reply: {output}
  scale: 10                     # grades go from 0 to this

Where a task has pictures drawn, a judge that sees is shown them: as image_url, with {output} saying that it follows.
"""

import base64
import io
import math
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..errors import NetworkError, TaskError
from .examples import TASK, Example, fill

RUBRIC = """Grade a reply to a question.

Question:
{prompt}

Reference answer:
{answer}

Reply to grade:
{output}

A reply that is as right and as helpful as the reference answer gets the highest grade, a wrong one 0."""

PICTURE_RUBRIC = """Grade a picture.

It was to show:
{prompt}

Reference:
{answer}

{output}

A picture that shows all of that and is well made gets the highest grade, one that shows none of it 0."""
"""In place of `RUBRIC` where pictures are graded."""

_LONGEST_WAIT = 60.0  # seconds between two tries
_AFTER_LABEL = re.compile(r"grade[^\w-]{0,5}(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_ALONE = re.compile(r"[^\w-]*(-?\d+(?:\.\d+)?)(?:\s*/\s*\d+)?\W*")

Option = str | int | float | bool


@dataclass(frozen=True)
class LlmJudge:
    """Where a judge is asked, and what. Raises `TaskError` at construction.

    `api_key` names an environment variable that ends in _API_KEY: a task file cannot make hubmerge send a Hub token or
    another secret away. `options` go into the request as they are, over temperature 0. A request may take `timeout`
    seconds, is repeated `retries` times where the endpoint is busy or unreachable, and `parallel` are open at once.
    """

    base_url: str
    model: str
    api_key: str | None = None
    rubric: str = RUBRIC
    scale: float = 10
    options: tuple[tuple[str, Option], ...] = ()
    timeout: float = 60
    retries: int = 5
    parallel: int = 8

    def __post_init__(self) -> None:
        for name in ("base_url", "model", "rubric"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise TaskError(f"`{name}` of the judge must be text, got {getattr(self, name)!r}.")
        if not re.match(r"https?://[^/\s@]+(/|$)", self.base_url):
            raise TaskError(
                f"`base_url` of the judge must look like http://host:8000/v1, without a user or key, "
                f"got {self.base_url!r}."
            )
        if self.api_key is not None and not re.fullmatch(r"[A-Z0-9_]*_API_KEY", str(self.api_key)):
            raise TaskError(
                "`api_key` of the judge must be the name of an environment variable that ends in _API_KEY (never the "
                "key itself)."
            )
        if "{output}" not in self.rubric:
            raise TaskError("`rubric` of the judge must hold {output}, the reply that is to be graded.")
        for name, least in (("scale", 0), ("timeout", 0), ("retries", -1), ("parallel", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= least:
                raise TaskError(f"`{name}` of the judge must be a number above {least}, got {value!r}.")

    @classmethod
    def from_dict(cls, given: Any) -> "LlmJudge":
        """The judge that a task's `judge:` describes."""
        if not isinstance(given, Mapping):
            raise TaskError(f"`judge` of the task must hold base_url and model, got {given!r}.")
        TASK.require_known(given, cls.__dataclass_fields__, "the task's judge")
        options = given.get("options") or {}
        if not isinstance(options, Mapping) or not all(isinstance(v, Option) for v in options.values()):
            raise TaskError(f"`options` of the judge must map names to numbers, text or true/false, got {options!r}.")
        return cls(**{"base_url": "", "model": "", **given, "options": tuple(sorted(options.items()))})

    def grade(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[float]:
        """What each output, a text or a picture (of Pillow), is worth, 0..1; NaN where the reply holds no grade.

        The same question about a text is asked once in a process. Raises `NetworkError` where the endpoint does not
        answer.
        """
        questions = [
            None if isinstance(output, str) and not output.strip() else self._question(output, example)
            for output, example in zip(outputs, examples, strict=True)
        ]
        different = list(dict.fromkeys(question for question in questions if question is not None))
        with ThreadPoolExecutor(int(self.parallel)) as pool:
            replies = dict(zip(different, pool.map(lambda one: _ask_of(self, *one), different), strict=True))
        return [0.0 if question is None else self._read(replies[question]) for question in questions]

    def reach(self) -> None:
        """Asks the endpoint one small question. Raises as `grade` does, but waits for it less."""
        _ask(replace(self, retries=min(self.retries, 1)), "Reply with one line: Grade: 0")

    def _question(self, output: Any, example: Example) -> tuple[str, str]:
        """What is asked, and the picture that it is about, as a data URL; "" for a text."""
        seen = not isinstance(output, str)
        fields = {"prompt": example.prompt, "answer": example.answer}
        fields["output"] = "The picture follows." if seen else output
        rubric = PICTURE_RUBRIC if seen and self.rubric == RUBRIC else self.rubric
        asked = fill(rubric, fields, "the judge's rubric")
        end = f"End with one line: Grade: N, where N is a number from 0 to {self.scale:g}."
        return f"{asked}\n\n{end}", _data_url(output) if seen else ""

    def _read(self, reply: str) -> float:
        labelled = _AFTER_LABEL.findall(reply)
        alone = _ALONE.fullmatch(reply)
        found = labelled[-1] if labelled else alone[1] if alone else "nan"
        grade = float(found) / self.scale
        return grade if 0 <= grade <= 1 else math.nan


def _data_url(picture: Any) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _ask_of(judge: LlmJudge, question: str, picture: str) -> str:
    if not picture:
        return _ask(judge, question)
    # Pictures are too large to be kept, and no two are the same.
    return _request(judge, [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": picture}}])


@lru_cache(maxsize=65_536)
def _ask(judge: LlmJudge, question: str) -> str:
    return _request(judge, question)


def _request(judge: LlmJudge, content: str | list[dict[str, Any]]) -> str:
    import httpx2

    body = {
        "model": judge.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        **dict(judge.options),
    }
    url = f"{judge.base_url.rstrip('/')}/chat/completions"
    problem = ""
    for attempt in range(int(judge.retries) + 1):
        asked: float | None = None
        try:
            response = httpx2.post(url, json=body, headers=_headers(judge), timeout=judge.timeout)
        except (httpx2.TransportError, httpx2.InvalidURL) as exc:
            problem = f"{type(exc).__name__}: {exc}"
        else:
            if response.status_code == 200:
                return _content(response, judge)
            problem = f"status {response.status_code}: {' '.join(response.text.split())[:200]}"
            if response.status_code not in (408, 409, 425, 429) and response.status_code < 500:
                break
            asked = _seconds(response.headers.get("retry-after", ""))
        if attempt < judge.retries:
            time.sleep(min(_LONGEST_WAIT, 2**attempt / 2 if asked is None else asked) * random.uniform(1, 1.25))
    raise NetworkError(f"The judge {judge.model} at {judge.base_url} did not answer ({problem}); is it running?")


def _headers(judge: LlmJudge) -> dict[str, str]:
    if judge.api_key is None:
        return {}
    key = os.environ.get(judge.api_key)
    if not key:
        raise TaskError(f"The judge's key is not set: export {judge.api_key}=..., or leave out `api_key`.")
    return {"Authorization": f"Bearer {key}"}


def _content(response: Any, judge: LlmJudge) -> str:
    try:
        return str(response.json()["choices"][0]["message"]["content"] or "")
    except (ValueError, LookupError, TypeError):
        raise NetworkError(
            f"{judge.base_url} does not answer as an OpenAI-compatible endpoint does; `base_url` often ends in /v1."
        ) from None


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None
