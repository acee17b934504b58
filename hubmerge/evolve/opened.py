"""A search with its models and its task opened, everything at its commit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import SearchError
from ..evaluate.task import Task, load_task
from ..hub.source import Source, open_source
from ..reference import ModelRef
from .records.learnt import Learnt, open_learnt
from .records.resume import measured_key, search_key
from .search import Search


@dataclass(frozen=True)
class Opened:
    """A search whose models and dataset are named with their commits, its models by these names, its task, and
    what the run taught that it begins with."""

    search: Search
    sources: Mapping[ModelRef, Source]
    task: Task
    learnt: Learnt | None = None

    @property
    def key(self) -> str:
        """A sha256 of all that decides the result."""
        return search_key(self.search, self.sources, self.task)

    @property
    def measured_key(self) -> str:
        """A sha256 of all that decides which candidates are asked for; see resume.py."""
        return measured_key(self.search, self.sources, self.task)


def open_search(
    search: Search, token: str | None, sources: Mapping[ModelRef, Source] | None = None, out: Path | None = None
) -> Opened:
    """Opens the models of a search, but for `sources`, which are open, loads its task, and reads what the run taught
    that it begins with; `out` is its folder."""
    learnt = open_learnt(search, out, token)
    opened = {ref: (sources or {}).get(ref) or open_source(ref, token=token) for ref in search.references}
    task = load_task(search.task, token=token, counts=search.splits, seed=search.searcher.seed)
    for source in opened.values() if task.draw is None else ():
        source.require_words()
    if not task.search:
        raise SearchError(f"The task {task.name} has no search split, so candidates cannot be scored.")
    pins = {ref: source.pinned for ref, source in opened.items()}
    task_pins = dict(task.pins)
    if task.source and search.task["examples"].get("repo_id"):
        task_pins["examples.revision"] = task.source.rpartition("@")[2]
    pinned = replace(search.with_pins(pins, task_pins), origin=learnt.pinned if learnt else None)
    return Opened(pinned, {source.pinned: source for source in opened.values()}, task, learnt)
