"""A task: examples in three splits that share nothing, how a model is asked, and what its replies are worth.

name: ja-word-problems
examples:
  repo_id: org/dataset        # or folder: ./data, or neither, with the rows written below
  revision: main
  search: search.jsonl        # .jsonl, .json, .csv, .tsv or .parquet; or a list of rows
  validation: validation.jsonl
  test: test.jsonl
prompt: "{question}"          # fields of a row in braces
image: photo                  # optional: the field with a picture, or with the path to one
answer: "{answer}"
metric: exact_number
language: ja                  # optional: the answer must also be in this language
max_new_tokens: 32
chat_template: false          # optional: the bare text is asked, also of a model that has a chat template

The kinds of tasks, by what stands in place of `metric: exact_number`:

metric: exact_match           # the whole reply is the answer
metric: strict_words          # the right words in their order, and no letter of another script
metric: rouge_l               # the longest common subsequence of words, Japanese too
metric: loglikelihood         # multiple choice; needs `choices:`, a field with a list or a list of templates
metric: loglikelihood_sum     # the same without dividing by the choices' lengths (lm-eval: acc; above: acc_norm)
metric: perplexity            # 1 / perplexity of the answer after the prompt, which may be ""; byte_perplexity
judge: {base_url: http://127.0.0.1:8000/v1, model: org/judge}     # see llm_judge.py
python: score.py:grade        # see python_function.py
lm_eval: gsm8k                # see harness.py
classifier: org/classifier    # of pictures that a pipeline draws; or clip: org/clip, judge:, python: (see looking.py)
draw: {steps: 8, seeds: [1]}  # how they are drawn (see drawing.py)

docs/tasks.md explains each.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import TaskError
from ..files import expand
from ..guesses import guess
from ..shown import Shown, Table
from ..text import shorten
from . import language
from .benchmark import require_benchmark
from .builtin import BUILTIN
from .drawing import Draw
from .examples import TASK, Example, Rows, open_rows, text_or_none
from .harness import HarnessTask
from .llm_judge import LlmJudge
from .located import absolute, example_files, lm_eval_files, one_file, require_here, split_files
from .looking import LOOKING, Classifier, Looking
from .metrics import METRICS, Metric, meaning
from .python_function import PythonFunction
from .splits import SPLITS, Template, cut, identity, problem_id

MAX_NEW_TOKENS = 256
"""Tokens of an answer, where the task does not say."""

Settings = LlmJudge | PythonFunction | HarnessTask | Looking
"""What a metric may need beside its name."""


@dataclass(frozen=True, repr=False)
class Task(Shown):
    """Examples and the way to judge them, validated. Raises `TaskError` at construction.

    `metric` is one of `METRICS`, `settings` are for those that need them. `language` is an ISO 639 code or None;
    `source` names where the examples come from, with the commit ("org/dataset@4f2a..."), or is None for rows written
    in the task itself and for lm-eval's. `chat_template`: whether questions go through that of the model, where it has
    one. `draw`: how pictures are made of the prompts, where these are what is judged.
    `benchmark`: what the dataset, which is a benchmark of the Hub, calls the task.
    """

    name: str
    search: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    metric: str = "exact_number"
    language: str | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    system: str | None = None
    source: str | None = None
    settings: Settings | None = None
    draw: Draw | None = None
    benchmark: str | None = None
    chat_template: bool = True

    def told(self) -> Table:
        """How many examples there are, what is asked and how it is judged."""
        splits = {"search": self.search, "validation": self.validation, "test": self.test}
        rows = [(split, f"{len(examples):,} examples") for split, examples in splits.items()]
        first = next((example.prompt for examples in splits.values() for example in examples), "")
        beside = {"metric": self.metric, "language": self.language, "from": self.source, "begins": shorten(first, 80)}
        return f"Task: {self.name}", rows + [(key, value) for key, value in beside.items() if value]

    def __post_init__(self) -> None:
        _require_sense(
            self.name,
            self.metric,
            self.settings is not None,
            self.language,
            self.system,
            self.draw,
            self.chat_template,
        )
        if self.sees and self.asked.asks != "text":
            raise TaskError(
                f"Task {self.name}: {self.metric} asks without pictures; leave out `image`, or name another metric."
            )
        if self.sees and not self.chat_template:
            raise TaskError(f"Task {self.name}: pictures are shown through the chat template; leave out that key.")
        if self.max_new_tokens < 1:
            raise TaskError(f"Task {self.name}: max_new_tokens must be at least 1, got {self.max_new_tokens}.")
        if not any(self.split(name) for name in SPLITS):
            raise TaskError(f"Task {self.name} has no examples; name files for {', '.join(SPLITS)} under `examples`.")
        for name in SPLITS:
            for example in self.split(name):
                if (flaw := getattr(self.settings, "flaw", self.asked.flaw)(example)) is not None:
                    where = example.where or f"an example of the {name} split"
                    raise TaskError(f"Task {self.name}: the answer of {where} {flaw}.")
        self._require_disjoint()

    @property
    def means(self) -> str:
        """What a score is, in words."""
        own = self.settings.says if isinstance(self.settings, Classifier) else ""
        return own or meaning(self.metric, self.language)

    @property
    def asked(self) -> Metric:
        """How a model is asked and its replies valued."""
        return _asked(self.metric, self.draw)

    @property
    def pins(self) -> dict[str, str]:
        """What its document is to say where it names a model that looks at pictures: classifier.model, pinned."""
        return {f"{self.metric}.model": self.settings.model} if isinstance(self.settings, Looking) else {}

    @cached_property
    def sees(self) -> bool:
        """Whether a picture is shown with a question."""
        return any(example.image is not None for name in SPLITS for example in self.split(name))

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of one split: "search", "validation" or "test"."""
        assert name in SPLITS
        return getattr(self, name)

    def problems(self, split: str) -> tuple[str, ...]:
        """What the problems of a split are called in everything that is recorded of them, in the split's order."""
        return self._problems[split]

    @cached_property
    def _problems(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(problem_id(example, self.asked.asks) for example in self.split(name)) for name in SPLITS}

    @property
    def key(self) -> str:
        """A sha256 of the task's content: two tasks with one key ask and judge the same."""
        content = asdict(self, dict_factory=_of_content)
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def _require_disjoint(self) -> None:
        seen: dict[str, tuple[str, Example]] = {}
        for name in SPLITS:
            for example in self.split(name):
                other, first = seen.setdefault(identity(example, self.asked.asks), (name, example))
                if other != name:
                    both = f" ({first.where} and {example.where})" if first.where and example.where else ""
                    raise TaskError(
                        f"Task {self.name}: one example is in both the {other} and the {name} split{both}; remove it "
                        "from one, or the result measures memory."
                    )


def _asked(metric: str, draw: Draw | None) -> Metric:
    return METRICS[metric] if draw is None else replace(METRICS[metric], asks="pictures")


def _require_sense(
    task: str,
    metric: str,
    has_settings: bool,
    spoken: str | None,
    system: str | None,
    draw: Draw | None,
    chat_template: bool,
) -> None:
    """Raises `TaskError` for settings of a task that do not go together, whatever its examples are."""
    if metric not in METRICS:
        raise TaskError(f"Task {task}: unknown metric {metric!r}{guess(metric, METRICS)}; known: {', '.join(METRICS)}.")
    if METRICS[metric].settings != has_settings:
        raise TaskError(f"Task {task}: the metric {metric} takes its settings from the key of its name.")
    asks = _asked(metric, draw).asks
    if spoken is not None and spoken not in language.languages():
        raise TaskError(
            f"Task {task}: {spoken!r} is not a language that can be detected; expected an ISO 639 code such as ja, en "
            "or sw."
        )
    if spoken is not None and asks != "text":
        raise TaskError(f"Task {task}: with {metric} the model writes nothing; leave out `language`.")
    if draw is None and asks == "pictures":
        raise TaskError(
            f"Task {task}: {metric} looks at pictures; say how they are drawn, as in `draw: {{steps: 20, seeds: [1]}}`."
        )
    if draw is not None and METRICS[metric].asks != "pictures" and metric not in _BOTH:
        raise TaskError(
            f"Task {task}: {metric} does not look at pictures that `draw` has made; name classifier, clip, judge or "
            "python."
        )
    if draw is not None and system is not None:
        raise TaskError(f"Task {task}: who draws is told no `system` message; leave it out.")
    if draw is not None and not chat_template:
        raise TaskError(f"Task {task}: who draws has no chat template; leave out `chat_template`.")


def _of_content(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """What counts of a value: not where it comes from, and no picture where there is none."""
    return {key: value for key, value in items if key != "where" and (key not in _NEWER or value != _NEWER[key])}


_BOTH = ("judge", "python")
"""Metrics of texts that look at pictures too, where a task has them drawn."""

_NEWER = {"image": None, "draw": None, "chat_template": True}
"""What tasks once had none of, and what says the same."""


_WITH_SETTINGS = tuple(name for name, metric in METRICS.items() if metric.settings)
_KEYS = (
    "name",
    "examples",
    "prompt",
    "answer",
    "image",
    "choices",
    "metric",
    *_WITH_SETTINGS,
    "language",
    "max_new_tokens",
    "system",
    "chat_template",
    "draw",
    "benchmark",
)
_EXAMPLE_KEYS = ("repo_id", "folder", "revision", "columns", "each", *SPLITS)


def task_document(spec: str | Path | Mapping[str, Any], relative_to: Path = Path()) -> dict[str, Any]:
    """The plain values of a task given by built-in name, YAML file or values; the paths in it are made absolute.

    `relative_to` is the folder that a path in `spec` starts from. Raises `TaskError` for unknown names and keys.
    """
    if isinstance(spec, Mapping):
        TASK.require_plain(spec)
        document = dict(spec)
    elif isinstance(spec, str) and spec in BUILTIN:
        document = dict(BUILTIN[spec])
    elif isinstance(spec, (str, Path)) and os.path.exists(path := relative_to / expand(spec, TaskError)):
        document, relative_to = TASK.load(path), path.parent
    else:
        known, said = f"{', '.join(BUILTIN)}{guess(spec, BUILTIN)}", _short(str(spec))
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(spec)) and not str(spec).endswith((".yaml", ".yml")):
            raise TaskError(
                f"There is no task {said!r}. A dataset of the Hub is named in a task, with the file of each split: "
                f"task: {{examples: {{repo_id: {said}, search: ..., validation: ..., test: ...}}}}. By name: {known}."
            )
        raise TaskError(f"There is no task {said!r}; give a YAML file or one of: {known}.")
    TASK.require_known(document, _KEYS, "the task")
    where = document.get("examples")
    if not isinstance(where, Mapping):
        raise TaskError("The task needs `examples:` with repo_id or folder and a file for at least one split.")
    TASK.require_known(where, _EXAMPLE_KEYS, "the task's examples")
    if (
        document.get("lm_eval") is None
        and text_or_none(where, "repo_id") is None
        and (document.get("image") is not None or any(isinstance(where.get(split), str) for split in SPLITS))
    ):
        folder = absolute(text_or_none(where, "folder") or "", relative_to, example_files(where, document.get("image")))
        document["examples"] = {**where, "folder": folder}
    if isinstance(document.get("python"), str):
        file, colon, function = document["python"].rpartition(":")
        document["python"] = f"{absolute(file, relative_to, one_file)}{colon}{function}"
    for key in LOOKING.keys() & document.keys():
        document[key] = _looking(document[key], relative_to)
    harness = document.get("lm_eval")
    if isinstance(harness, Mapping) and isinstance(harness.get("include_path"), str):
        include_path = absolute(harness["include_path"], relative_to, lm_eval_files)
        document["lm_eval"] = {**harness, "include_path": include_path}
    return document


def _looking(given: Any, relative_to: Path) -> Any:
    """What a task says of the model that looks at pictures, with the folder of that made absolute."""
    given = given if isinstance(given, Mapping) else {"model": given}
    if not isinstance(name := given.get("model"), str) or not name.startswith((".", "~")) or "@sha256:" in name:
        return given  # who opens it says what is wrong with it
    return {**given, "model": os.path.abspath(relative_to / expand(name, TaskError))}


def _require_files(document: Mapping[str, Any]) -> None:
    harness = document.get("lm_eval")
    python = document.get("python")
    named = [python.rpartition(":")[0] if isinstance(python, str) else None]
    named += [harness.get("include_path")] if isinstance(harness, Mapping) else []
    if isinstance(folder := document["examples"].get("folder"), str):
        require_here(folder, split_files(document["examples"]))
    for text in named:
        if isinstance(text, str):
            require_here(text)


def load_task(
    spec: str | Path | Mapping[str, Any],
    *,
    token: str | None = None,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Task:
    """Reads a task from a built-in name, a YAML file or plain values, and its examples from the Hub or from disk.

    `counts` limits splits ({"search": 100}); one not named is taken whole. `seed` draws and orders the search and the
    validation split; the test split is the same for every seed, in the same order. Splits that name the same file are
    cut from it one after the other, so they share nothing. A question repeated inside one file counts once. Raises
    `TaskError` for a bad task and `HubError` where the dataset cannot be read.
    """
    document = task_document(spec)
    _require_files(document)
    metric, name = _metric(document), name_of(document)
    if metric == "lm_eval":
        _require_harness_keys(document)
    # All that is written first; then what lies elsewhere: the examples, then who looks at what a model makes.
    draw = Draw.from_document(document["draw"]) if "draw" in document else None
    spoken, system, image, benchmark = (
        TASK.text(document, key) for key in ("language", "system", "image", "benchmark")
    )
    most = TASK.whole(document.get("max_new_tokens", MAX_NEW_TOKENS), f"max_new_tokens of task {name}", least=1)
    templated = document.get("chat_template", True)
    if not isinstance(templated, bool):
        raise TaskError(f"chat_template of task {name} must be true or false.")
    _require_sense(name, metric, document.get(metric) is not None, spoken, system, draw, templated)
    asks = METRICS[metric].asks
    if metric == "clip":
        document.setdefault("answer", document.get("prompt", Template.prompt))
    template = Template(
        **{key: document[key] for key in ("prompt", "answer", "choices") if key in document}, asks=asks, image=image
    )
    if (template.choices is not None) != (asks == "choices"):
        raise TaskError(f"Task {name}: `choices` and the metric loglikelihood go together; the metric is {metric}.")
    opened = None if metric == "lm_eval" else open_rows(document["examples"], token=token, image=image)
    if benchmark is not None and opened is not None:
        require_benchmark(benchmark, opened.source, opened.locate)
    settings = _settings(metric, document.get(metric), token)
    rows: HarnessTask | Rows | None = opened
    if isinstance(settings, HarnessTask):
        rows, name = settings, settings.task if not document.get("name") else name
    assert rows is not None
    splits = cut(name, rows, document["examples"], template, counts or {}, seed)
    return Task(
        name,
        **splits,
        metric=metric,
        language=spoken,
        max_new_tokens=most,
        system=system,
        source=rows.source,
        settings=settings,
        draw=draw,
        benchmark=benchmark,
        chat_template=templated,
    )


def name_of(document: Mapping[str, Any]) -> str:
    """What a task is called: by its name, else after the dataset or the file that its examples are of."""
    if document.get("name"):
        return str(document["name"])
    where = document["examples"]
    files = [where[split] for split in SPLITS if isinstance(where.get(split), str)]
    if where.get("repo_id") is not None:
        return str(where["repo_id"]).rpartition("/")[2]
    return PurePosixPath(files[-1]).name if files else "examples of its own"


def _require_harness_keys(document: Mapping[str, Any]) -> None:
    unfit = [key for key in document if key not in ("name", "examples", "lm_eval", "system")]
    if unfit := [*unfit, *(key for key in document["examples"] if key not in SPLITS)]:
        raise TaskError(f"`{unfit[0]}` does not go with `lm_eval`, whose task says it by itself; leave it out.")


def _metric(document: Mapping[str, Any]) -> str:
    """The metric's name."""
    named = [key for key in ("metric", *_WITH_SETTINGS) if document.get(key) is not None]
    if len(named) > 1:
        raise TaskError(f"The task names both `{named[0]}` and `{named[1]}`; keep one.")
    return named[0] if named and named[0] != "metric" else str(document.get("metric") or "exact_number")


def _settings(metric: str, given: Any, token: str | None) -> Settings | None:
    """A metric's settings, where what stands under its name is any."""
    if given is None:
        return None
    if metric in LOOKING:
        return LOOKING[metric].open(given, token)
    make: Mapping[str, Callable[[Any], Settings]] = {
        "judge": LlmJudge.from_dict,
        "python": PythonFunction.from_text,
        "lm_eval": HarnessTask.from_document,
    }
    return make[metric](given)


def _short(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def sizes(task: Task) -> Sequence[str]:
    """One phrase a split, for people: ["search 100", "test 300"]."""
    return [f"{name} {len(task.split(name))}" for name in SPLITS if task.split(name)]
