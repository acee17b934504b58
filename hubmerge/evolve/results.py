"""What a search reports: the final table, on examples that no candidate was ever chosen by."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import SearchError
from ..evaluate.score import Scores, paired_interval, paired_p
from ..hub.card import Evaluation as CardRow
from ..progress import Event, Progress
from ..recipe import Recipe
from .baselines import LABELS, baseline
from .judge import Judge
from .search import Search

EVOLVED = "evolved"


@dataclass(frozen=True)
class Row:
    """One line of the final table.

    `value` is the plain score, 0..1, with its 95% interval; `number` and `language` are its two parts. `p_value`
    compares with the evolved model on the same examples (exact McNemar), `gain` is the 95% interval of evolved minus
    this; both are None for the evolved model itself.
    """

    model: str
    value: float
    low: float
    high: float
    n: int
    number: float
    language: float
    p_value: float | None
    gain: tuple[float, float] | None
    correct: str

    @classmethod
    def of(cls, model: str, scores: Scores, evolved: Scores | None) -> "Row":
        """The row of `scores`; `evolved` are those of the evolved model, None where these are they."""
        low, high = scores.interval
        return cls(
            model=model,
            value=scores.score,
            low=low,
            high=high,
            n=scores.n,
            number=scores.number_share,
            language=scores.language_share,
            p_value=None if evolved is None else paired_p(evolved.correct, scores.correct),
            gain=None if evolved is None else paired_interval(evolved.correct, scores.correct),
            correct="".join("1" if right else "0" for right in scores.correct),
        )


def final_rows(search: Search, winner: Recipe, judge: Judge, progress: Progress) -> tuple[Row, ...]:
    """Scores base, sources, untuned merges and the winner on the test split, which is opened here and only here."""
    contestants: dict[str, Callable[[], Scores]] = {}
    if search.base_model is not None:
        contestants[f"{search.base_model.repo_id} (base)"] = partial(judge.score_source, search.base_model, "test")
    repositories = [model.repo_id for model in search.models]
    for model in search.models:
        label = model.repo_id if repositories.count(model.repo_id) == 1 else str(model)
        contestants[label] = partial(judge.score_source, model, "test")
    for name in search.baselines:
        if (recipe := baseline(name, search)) is not None:
            contestants[LABELS[name]] = partial(judge.score, recipe, "test")
    contestants[EVOLVED] = partial(judge.score, winner, "test")
    scores: dict[str, Scores] = {}
    for name, ask in contestants.items():
        progress(Event("test", len(scores), len(contestants), "models", note=name))
        scores[name] = ask()
    progress(Event("test", len(contestants), len(contestants), "models"))
    evolved = scores[EVOLVED]
    return tuple(Row.of(name, found, None if name == EVOLVED else evolved) for name, found in scores.items())


def card_rows(rows: Sequence[Row], title: str, metric: str, task: str) -> tuple[CardRow, ...]:
    """The table in the card's terms; the evolved model goes by `title`."""
    return tuple(
        CardRow(title if row.model == EVOLVED else row.model, metric, row.value, row.low, row.high, row.n, "test", task)
        for row in rows
    )


def to_json(key: str, facts: Mapping[str, Any], winner: Mapping[str, Any], rows: Sequence[Row]) -> bytes:
    """The content of results.json."""
    document = {"key": key, "search": facts, "winner": winner, "rows": [asdict(row) for row in rows]}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Stored:
    """A results.json read back."""

    facts: Mapping[str, Any]
    winner: Mapping[str, Any]
    rows: tuple[Row, ...]


def from_json(path: Path, key: str) -> Stored:
    """Reads results.json; raises `SearchError` where it is another search's or damaged."""
    try:
        document = json.loads(path.read_bytes())
        rows = tuple(Row(**{**row, "gain": row["gain"] and tuple(row["gain"])}) for row in document["rows"])
        found, stored = document["key"], Stored(document["search"], document["winner"], rows)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SearchError(f"{path} is not a result of a search ({exc}); delete it and resume.") from None
    if found != key:
        raise SearchError(f"{path} is the result of another search; give another output folder.")
    return stored
