"""Which examples tell candidates apart: base, models and their untuned merges answer them before the search."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ...errors import SearchError
from ...evaluate.task import Task
from ...progress import Event, Progress
from ...recipe import Recipe
from ...stream.written import Written
from ..examples.items import Items, choose_items, read_items
from ..examples.job import Job
from ..records.folder import ITEMS_FILE
from ..search import UNTUNED, Search
from ..workers.pool import Pool, measure_all
from .contestants import contestants


def open_items(search: Search, task: Task, pool: Pool, folder: Path, key: str, progress: Progress) -> Items:
    """The items of the run in `folder`: those it has, else chosen now and written there.

    Raises `SearchError` where the split is too small, where no model can be asked, or where the file is another run's.
    """
    assert search.economy is not None and search.economy.items is not None
    path, count = folder / ITEMS_FILE, search.economy.items
    if path.exists():
        return read_items(path, key, count, len(task.search))
    if count >= len(task.search):
        raise SearchError(
            f"economy.items is {count}, but the search split has {len(task.search)} examples; ask for fewer, or leave "
            "it out."
        )
    everyone = contestants(replace(search, baselines=UNTUNED))
    # Recipes first: what holds them in memory may have to make room for what holds the models.
    names = sorted(everyone, key=lambda name: not isinstance(everyone[name], Recipe))

    def tell(done: int) -> None:
        progress(Event("items", done, len(names), "models", note=names[min(done, len(names) - 1)]))

    results = dict(zip(names, measure_all(pool, [(everyone[name], Job()) for name in names], tell), strict=True))
    asked = {name: result.measurement for name, result in results.items() if result.measurement is not None}
    if not asked:
        raise SearchError(f"No model could be asked to choose examples: {results[names[0]].error}")
    generator = np.random.default_rng(search.searcher.seed)
    items = Items(
        choose_items(np.array([found.values for found in asked.values()]), count, generator),
        {name: found.score for name, found in asked.items()},
        sum(found.tokens for found in asked.values()),
        round(sum(result.seconds for result in results.values()), 4),
    )
    Written(folder).write(ITEMS_FILE, (json.dumps({"key": key, **asdict(items)}, ensure_ascii=False) + "\n").encode())
    return items
