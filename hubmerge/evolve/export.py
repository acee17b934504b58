"""Any candidate of a search as the recipe that makes it a model."""

from dataclasses import replace
from pathlib import Path

from ..errors import SearchError
from ..hub.source import open_source
from ..recipe import Recipe
from .blocks import family_of
from .folder import JOURNAL_FILE, located, own_model, run_of
from .journal import read_evaluations
from .path import Path as LayerPath


def candidate_recipe(run: Path, number: int, *, token: str | None = None) -> Recipe:
    """The recipe of evaluation `number` in the run folder's journal; a path comes as its vanilla export.

    Raises `SearchError` where there is no such run or evaluation, or where that has no score.
    """
    journal = run / JOURNAL_FILE
    if not journal.is_file():
        raise SearchError(f"{run} is not the folder of a search: it has no {JOURNAL_FILE}.")
    found = {evaluation.number: evaluation for evaluation in read_evaluations(journal)}
    if number not in found:
        raise SearchError(f"{journal} has no evaluation {number}; it holds {len(found)}, numbered from 0.")
    if (reason := found[number].error) is not None:
        raise SearchError(
            f"Candidate {number} of {journal} has no score, so nothing says that it works ({reason}); choose one that "
            "has, as `hubmerge report` lists them."
        )
    solution, own = found[number].solution, own_model(run_of(run))
    if "layers" not in solution:
        return located(Recipe.from_dict(solution), run_of(run))
    path = LayerPath.from_dict(solution)
    path = replace(path, models=tuple(own if model == own else model for model in path.models))
    return path.recipe(family_of(open_source(path.models[0], token=token).config))
