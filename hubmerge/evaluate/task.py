"""A task: examples in three splits that share nothing, and how an answer is judged.

name: ja-word-problems
examples:
  repo_id: org/dataset        # or folder: ./data, or neither, with the rows written below
  revision: main
  search: search.jsonl        # .jsonl, .json, .csv or .tsv; or a list of rows
  validation: validation.jsonl
  test: test.jsonl
prompt: "{question}"          # fields of a row in braces
answer: "{answer}"
metric: exact_number
language: ja                  # optional: the answer must also be in this language
max_new_tokens: 32
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import TaskError
from ..yamlfile import load_mapping, refuse_unknown
from . import language
from .examples import Row, Rows, fill, open_rows
from .metrics import METRICS, normalise, numbers

SPLITS = ("search", "validation", "test")
"""The three splits: candidates are scored on the first, the winner is chosen on the second, reported on the third."""


@dataclass(frozen=True)
class Example:
    """One question and its right answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Task:
    """Examples and the way to judge them, validated. Raises `TaskError` at construction.

    `language` is an ISO 639 code or None; `source` names where the examples come from, with the commit
    ("org/dataset@4f2a..."), or is None for rows written in the task itself.
    """

    name: str
    search: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    metric: str = "exact_number"
    language: str | None = None
    max_new_tokens: int = 256
    system: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise TaskError(f"Task {self.name}: unknown metric {self.metric!r}; known: {', '.join(METRICS)}.")
        if self.language is not None and self.language not in language.languages():
            raise TaskError(
                f"Task {self.name}: {self.language!r} is not a language that can be detected; expected an ISO 639 "
                "code such as ja, en or sw."
            )
        if self.max_new_tokens < 1:
            raise TaskError(f"Task {self.name}: max_new_tokens must be at least 1, got {self.max_new_tokens}.")
        if not any(self.split(name) for name in SPLITS):
            raise TaskError(f"Task {self.name} has no examples; name files for {', '.join(SPLITS)} under `examples`.")
        if self.metric == "exact_number":
            for name in SPLITS:
                for example in self.split(name):
                    if not numbers(example.answer):
                        raise TaskError(
                            f"Task {self.name}: the {name} example {_short(example.prompt)!r} has the answer "
                            f"{_short(example.answer)!r}, which holds no number."
                        )
        self._require_disjoint()

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of one split: "search", "validation" or "test"."""
        assert name in SPLITS
        return getattr(self, name)

    @property
    def key(self) -> str:
        """A sha256 of the task's content: two tasks with one key ask and judge the same."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def _require_disjoint(self) -> None:
        seen: dict[str, str] = {}
        for name in SPLITS:
            for example in self.split(name):
                other = seen.setdefault(normalise(example.prompt), name)
                if other != name:
                    raise TaskError(
                        f"Task {self.name}: the example {_short(example.prompt)!r} is in both the {other} and the "
                        f"{name} split; remove it from one, or the result measures memory."
                    )


BUILTIN: Mapping[str, Mapping[str, Any]] = {
    "ja-word-problems": {
        "name": "ja-word-problems",
        "examples": {
            "repo_id": "hubmerge-demo/ja-word-problems",
            "search": "search.jsonl",
            "validation": "validation.jsonl",
            "test": "test.jsonl",
        },
        "metric": "exact_number",
        "language": "ja",
        "max_new_tokens": 32,
    },
    # MGSM-JA, the paper's test set (Shi et al. 2022, arXiv 2210.03057): only ever a test split.
    "mgsm-ja": {
        "name": "mgsm-ja",
        "examples": {"repo_id": "juletxara/mgsm", "test": "mgsm_ja.tsv", "columns": ["question", "answer"]},
        "metric": "exact_number",
        "language": "ja",
        "max_new_tokens": 512,
    },
}
"""Tasks known by name."""

_KEYS = ("name", "examples", "prompt", "answer", "metric", "language", "max_new_tokens", "system")
_EXAMPLE_KEYS = ("repo_id", "folder", "revision", "columns", *SPLITS)


def task_document(spec: str | Path | Mapping[str, Any], relative_to: Path = Path()) -> dict[str, Any]:
    """The plain values of a task given by built-in name, YAML file or values; its `folder` is made absolute.

    `relative_to` is the folder that a path in `spec` starts from. Raises `TaskError` for unknown names and keys.
    """
    if isinstance(spec, Mapping):
        document = dict(spec)
    elif isinstance(spec, str) and spec in BUILTIN:
        document = dict(BUILTIN[spec])
    elif isinstance(spec, (str, Path)) and (path := relative_to / Path(spec).expanduser()).exists():
        document, relative_to = load_mapping(path, "task", TaskError), path.parent
    else:
        raise TaskError(f"There is no task {str(spec)!r}; give a YAML file or one of: {', '.join(BUILTIN)}.")
    refuse_unknown(document, _KEYS, "the task", TaskError)
    where = document.get("examples")
    if not isinstance(where, Mapping):
        raise TaskError("The task needs `examples:` with repo_id or folder and a file for at least one split.")
    refuse_unknown(where, _EXAMPLE_KEYS, "the task's examples", TaskError)
    if where.get("repo_id") is None and any(isinstance(where.get(split), str) for split in SPLITS):
        folder = relative_to / Path(str(where.get("folder") or "")).expanduser()
        document["examples"] = {**where, "folder": str(folder.resolve())}
    return document


def load_task(
    spec: str | Path | Mapping[str, Any],
    *,
    token: str | None = None,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Task:
    """Reads a task from a built-in name, a YAML file or plain values, and its examples from the Hub or from disk.

    `counts` limits splits ({"search": 100}) after a shuffle that `seed` fixes; a split not named is taken whole.
    Splits that name the same file are cut from it one after the other, so they share nothing. A question repeated
    inside one file counts once. Raises `TaskError` for a bad task and `HubError` where the dataset cannot be read.
    """
    document = task_document(spec)
    name, where = str(document.get("name") or "task"), document["examples"]
    rows = open_rows(where, token=token)
    splits = _cut(name, rows, where, document, counts or {}, seed)
    return Task(
        name,
        **splits,
        metric=document.get("metric", "exact_number"),
        language=_text(document, "language"),
        max_new_tokens=_whole(document.get("max_new_tokens", 256), f"max_new_tokens of task {name}"),
        system=_text(document, "system"),
        source=rows.source,
    )


def _cut(
    task: str,
    rows: Rows,
    where: Mapping[str, Any],
    document: Mapping[str, Any],
    counts: Mapping[str, int],
    seed: int,
) -> dict[str, tuple[Example, ...]]:
    """The examples of each split, shuffled by `seed` and limited by `counts`."""
    refuse_unknown(counts, SPLITS, f"the split sizes of task {task}", TaskError)
    prompt, answer = document.get("prompt", "{question}"), document.get("answer", "{answer}")
    pools: dict[str, list[Example]] = {}
    splits: dict[str, tuple[Example, ...]] = {}
    for split in SPLITS:
        file = where.get(split)
        if file is None:
            continue
        origin = str(file) if isinstance(file, str) else f"the {split} rows"
        if origin not in pools:
            made = _examples(rows.read(file, split), prompt, answer, f"task {task}, {origin}")
            pools[origin] = random.Random(seed).sample(made, len(made))
        pool = pools[origin]
        limit = _whole(counts.get(split, max(len(pool), 1)), f"the size of the {split} split of task {task}")
        splits[split], pools[origin] = tuple(pool[:limit]), pool[limit:]
        if not splits[split]:
            raise TaskError(f"Task {task}: no examples are left in {origin} for the {split} split.")
    return splits


def _examples(rows: Iterable[Row], prompt: str, answer: str, where: str) -> list[Example]:
    made: dict[str, Example] = {}
    for number, row in enumerate(rows, start=1):
        example = Example(fill(prompt, row, f"{where}, row {number}"), fill(answer, row, f"{where}, row {number}"))
        if not example.prompt.strip():
            raise TaskError(f"{where}, row {number}: the prompt is empty.")
        made.setdefault(normalise(example.prompt), example)
    return list(made.values())


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        # YAML reads a bare `no` (Norwegian) as false.
        raise TaskError(f"`{key}` of the task must be text (in quotes), got {value!r}.")
    return value


def _whole(value: Any, what: str) -> int:
    if type(value) is not int or value < 1:
        raise TaskError(f"{what} must be a whole number of at least 1, got {value!r}.")
    return value


def _short(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def sizes(task: Task) -> Sequence[str]:
    """One phrase a split, for people: ["search 100", "test 300"]."""
    return [f"{name} {len(task.split(name))}" for name in SPLITS if task.split(name)]
