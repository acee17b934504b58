"""Scores of one model on a set of examples."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ..progress import Event, Progress, silent
from . import harness, seeing, statistics
from .drawing import Painter
from .generation import answers
from .harness import HarnessTask
from .language import THRESHOLD, probability
from .likelihood import Likelihood, loglikelihoods
from .metrics import METRICS
from .seeing import Seen
from .task import Example, Task
from .texts import as_asked


@dataclass(frozen=True)
class Scores:
    """What one model did on each example, in their order.

    `metric`: the metric's value, 0..1. `language`: P(task's language) of the output, 1.0 where the task asks for none.
    `values`: the metric's value where the output is in that language, else 0. `tokens` were generated, or scored where
    nothing is generated; `seconds` is the time that asking and scoring took. `ungraded` outputs could not be graded (a
    judge's reply without a grade, NaN of a function) and count as 0.
    """

    values: tuple[float, ...]
    metric: tuple[float, ...]
    language: tuple[float, ...]
    outputs: tuple[str, ...]
    tokens: int = 0
    seconds: float = 0.0
    ungraded: int = 0

    @property
    def n(self) -> int:
        """How many examples were scored."""
        return len(self.values)

    @property
    def score(self) -> float:
        """The mean value, 0..1."""
        return math.fsum(self.values) / self.n

    @property
    def metric_share(self) -> float:
        """The mean of the metric, whatever the language, 0..1."""
        return math.fsum(self.metric) / self.n

    @property
    def language_share(self) -> float:
        """The share answered in the task's language, 0..1."""
        return sum(p > THRESHOLD for p in self.language) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `score`: Wilson's where all values are 0 or 1, else the bootstrap's."""
        return statistics.interval(self.values)

    @property
    def correct(self) -> tuple[bool, ...]:
        """Which examples are worth more than half."""
        return tuple(value > 0.5 for value in self.values)


@dataclass(frozen=True)
class _Replies:
    """What a model said to some examples, and what that is worth where asking tells it already."""

    texts: Sequence[str]
    tokens: int
    values: Sequence[float] | None = None


def evaluate(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    task: Task,
    *,
    batch_size: int = 64,
    block_ends: Sequence[int] = (),
    stop: Callable[[Sequence[float]], bool] | None = None,
    memory: int | None = None,
    seen: Seen | None = None,
    progress: Progress = silent,
) -> Scores:
    """Asks `model` the examples as `task` says, and values the replies.

    `memory`: bytes that the model and its answers may take, to which batches are fitted. `tokenizer`: where the task
    shows pictures, the model's processor; `seen`: what its tower has made of them before. Where the task has pictures
    drawn, `model` is a `Painter` and there is no tokenizer.

    `block_ends`: after how many examples a block ends, rising, the last all. After each block `stop` is told the values
    so far, and where it says so the scores are of these examples alone. The next block may have begun by then: what
    was generated for it counts among the tokens.

    `examples` are any of the task's, at least one: what an example is worth does not depend on those beside it, so a
    split can be asked in pieces. Raises `TaskError` for examples that do not fit the model and `NetworkError` where a
    judge does not answer.
    """
    assert examples
    started = time.perf_counter()
    parts: list[Scores] = []
    asking = _Asking(model, as_asked(tokenizer, task.chat_template), task, batch_size, memory, progress, seen)
    for replies in _ask(asking, examples, block_ends or (len(examples),)):
        asked = examples[sum(part.n for part in parts) :][: len(replies.texts)]
        values = replies.values if replies.values is not None else _grade(replies.texts, asked, task)
        parts.append(_scores(replies.texts, values, task, replies.tokens, 0.0))
        if stop is not None and stop([value for part in parts for value in part.values]):
            break
    return replace(_joined(parts), seconds=time.perf_counter() - started)


def _joined(parts: Sequence[Scores]) -> Scores:
    """The scores of blocks of examples as those of all, in their order."""
    whole = parts[0]
    for part in parts[1:]:
        whole = replace(whole, **{name: value + getattr(part, name) for name, value in vars(whole).items()})
    return whole


def grade(outputs: Sequence[str], examples: Sequence[Example], task: Task) -> Scores:
    """Scores given outputs, one per example, of a task whose model answers in text."""
    return _scores(outputs, _grade(outputs, examples, task), task, 0, 0.0)


def _grade(outputs: Sequence[str], examples: Sequence[Example], task: Task) -> list[float]:
    grader = task.asked.grade or getattr(task.settings, "grade", None)
    assert grader is not None
    return grader(outputs, examples)


def _scores(outputs: Sequence[str], found: Sequence[float], task: Task, tokens: int, seconds: float) -> Scores:
    metric = tuple(0.0 if math.isnan(value) else float(value) for value in found)
    language = tuple(probability(output, task.language) if task.language else 1.0 for output in outputs)
    values = tuple(value if p > THRESHOLD else 0.0 for value, p in zip(metric, language, strict=True))
    return Scores(values, metric, language, tuple(outputs), tokens, seconds, sum(map(math.isnan, found)))


@dataclass(frozen=True)
class _Asking:
    """Whom to ask, and how; as the parameters of `evaluate`."""

    model: Any
    tokenizer: Any
    task: Task
    batch_size: int
    memory: int | None
    progress: Progress
    seen: Seen | None = None

    @property
    def how(self) -> dict[str, Any]:
        """What all ways to ask are told."""
        return {"system": self.task.system, "batch_size": self.batch_size, "memory": self.memory}


def _ask(asking: _Asking, examples: Sequence[Example], ends: Sequence[int]) -> Iterator[_Replies]:
    """Yields what the model says to each block of the examples."""
    task = asking.task
    if task.asked.asks != "text":
        ask = _ASK[task.asked.asks]
        for start, end in pairwise((0, *ends)):
            yield ask(asking, examples[start:end])
        return
    how = {"max_new_tokens": task.max_new_tokens, "block_ends": ends, **asking.how}
    if task.sees:
        asked = seeing.answers(asking.model, asking.tokenizer, examples, seen=asking.seen, **how)
    else:
        asked = answers(asking.model, asking.tokenizer, [example.prompt for example in examples], **how)
    texts: dict[int, str] = {}
    made, counted = 0, 0
    for start, end in pairwise((0, *ends)):
        missing = set(range(start, end)) - texts.keys()
        while missing:
            answer = next(asked)
            texts[answer.index], made = answer.text, answer.tokens
            missing.discard(answer.index)
            asking.progress(Event("generate", len(texts), len(examples), "examples"))
        yield _Replies([texts[index] for index in range(start, end)], made - counted)
        counted = made


def _ask_choices(asking: _Asking, examples: Sequence[Example]) -> _Replies:
    pairs = [(example.prompt, choice) for example in examples for choice in example.choices]
    found = loglikelihoods(asking.model, asking.tokenizer, pairs, progress=asking.progress, **asking.how)
    worth = [_per(likelihood, choice, asking.task) for likelihood, (_, choice) in zip(found, pairs, strict=True)]
    chosen, at = [], 0
    for example in examples:
        own = worth[at : at + len(example.choices)]
        chosen.append(example.choices[own.index(max(own))])
        at += len(own)
    values = [float(choice == example.answer) for choice, example in zip(chosen, examples, strict=True)]
    return _Replies(chosen, sum(likelihood.tokens for likelihood in found), values)


def _ask_likelihood(asking: _Asking, examples: Sequence[Example]) -> _Replies:
    pairs = [(example.prompt, example.answer) for example in examples]
    found = loglikelihoods(asking.model, asking.tokenizer, pairs, progress=asking.progress, **asking.how)
    likely = (_per(likelihood, answer, asking.task) for likelihood, (_, answer) in zip(found, pairs, strict=True))
    values = list(map(math.exp, likely))
    texts = [f"log p {likelihood.total:.3f} over {likelihood.tokens} tokens" for likelihood in found]
    return _Replies(texts, sum(likelihood.tokens for likelihood in found), values)


def _ask_harness(asking: _Asking, examples: Sequence[Example]) -> _Replies:
    settings = asking.task.settings
    assert isinstance(settings, HarnessTask)
    made = harness.ask(settings, asking.model, asking.tokenizer, examples, progress=asking.progress, **asking.how)
    return _Replies(made.texts, made.tokens, made.values)


def _ask_pictures(asking: _Asking, examples: Sequence[Example]) -> _Replies:
    """What each example's pictures are worth: their mean over the seeds."""
    task, painter = asking.task, asking.model
    assert task.draw is not None and isinstance(painter, Painter)
    made = list(painter.draw(examples, task.draw, asking.batch_size, asking.progress))
    grade = getattr(task.settings, "grade", None)
    assert grade is not None
    grades = grade([picture for _, _, picture in made], [example for example, _, _ in made])
    told = [f"{value:.3f} (seed {seed})" for value, (_, seed, _) in zip(grades, made, strict=True)]
    count = len(task.draw.seeds)
    parts = range(0, len(made), count)
    values = [math.fsum(grades[at : at + count]) / count for at in parts]
    return _Replies([", ".join(told[at : at + count]) for at in parts], 0, values)


_Ask = Callable[[_Asking, Sequence[Example]], _Replies]
_ASK: dict[str, _Ask] = {
    "choices": _ask_choices,
    "likelihood": _ask_likelihood,
    "lm_eval": _ask_harness,
    "pictures": _ask_pictures,
}


def _per(likelihood: Likelihood, text: str, task: Task) -> float:
    """The log-likelihood divided by the length that the task's metric names."""
    length = {
        None: 1,
        "tokens": likelihood.tokens,
        "characters": len(text),
        "bytes": len(text.encode()),
    }[METRICS[task.metric].per]
    return likelihood.total / length
