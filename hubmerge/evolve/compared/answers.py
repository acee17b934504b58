"""Which examples tell candidates apart: base, models and their untuned merges answer them before the search."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ...errors import SearchError
from ...evaluate.task import Task
from ...progress import Progress
from ...stream.written import Written
from ..examples.asked import EVERYTHING
from ..examples.chosen import ChosenExamples, choose_examples, read_chosen
from ..records.folder import EXAMPLES_FILE
from ..search import Search
from ..spec.baselines import UNTUNED
from ..workers.pool import Pool
from .contestants import contestants, measure_by_name


def open_chosen(search: Search, task: Task, pool: Pool, folder: Path, key: str, progress: Progress) -> ChosenExamples:
    """The examples chosen for the run in `folder`: those it has, else chosen now and written there.

    Raises `SearchError` where the split is too small, where no model can be asked, or where the file is another run's.
    """
    assert search.economy is not None and search.economy.examples is not None
    path, count = folder / EXAMPLES_FILE, search.economy.examples
    if path.exists():
        return read_chosen(path, key, count, len(task.search))
    if count >= len(task.search):
        raise SearchError(
            f"economy.examples is {count}, but the search split has {len(task.search)} examples; ask for fewer, or "
            "leave it out."
        )
    everyone = contestants(replace(search, baselines=UNTUNED), task)
    answers = measure_by_name(everyone, EVERYTHING, pool, progress, "examples")
    found = {name: measured for name, measured in answers.items() if measured.error is None}
    if not found:
        raise SearchError(f"No model could be asked to choose examples: {next(iter(answers.values())).error}")
    generator = np.random.default_rng(search.searcher.seed)
    chosen = ChosenExamples(
        choose_examples(np.array([measured.values for measured in found.values()]), count, generator),
        {name: measured.score for name, measured in found.items()},
        sum(measured.tokens for measured in found.values()),
        round(sum(measured.seconds for measured in answers.values()), 4),
    )
    content = json.dumps({"key": key, **asdict(chosen)}, ensure_ascii=False) + "\n"
    Written(folder).write(EXAMPLES_FILE, content.encode())
    return chosen
