"""Any candidate of a search as the recipe that makes it a model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..documents import load_mapping
from ..errors import SearchError
from ..evaluate.statistics import interval
from ..evaluate.task import name_of
from ..hub.card import Card
from ..hub.scores import CardRow
from ..hub.source import open_source
from ..recipe import Recipe, Stage
from ..typed import typed
from .records.evaluation import Evaluation
from .records.folder import BRED_FILE, JOURNAL_FILE, PS_FOLDER, RECIPE_FILE, RESULTS_FILE, SEARCH_FILE, run_of
from .records.journal import read_evaluations
from .records.results import Results
from .result import meant, told_on_card
from .spaces.candidate import read_candidate
from .spaces.families import family_of
from .spec.baselines import COMPARED


def candidate_recipe(run: Path, number: int, *, token: str | None = None) -> Recipe:
    """The recipe of evaluation `number` in the run folder's journal; a path comes as its vanilla export.

    Raises `SearchError` where there is no such run or evaluation, or where that has no score.
    """
    candidate = read_candidate(_evaluation(run, number).solution)
    if isinstance(candidate, Recipe):
        return candidate
    first, stages = candidate.models[0], []
    if first.stage:
        recipe = Recipe.from_yaml(run_of(run) / PS_FOLDER / RECIPE_FILE)
        stages, first = [Stage(first.repo_id, recipe)], recipe.giver
    source = open_source(first, token=token)
    config = source.config if source.component is None else source.component.config
    return candidate.recipe(family_of(config), stages)


def candidate_card(run: Path, number: int, card: Card) -> Card:
    """The card of a candidate's model with what its search knows of it: its score on the examples that it was asked,
    which it may have been chosen by, and how it was searched. Raises what `candidate_recipe` does."""
    found, whole = _evaluation(run, number), run_of(run)
    spec = load_mapping(whole / SEARCH_FILE, "search", SearchError)
    path = run / RESULTS_FILE
    done = Results.read(path) if path.is_file() else None
    asked: dict[str, Any] = dict(done.task) if done is not None and done.task else _of(spec)
    searcher = run.name if run.name in COMPARED and run != whole else spec["searcher"]["name"]
    told = told_on_card(done.facts) if done is not None else {"searcher": searcher, "seed": found.seed}
    low, high = interval(found.values)
    dataset = asked.get("dataset")
    means, metric = meant(asked), asked["metric"]
    row = CardRow(card.title, metric, found.score, low, high, found.n, "search", asked["name"], dataset, means)
    return replace(
        card,
        evaluations=(row,),
        search={"Candidate": f"number {number} of the journal", **told},
        languages=(asked["language"],) if asked.get("language") else (),
        example=asked.get("example") or card.example,
    )


def candidate_files(run: Path) -> dict[str, bytes]:
    """What lies beside the model of any candidate: which questions it was bred on. Nothing of a run that an earlier
    version made."""
    path = run_of(run) / BRED_FILE
    return {BRED_FILE: path.read_bytes()} if path.is_file() else {}


def _of(spec: Mapping[str, Any]) -> dict[str, Any]:
    task = spec["task"]
    named = {"name": name_of(task), "metric": task.get("metric") or "exact_number"}
    return {**named, "language": task.get("language")}


def _evaluation(run: Path, number: int) -> Evaluation:
    """The evaluation of this number, which has a score."""
    journal = run / JOURNAL_FILE
    if not journal.is_file():
        raise SearchError(f"{run} is not the folder of a search: it has no {JOURNAL_FILE}.")
    found = {evaluation.number: evaluation for evaluation in read_evaluations(journal)}
    if number not in found:
        raise SearchError(f"{journal} has no evaluation {number}; it holds {len(found)}, numbered from 0.")
    if (reason := found[number].error) is not None:
        raise SearchError(
            f"Candidate {number} of {journal} has no score, so nothing says that it works ({reason}); choose one that "
            f"has: `{typed('report')}` and the page list them."
        )
    return found[number]
