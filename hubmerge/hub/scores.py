"""Scores of models on a card: as its metadata has them, and as a table."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ..text import shorten
from .markdown import escape, table

LONGEST_PROMPT = 120
"""Characters of a prompt that a card tells."""

_SEARCH_LABELS = {
    "searcher": "Searcher",
    "space": "What was searched",
    "granularity": "One of each number for every",
    "genes": "Numbers that were searched",
    "popsize": "Candidates a generation",
    "evaluations": "Candidates scored",
    "failed": "Candidates that failed",
    "examples": "Examples a candidate was scored on",
    "objectives": "What was to be as much as possible",
    "seed": "Seed",
    "seconds": "Time that scoring took",
    "tokens": "Tokens written meanwhile",
    "from": "Begun with the run",
}


@dataclass(frozen=True)
class CardRow:
    """One model's score on one split: `value` in 0..1 with its 95% interval `low`..`high`, over `n` examples.

    `dataset`: where the examples come from, "org/dataset@commit"; None where they are in no dataset of the Hub.
    `means`: what the score is, in words.
    """

    model: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    split: str
    task: str = ""
    dataset: str | None = None
    means: str = ""

    def __post_init__(self) -> None:
        within = -1e-9  # an interval computed in floating point may miss its own end by a rounding
        if min(self.low, self.value - self.low, self.high - self.value, 1 - self.high) < within or self.n < 1:
            raise ValueError(f"expected 0 <= low <= value <= high <= 1 and n >= 1, got {self}")


@dataclass(frozen=True)
class Pictures:
    """A picture of pictures in the `file` beside a card: what this model, in the first row, and each of `models`, by
    their names in the table, drew of `prompts`, a column each; none where they are not for everybody."""

    file: str
    models: Sequence[str]
    prompts: Sequence[str]

    def render(self) -> str:
        """The picture, and what is in it."""
        rows = ", then ".join(["**this model**", *map(escape, self.models)])
        told = (
            f"![The same prompts, drawn by this model and by those that it was made of]({quote(self.file)})\n\n"
            f"The same prompts of the test split, each from the same noise for every model. From above: {rows}."
        )
        columns = ", ".join(f"“{escape(shorten(prompt, LONGEST_PROMPT))}”" for prompt in self.prompts)
        return f"{told} From the left: {columns}." if columns else told


def eval_results(rows: Iterable[CardRow], task: str | None) -> list[EvalResult]:
    """Rows as the Hub's model-index has them; `task`: the Hub's name of what the model is for.

    An example set that is no dataset of the Hub goes by its task's name.
    """
    return [
        EvalResult(
            task_type=task or "text-generation",
            dataset_type=_dataset(row)[0] or row.task or row.metric,
            dataset_name=row.task or row.metric,
            dataset_split=row.split,
            dataset_revision=_dataset(row)[1],
            metric_type=row.metric,
            metric_value=round(row.value, 4),
            metric_name=f"{row.metric} (95% interval {row.low:.3f} to {row.high:.3f}, n={row.n})",
            metric_args={"n": row.n, "interval_95": [round(row.low, 4), round(row.high, 4)]},
        )
        for row in rows
    ]


def benchmark_result(row: CardRow, benchmark: str, about: str) -> bytes:
    """A file of .eval_results/: the score, in percent, as the Hub collects it for the task `benchmark` of the row's
    dataset, with what is to know `about` it (https://huggingface.co/docs/hub/eval-results)."""
    dataset, revision = _dataset(row)
    assert dataset is not None
    entry = EvalResultEntry(dataset, benchmark, round(100 * row.value, 2), dataset_revision=revision, notes=about)
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True).encode()


def _dataset(row: CardRow) -> tuple[str | None, str | None]:
    name, _, revision = (row.dataset or "").partition("@")
    return name or None, revision or None


def render_results(
    rows: Sequence[CardRow],
    own: Collection[str | None],
    curve: str | None,
    heatmap: str | None,
    search: Mapping[str, Any] | None,
    pictures: Pictures | None = None,
) -> str:
    """The section with all scores, those of the model itself (by one of the names `own`) in bold, `pictures` that it
    drew, the `curve` of the search, a `heatmap` of what it found, and what is to know of it; nothing where there is
    none."""
    parts = []
    if rows:
        cells = []
        for row in rows:
            name = f"**{escape(row.model)}**" if row.model in own else escape(row.model)
            score, interval = f"{100 * row.value:.1f}%", f"{100 * row.low:.1f}% to {100 * row.high:.1f}%"
            task = " / ".join(escape(text) for text in (row.task, row.metric) if text)
            cells.append((name, task, escape(row.split), f"{row.n:,}", score, interval))
        parts.append(table(("Model", "Measure", "Split", "n>", "Score>", "95% interval>"), cells))
        means = {row.metric: row.means for row in rows if row.means}
        parts += [f"The score by `{metric}` is {escape(words)}." for metric, words in means.items()]
    if pictures:
        parts.append(pictures.render())
    if curve:
        parts.append(f"![Best score so far, by candidates scored]({quote(curve)})")
    if heatmap:
        parts.append(f"![How much of each model goes in where]({quote(heatmap)})")
    if search:
        facts = [(escape(_SEARCH_LABELS.get(key, key)), _fact(key, value)) for key, value in search.items()]
        parts.append("### The search\n\n" + table(("Fact", "Value"), facts))
    return "## Results\n\n" + "\n\n".join(parts) if parts else ""


def _fact(key: str, value: Any) -> str:
    if key == "seconds":
        minutes, seconds = divmod(round(float(value)), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    # A seed is a name, not an amount: no thousands separators.
    return f"{value:,}" if isinstance(value, int) and key != "seed" else escape(value)
