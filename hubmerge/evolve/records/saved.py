"""Whose a run's folder is, and its search.yaml."""

from dataclasses import replace
from pathlib import Path

from ...errors import HubmergeError
from ...evaluate.located import shared_task
from ...stream.journal import require_room
from ...stream.written import Written
from ..search import Search
from ..spec.baselines import COMPARED
from .folder import (
    BRED_FILE,
    CURVE_FILE,
    EXAMPLES_FILE,
    FROM_FILE,
    JOURNAL_FILE,
    MODEL_FOLDER,
    PS_FOLDER,
    RECIPE_FILE,
    RESULTS_FILE,
)
from .resume import has_scores


def yaml_of(search: Search) -> bytes:
    """search.yaml, which may go anywhere: the task's own files too are named without their paths."""
    return replace(search, task=shared_task(search.task)).to_yaml().encode()


def is_saved(path: Path, search: Search) -> bool:
    """Whether a file says just this search, in whatever words: it is then left as its author wrote it."""
    try:
        return path.is_file() and Search.from_yaml(path) == search
    except HubmergeError:
        return False


def require_own(out: Path, resume: bool) -> Written:
    """The files of the run in `out`. Raises `PlanError` where one of them, or what stands in their place, is
    somebody's, before anything is written; of a run that is resumed, search.yaml may be edited."""
    has_journal = (out / JOURNAL_FILE).is_file() and (out / JOURNAL_FILE).stat().st_size > 0
    written = Written(out, trusted=resume and has_journal)
    folders = ("", f"{PS_FOLDER}/")
    files = (BRED_FILE, CURVE_FILE, RECIPE_FILE, RESULTS_FILE, EXAMPLES_FILE, FROM_FILE)
    if resume or not has_journal or not has_scores(out):  # else the journal says what to do
        beside = [f"{name}/{RECIPE_FILE}" for name in COMPARED]
        written.require([*(f"{folder}{name}" for folder in folders for name in files), *beside])
        require_room(out / MODEL_FOLDER)
    return written
