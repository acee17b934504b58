"""The texts that models are measured by: where they come from, and how a model reads them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RecipeError, TaskError
from ..evaluate.examples import FIELD, fill, open_rows
from ..evaluate.likelihood import encode_pairs
from ..evaluate.located import absolute, one_file, require_here, shared_path, shared_task
from ..evaluate.task import load_task, task_document
from ..places import folder_name
from ..recipe import Calibration
from ..reference import ModelRef
from ..stream.statistics import Texts

Row = tuple[list[int], int]
"""Token ids of a text, and the index of the first that is predicted, at least 1."""

_SPLIT = "search"


@dataclass(frozen=True)
class Chosen:
    """Texts that were drawn: prompts and answers, the prompt empty where a text stands for itself.

    `calibration`: the same with its source pinned, as recipes that leave this machine have it. `source` and `dataset`:
    see `Texts`.
    """

    pairs: Sequence[tuple[str, str]]
    system: str | None
    calibration: Calibration
    source: str
    dataset: str | None


def choose(calibration: Calibration, token: str | None) -> Chosen:
    """Draws the texts. Raises `TaskError`, `RecipeError` or `HubError`."""
    return _of_task(calibration, token) if calibration.task is not None else _of_file(calibration, token)


def rows(chosen: Chosen, tokenizer: Any, limit: int | None) -> list[Row]:
    """The texts as tokens, at most `limit` of each, and as many as the calibration says."""
    longest = min(chosen.calibration.tokens, limit or chosen.calibration.tokens)
    found = []
    for ids, start in encode_pairs(tokenizer, chosen.pairs, chosen.system):
        cut = ids[:longest]
        found.append((cut, start if start < len(cut) else 1))
    return found


def facts(chosen: Chosen, read: Sequence[Row]) -> Texts:
    """What is told of them."""
    return Texts(chosen.source, chosen.dataset, len(read), sum(len(ids) for ids, _ in read))


def _of_task(calibration: Calibration, token: str | None) -> Chosen:
    document = task_document(calibration.task)
    if document.get("python") is not None or document.get("judge") is not None:
        # Nothing is graded, and so no code is run for it.
        document = {key: value for key, value in document.items() if key not in ("python", "judge")}
        document["metric"] = "exact_match"
    if document["examples"].get(_SPLIT) is None:
        raise TaskError(
            f"The task {document.get('name', 'of the calibration')} has no {_SPLIT} split; models are measured by that "
            "one alone, never by the examples that they are tested with."
        )
    task = load_task(document, token=token, counts={_SPLIT: calibration.examples}, seed=calibration.seed)
    # A prompt without an answer that is known stands for itself.
    pairs = [(one.prompt, one.answer) if one.answer.strip() else ("", one.prompt) for one in task.search]
    repo_id = document["examples"].get("repo_id")
    if repo_id is not None and task.source is not None:
        commit = ModelRef.parse(task.source).revision
        document = {**document, "examples": {**document["examples"], "revision": commit}}
    source = f"the task {task.name}" + (f" ({_shown(task.source)})" if task.source else "")
    return Chosen(pairs, task.system, replace(calibration, task=shared_task(document)), source, repo_id)


def _of_file(calibration: Calibration, token: str | None) -> Chosen:
    file = str(calibration.file)
    if calibration.dataset is not None:
        ref = ModelRef.parse(calibration.dataset)
        at = {} if ref.revision is None else {"revision": ref.revision}
        found = open_rows({"repo_id": ref.repo_id, **at}, token=token)
        table, source = found.read(file, file), f"{file} of {found.source}"
        pinned, dataset = replace(calibration, dataset=found.source), ref.repo_id
    else:
        path = Path(absolute(file, Path(), one_file))
        require_here(str(path))
        table = open_rows({"folder": str(path.parent)}, token=token).read(path.name, path.name)
        pinned, dataset = replace(calibration, file=shared_path(str(path))), None
        source = f"the local file {folder_name(path)}"
    if not table:
        raise RecipeError(f"The calibration's {file} has no rows; give a file with texts.")
    drawn = random.Random(calibration.seed).sample(range(len(table)), min(calibration.examples, len(table)))
    _require_texts(calibration.text, [(number, table[number]) for number in drawn], file)
    texts = [fill(calibration.text, table[number], f"row {number + 1} of {file}") for number in drawn]
    if not all(text.strip() for text in texts):
        raise RecipeError(f"A text of the calibration's {file} is empty; take it out, or name another field as `text`.")
    return Chosen([("", text) for text in texts], None, pinned, source, dataset)


def _require_texts(template: str, rows: Sequence[tuple[int, Mapping[str, Any]]], file: str) -> None:
    """Raises `RecipeError` where a text would be the same for each row, or has something in it that is no text."""
    fields = FIELD.findall(template)
    if not fields:
        raise RecipeError(
            f"`calibration.text` {template!r} names no field, so all texts would be the same; write the name of one in "
            "braces, such as '{text}'."
        )
    for number, row in rows:
        for field in fields:
            if field in row and not isinstance(row[field], (str, int, float)):
                what = "null" if row[field] is None else f"a {type(row[field]).__name__}"
                raise RecipeError(
                    f"row {number + 1} of the calibration's {file} has {what} as {field!r}, which is no text; take it "
                    "out, or name another field as `text`."
                )


def _shown(source: str) -> str:
    return source if source.count("/") == 1 and not source.startswith(("/", ".")) else folder_name(source)
