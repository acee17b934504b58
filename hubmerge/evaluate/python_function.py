"""A metric of the user's own: `python: score.py:grade`, a function (outputs, examples) -> one number 0..1 each.

An output is a text, or where the task has pictures drawn an image of Pillow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import TaskError
from .examples import Example


@dataclass(frozen=True)
class PythonFunction:
    """A function of a file that the user named; its `source` is part of the task, so what was read is what is run.

    path: of the file, for messages. name: of the function. source: the file's text; a change of it is another task.
    The file stands alone: it may import installed packages but not its neighbours.
    """

    path: str
    name: str
    source: str

    @classmethod
    def from_text(cls, given: Any) -> "PythonFunction":
        """The function that a task's `python: path/file.py:function` names. Raises `TaskError` where there is none."""
        path, _, name = given.rpartition(":") if isinstance(given, str) else ("", "", "")
        if not path.endswith(".py") or not name.isidentifier():
            raise TaskError(f"`python` of the task must name a function, as in score.py:grade, got {given!r}.")
        try:
            source = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise TaskError(f"The metric's file {path} cannot be read: {exc}.") from None
        made = cls(path, name, source)
        _load(made)
        return made

    def grade(self, outputs: Sequence[Any], examples: Sequence[Example]) -> list[float]:
        """What each output is worth, as the function says. Raises `TaskError` where it fails or says anything else."""
        where = f"{self.name} of {self.path}"
        try:
            values = [float(value) for value in _load(self)(list(outputs), list(examples))]
        except (Exception, SystemExit) as exc:  # whatever the user's code raises
            raise TaskError(f"The metric {where} failed: {type(exc).__name__}: {exc}.") from exc
        if len(values) != len(outputs):
            raise TaskError(f"The metric {where} gave {len(values)} values for {len(outputs)} outputs.")
        if not all(0 <= value <= 1 or math.isnan(value) for value in values):
            raise TaskError(f"The metric {where} must give numbers in 0..1 (or NaN), got {min(values)}..{max(values)}.")
        return values


@lru_cache(maxsize=8)
def _load(function: PythonFunction) -> Any:
    names: dict[str, Any] = {"__name__": "hubmerge_metric", "__file__": function.path}
    try:
        exec(compile(function.source, function.path, "exec"), names)  # the user's own file, named in the task
    except (Exception, SystemExit) as exc:
        raise TaskError(f"The metric's file {function.path} cannot be run: {type(exc).__name__}: {exc}.") from exc
    found = names.get(function.name)
    if not callable(found):
        raise TaskError(f"{function.path} has no function {function.name!r}.")
    return found
