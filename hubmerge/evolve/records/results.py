"""results.json: the end of a search - its winner, what it took, and the final table."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...documents import is_number, parse_object
from ...errors import SearchError
from ...evaluate.table import Row
from ...evaluate.task import Task
from .folder import RESULTS_FILE

_DATASET = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")

EVOLVED = "evolved"
"""What the winner is called in the table."""


@dataclass(frozen=True)
class Results:
    """What a finished search leaves behind; plain values but for the rows.

    `key`: of the search (`search_key`). `facts`: searcher, popsize, evaluations, seed, seconds and so on. `winner`: its
    candidate, its recipe and its scores. `task`: what a card says of it (`told_of`). `front`: numbers of the Pareto
    front's evaluations. `rows`: the table, all of the same problems.
    """

    key: str
    facts: Mapping[str, Any]
    winner: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    front: tuple[int, ...] = ()
    task: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The content of results.json; the problems of the rows are named once."""
        problems = self.rows[0].problems if self.rows else ()
        assert all(row.problems == problems for row in self.rows)
        rows = [{name: value for name, value in asdict(row).items() if name != "problems"} for row in self.rows]
        document: dict[str, Any] = {"key": self.key, "search": self.facts, "winner": self.winner, "task": self.task}
        document |= {"front": self.front, "problems": problems, "rows": rows}
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, path: Path, key: str | None = None) -> "Results":
        """Reads results.json; raises `SearchError` where it is damaged, or another search's than that of `key`."""
        try:
            document = results_document(path)
            problems = tuple(document["problems"])
            rows = tuple(
                Row(**{**row, "gain": row["gain"] and tuple(row["gain"])}, problems=problems)
                for row in document["rows"]
            )
            for row in rows:
                _require_sound(row)
            front, task = tuple(document.get("front", ())), document.get("task", {})
            found = cls(document["key"], document["search"], document["winner"], rows, front, task)
            if not all(isinstance(part, Mapping) for part in (found.facts, found.winner, found.task)):
                raise TypeError("a list or a figure where names were expected")
        except (ValueError, KeyError, TypeError) as exc:
            raise _damaged(path, exc) from None
        if key not in (None, found.key):
            raise SearchError(f"{path} is the result of another search; give another output folder.")
        return found


def results_document(path: Path) -> dict[str, Any]:
    """The mapping that a results.json holds, whatever is in it. Raises `SearchError` where it holds none."""
    try:
        return parse_object(path.read_bytes(), "it", SearchError)
    except (OSError, SearchError) as exc:
        raise _damaged(path, exc) from None


def is_finished(out: Path, key: str) -> bool:
    """Whether the folder holds the result of just this search. Raises `SearchError` where the result is damaged."""
    path = out / RESULTS_FILE
    if not path.exists():
        return False
    document = results_document(path)
    if "key" not in document:
        raise _damaged(path, KeyError("key"))
    return bool(document["key"] == key)


def told_of(task: Task, whole: bool = True) -> dict[str, Any]:
    """What a card says of the task: its name, metric and what that means, language and dataset, and an example for the
    usage code; and the benchmark that it is, where the `whole` test split was asked."""
    example = (task.test or task.validation or task.search)[0].prompt
    told: dict[str, Any] = {"name": task.name, "metric": task.metric, "language": task.language, "example": example}
    told["means"] = task.means
    if whole and task.benchmark is not None:
        told["benchmark"] = task.benchmark
    return told | {"dataset": task.source if _DATASET.fullmatch(task.source or "") else None}


def _require_sound(row: Row) -> None:
    if len(row.marks) != row.n:
        raise ValueError("not as many values as problems")
    if not (isinstance(row.model, str) and isinstance(row.note, str)):
        raise TypeError("a name that is no text")
    numbers = (row.value, row.low, row.high, row.metric, row.language, *(row.gain or ()))
    if not all(map(is_number, (*numbers, *(() if row.p_value is None else (row.p_value,))))):
        raise TypeError("a figure that is no number")


def _damaged(path: Path, reason: Exception) -> SearchError:
    return SearchError(f"{path} is not a result of a search ({reason}); delete it and resume.")
