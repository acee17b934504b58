"""What a search reports: the final table, on examples that no candidate was ever chosen by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...documents import is_number, parse_object
from ...errors import SearchError
from ...evaluate.table import Row
from ...hub.card import Evaluation as CardRow

EVOLVED = "evolved"


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
