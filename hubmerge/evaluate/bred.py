"""The questions that a model was bred on: named in a file beside the weights of a search's winner, by `problem_id`.

Which questions are in a test split depends on the sizes that a search gives where the splits are cut from one file. So
whoever tests the winner later, with other sizes, would ask it what it was chosen by, but for this file.
"""

import json
import re
from dataclasses import replace

from ..documents import parse_object
from ..errors import SourceError, TaskError
from ..hub.source import Source
from .splits import TEST
from .task import Task

BRED_FILE = "bred-on.json"
_NAME = re.compile(r"[0-9a-f]{16}")


def bred_file(task: Task) -> bytes:
    """The content of the file: what a search of `task` asks before its end, by split."""
    names = {split: task.problems(split) for split in ("search", "validation")}
    return (json.dumps(names) + "\n").encode()


def bred_on(source: Source) -> frozenset[str]:
    """What the problems are called that the model was bred on; nothing where it tells none. Raises `SourceError` for a
    file that does not say it."""
    text = source.read_text(BRED_FILE)
    if text is None:
        return frozenset()
    listed = list(parse_object(text, f"{BRED_FILE} of {source.name}", SourceError).values())
    names = [name for one in listed if isinstance(one, list) for name in one]
    if not all(isinstance(one, list) for one in listed) or not all(map(_NAME.fullmatch, map(str, names))):
        raise SourceError(f"{BRED_FILE} of {source.name} names no questions; it was damaged, so push the model again.")
    return frozenset(names)


def without_bred(task: Task, source: Source) -> tuple[Task, int]:
    """The task without the test questions that the model was bred on, and how many these are. Raises `TaskError` where
    none is left."""
    bred = bred_on(source)
    known = [name in bred for name in task.problems(TEST)]
    if not any(known):
        return task, 0
    left = tuple(example for example, was in zip(task.test, known, strict=True) if not was)
    if not left:
        raise TaskError(
            f"The search that {source.name} comes from asked all {len(known)} test questions of {task.name}, so they "
            "tell nothing of how good it is; name others for `test`."
        )
    return replace(task, test=left), len(known) - len(left)
