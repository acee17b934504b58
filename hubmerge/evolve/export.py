"""Any candidate of a search as the recipe that makes it a model."""

from pathlib import Path

from ..errors import SearchError
from ..hub.source import open_source
from ..recipe import Recipe, Stage
from ..typed import typed
from .records.folder import JOURNAL_FILE, PS_FOLDER, RECIPE_FILE, run_of
from .records.journal import read_evaluations
from .spaces.candidate import read_candidate
from .spaces.families import family_of


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
            f"has, as `{typed('report')}` lists them."
        )
    candidate = read_candidate(found[number].solution)
    if isinstance(candidate, Recipe):
        return candidate
    first, stages = candidate.models[0], []
    if first.stage:
        recipe = Recipe.from_yaml(run_of(run) / PS_FOLDER / RECIPE_FILE)
        stages, first = [Stage(first.repo_id, recipe)], recipe.giver
    source = open_source(first, token=token)
    config = source.config if source.component is None else source.component.config
    return candidate.recipe(family_of(config), stages)
