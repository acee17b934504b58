"""What a search reports: the final table, on examples that no candidate was ever chosen by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..documents import parse_object
from ..errors import SearchError
from ..evaluate.statistics import Marks, interval, marks_of, paired_interval, paired_p
from ..hub.card import Evaluation as CardRow
from ..progress import Event, Progress
from ..recipe import Recipe
from ..reference import ModelRef
from .baselines import LABELS, baseline
from .journal import pack, unpack
from .measurement import Job, Measurement
from .path import LayerPath
from .pool import Pool, measure_all
from .search import Search
from .spec import is_number

Candidate = Recipe | ModelRef | LayerPath
"""What can be scored: a merge, a path through layers, a plain model."""

EVOLVED = "evolved"
EVOLVED_RECIPE = "evolved in parameter space"
COMPARED_LABELS = {"random": "random search, same budget", "grid": "grid of two scalars, same budget"}


@dataclass(frozen=True)
class Row:
    """One line of the final table.

    `value` is the plain score, 0..1, with its 95% interval; `metric` and `language` are its two parts, and `values`
    the score on each of `problems`, packed. `p_value` compares with the evolved model on the same problems (exact
    McNemar where all values are 0 or 1), `gain` is the 95% paired bootstrap interval of evolved minus this; both are
    None for the evolved model itself. `note` says how the model was chosen, where that was among several.
    """

    model: str
    value: float
    low: float
    high: float
    n: int
    metric: float
    language: float
    p_value: float | None
    gain: tuple[float, float] | None
    values: str | list[float]
    problems: tuple[str, ...]
    note: str = ""

    @classmethod
    def of(cls, model: str, measured: Measurement, evolved: Measurement | None, note: str = "") -> "Row":
        """The row of what was `measured`; `evolved` is that of the evolved model, None where this is it."""
        low, high = interval(measured.values)
        return cls(
            model=model,
            value=measured.score,
            low=low,
            high=high,
            n=measured.n,
            metric=measured.metric,
            language=measured.language,
            p_value=None if evolved is None else paired_p(evolved.marks, measured.marks),
            gain=None if evolved is None else paired_interval(evolved.marks, measured.marks),
            values=pack(measured.values),
            problems=measured.problems,
            note=note,
        )

    @property
    def marks(self) -> Marks:
        """The score on each problem, by its name."""
        return marks_of(self.problems, unpack(self.values))


def contestants(search: Search) -> dict[str, Candidate]:
    """What the winner is compared with, by the name it has in tables: base, models, untuned merges."""
    found: dict[str, Candidate] = {}
    if search.base_model is not None:
        found[f"{search.base_model.title} (base)"] = search.base_model
    titles = [model.title for model in search.models]
    for model in search.models:
        found[model.title if titles.count(model.title) == 1 else str(model)] = model
    for name in search.baselines:
        if name in LABELS and (recipe := baseline(name, search)) is not None:
            found[LABELS[name]] = recipe
    return found


def final_rows(
    others: Mapping[str, Candidate], winner: Candidate, pool: Pool, progress: Progress, notes: Mapping[str, str]
) -> tuple[Row, ...]:
    """Scores the winner and all `others` on the test split, which is opened here and only here; `notes` for some rows.

    A merge that cannot be built (an average of models with other numbers of layers) has no row; a model that cannot
    be asked, or a winner, raises `SearchError`.
    """
    everyone = {**others, EVOLVED: winner}
    # Recipes first: what holds them in memory may have to make room for what holds the winner.
    names = sorted(everyone, key=lambda name: not isinstance(everyone[name], Recipe))

    def tell(done: int) -> None:
        progress(Event("test", done, len(names), "models", note=names[min(done, len(names) - 1)]))

    results = dict(zip(names, measure_all(pool, [(everyone[name], Job("test")) for name in names], tell), strict=True))
    for name, result in results.items():
        if result.measurement is None and not isinstance(others.get(name), Recipe):
            raise SearchError(f"{name} could not be scored on the test split: {result.error}")
    found = {name: results[name].measurement for name in everyone}
    evolved = found[EVOLVED]
    return tuple(
        Row.of(name, measured, None if name == EVOLVED else evolved, notes.get(name, ""))
        for name, measured in found.items()
        if measured is not None
    )


def card_rows(rows: Sequence[Row], title: str, metric: str, task: str) -> tuple[CardRow, ...]:
    """The table in the card's terms; the evolved model goes by `title`."""
    return tuple(
        CardRow(_in_card(row, title), metric, row.value, row.low, row.high, row.n, "test", task) for row in rows
    )


def _in_card(row: Row, title: str) -> str:
    return title if row.model == EVOLVED else f"{row.model} ({row.note})" if row.note else row.model


def to_json(key: str, facts: Mapping[str, Any], winner: Mapping[str, Any], rows: Sequence[Row], **more: Any) -> bytes:
    """The content of results.json; `more` are further plain values, such as the Pareto front's numbers.

    All rows are of the same problems, which are named once.
    """
    problems = rows[0].problems if rows else ()
    assert all(row.problems == problems for row in rows)
    plain = [{name: value for name, value in asdict(row).items() if name != "problems"} for row in rows]
    document = {"key": key, "search": facts, "winner": winner, **more, "problems": problems, "rows": plain}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Stored:
    """A results.json read back."""

    facts: Mapping[str, Any]
    winner: Mapping[str, Any]
    rows: tuple[Row, ...]


def from_json(path: Path, key: str | None = None) -> Stored:
    """Reads results.json; raises `SearchError` where it is damaged, or another search's than that of `key`."""
    try:
        document = parse_object(path.read_bytes(), "it", SearchError)
        problems = tuple(document["problems"])
        rows = tuple(
            Row(**{**row, "gain": row["gain"] and tuple(row["gain"])}, problems=problems) for row in document["rows"]
        )
        if any(len(row.marks) != row.n for row in rows):
            raise ValueError("not as many values as problems")
        if not all(isinstance(row.model, str) and isinstance(row.note, str) for row in rows):
            raise TypeError("a name that is no text")
        numbers = [(row.value, row.low, row.high, row.metric, row.language, *(row.gain or ())) for row in rows]
        numbers += [(row.p_value,) for row in rows if row.p_value is not None]
        if not all(is_number(number) for few in numbers for number in few):
            raise TypeError("a figure that is no number")
        found, stored = document["key"], Stored(document["search"], document["winner"], rows)
    except (OSError, ValueError, KeyError, TypeError, SearchError) as exc:
        raise SearchError(f"{path} is not a result of a search ({exc}); delete it and resume.") from None
    if key not in (None, found):
        raise SearchError(f"{path} is the result of another search; give another output folder.")
    return stored
