"""A whole search in a folder: explore, choose on validation, report on test, write the winner. Resumable anywhere.

search.yaml    the search with every model and dataset at its commit
journal.jsonl  every evaluation
best.yaml      the winner's recipe, ready for `hubmerge merge`
model/         the merged winner with its card and the picture of the search
curve.png      the picture
results.json   the table; written last, so a folder that has it is finished
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import SearchError
from ..evaluate.task import Task, load_task, sizes
from ..hub.card import Card, render
from ..hub.source import Source, open_source
from ..progress import Event, Progress, silent
from ..recipe import ModelRef, Recipe
from ..stream.executor import merge
from ..stream.plan import make_plan
from ..stream.writer import write_file
from . import curve
from .choose import choose
from .explore import Exploration, explore
from .genome import Genome
from .journal import VERSION, Journal
from .judge import Judge
from .resident import ResidentModel
from .results import Row, card_rows, final_rows, from_json, to_json
from .search import Search

SEARCH_FILE, JOURNAL_FILE, RECIPE_FILE = "search.yaml", "journal.jsonl", "best.yaml"
CURVE_FILE, RESULTS_FILE, MODEL_FOLDER = "curve.png", "results.json", "model"


@dataclass(frozen=True)
class EvolveResult:
    """A finished search.

    `recipe`: the winner, pinned; `folder`: the merged model with its card; `rows`: the final table; `card`: what its
    README.md was rendered from (set `repo_id` and render again to push under a name); `facts`: searcher, popsize,
    evaluations, seed, seconds and so on; `seconds`: of all evaluations, those of earlier runs included.
    """

    recipe: Recipe
    folder: Path
    rows: tuple[Row, ...]
    card: Card
    facts: Mapping[str, Any]
    journal: Path
    curve: Path
    seconds: float


def evolve(
    search: Search, out: Path, *, resume: bool = False, token: str | None = None, progress: Progress = silent
) -> EvolveResult:
    """Runs `search` in the folder `out`, or goes on with what is there (`resume`); a finished one is only read.

    Raises `SearchError` for a folder that holds another search, `TaskError` and `PlanError` before the long work,
    `HubError` for what the Hub refuses. When interrupted, the journal stays and the run can be resumed.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress(Event("open", 0, 0, note="models and task"))
    pinned, sources, task = _pin(search, out, resume, token)
    title = _title(out)
    key = search_key(pinned, sources, task)
    facts = {"hubmerge": __version__, "task": pinned.task.get("name"), "splits": sizes(task)}
    with Journal(out / JOURNAL_FILE, key, facts, resume=resume) as journal:
        write_file(out / SEARCH_FILE, pinned.to_yaml().encode())
        if resume and (out / RESULTS_FILE).exists():
            stored = from_json(out / RESULTS_FILE, key)
            return _result(pinned, sources, task, out, title, stored.facts, stored.winner, stored.rows)
        plan = make_plan(pinned.recipe(*_starting_values(pinned)), sources=sources, token=token)
        genome = Genome(pinned, [tensor.name for tensor in plan.tensors])
        judge = Judge(ResidentModel(plan, progress=progress), task, pinned.batch_size)
        found = explore(genome, journal, judge.measure, progress=progress)
        write_file(out / CURVE_FILE, curve.draw(found.evaluations, _curve_title(pinned, genome)))
        winner = choose(genome, found, judge, progress)
        recipe = Recipe.from_dict(winner["recipe"])
        rows = final_rows(pinned, recipe, judge, progress) if task.test else ()
        search_facts = _facts(pinned, genome, found, task)
        del judge  # the merge below streams: it needs none of the models in memory
        result = _result(pinned, sources, task, out, title, search_facts, winner, rows)
        write_file(out / RECIPE_FILE, recipe.to_yaml().encode())
        # The card's commands start from the two YAML files, so they go wherever the model goes.
        files = {name: (out / name).read_bytes() for name in (SEARCH_FILE, RECIPE_FILE, CURVE_FILE)}
        files["README.md"] = render(result.card).encode()
        merge(recipe, out / MODEL_FOLDER, token=token, progress=progress, files=files, overwrite=True)
        write_file(out / RESULTS_FILE, to_json(key, search_facts, winner, rows))
        return result


def search_key(search: Search, sources: Mapping[ModelRef, Source], task: Task) -> str:
    """A sha256 of all that decides a search's path: two runs with one key ask for the same candidates."""
    content = {
        "journal": VERSION,
        "search": search.to_dict(),
        "sources": [sources[ref].identity for ref in sorted(sources, key=str)],
        "task": task.key,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _pin(search: Search, out: Path, resume: bool, token: str | None) -> tuple[Search, dict[ModelRef, Source], Task]:
    """The search with models and dataset at their commits - those of the first run when resumed - and both opened."""
    saved_file = out / SEARCH_FILE
    if resume and saved_file.exists():
        saved = Search.from_yaml(saved_file)
        if _unpinned(saved) != _unpinned(search):
            raise SearchError(f"{saved_file} is another search than the one given; resume with the same search file.")
        search = saved
    opened = {ref: open_source(ref, token=token) for ref in search.references}
    task = load_task(search.task, token=token, counts=search.splits, seed=search.searcher.seed)
    if not task.search:
        raise SearchError(f"The task {task.name} has no search split, so candidates cannot be scored.")
    commits = {ref: source.commit for ref, source in opened.items()}
    revision = task.source.rpartition("@")[2] if task.source and search.task["examples"].get("repo_id") else None
    pinned = search.with_pins(commits, revision)
    return pinned, {ref.pinned(source.commit): source for ref, source in opened.items()}, task


def _unpinned(search: Search) -> dict[str, Any]:
    """The search without revisions, which a saved search has and the user's may not."""
    document = search.to_dict()
    bare = {str(ref): ref.repo_id for ref in search.references}
    document["models"] = [bare[model] for model in document["models"]]
    for key in ("base_model", "tokenizer_source"):
        document[key] = bare.get(str(document.get(key)), document.get(key))
    document["task"] = {**search.task, "examples": {**search.task["examples"], "revision": None}}
    return document


def _starting_values(search: Search) -> tuple[dict[str, float], list[dict[str, float]]]:
    starts = {gene.name: gene.start for gene in search.genes}
    shared = {name: value for name, value in starts.items() if not search.is_per_model(name)}
    own = {name: value for name, value in starts.items() if search.is_per_model(name)}
    return shared, [own for _ in search.models]


def _facts(search: Search, genome: Genome, found: Exploration, task: Task) -> dict[str, Any]:
    seconds = round(sum(evaluation.seconds for evaluation in found.evaluations), 1)
    facts = {
        "searcher": search.searcher.name,
        "granularity": search.granularity,
        "genes": genome.size,
        "popsize": found.popsize,
        "evaluations": len(found.evaluations),
        "examples": len(task.search),
        "seed": search.searcher.seed,
        "seconds": seconds,
    }
    return facts | {"failed": found.failed} if found.failed else facts


def _curve_title(search: Search, genome: Genome) -> str:
    return f"{search.searcher.name} over {genome.size} genes of {search.merge_method}"


def _title(out: Path) -> str:
    return out.resolve().name


def _result(
    search: Search,
    sources: Mapping[ModelRef, Source],
    task: Task,
    out: Path,
    title: str,
    facts: Mapping[str, Any],
    winner: Mapping[str, Any],
    rows: tuple[Row, ...],
) -> EvolveResult:
    recipe = Recipe.from_dict(winner["recipe"])
    example = (task.test or task.validation or task.search)[0].prompt
    card = Card(
        title=title,
        sources=tuple(sources.values()),
        recipe_yaml=recipe.to_yaml(),
        method=search.merge_method,
        base_model=search.base_model.repo_id if search.base_model else None,
        evaluations=card_rows(rows, title, task.metric, task.name),
        curve_image=CURVE_FILE,
        commands=(f"hubmerge merge {RECIPE_FILE} --out {title}", f"hubmerge evolve {SEARCH_FILE} --out runs/{title}"),
        search=facts,
        languages=(task.language,) if task.language else (),
        example=example,
    )
    return EvolveResult(
        recipe=recipe,
        folder=out / MODEL_FOLDER,
        rows=rows,
        card=card,
        facts=facts,
        journal=out / JOURNAL_FILE,
        curve=out / CURVE_FILE,
        seconds=float(facts["seconds"]),
    )


def card_for(result: EvolveResult, repo_id: str) -> str:
    """The README.md of the result under the name it is pushed to."""
    evaluations = [
        replace(row, model=repo_id) if row.model == result.card.title else row for row in result.card.evaluations
    ]
    return render(replace(result.card, repo_id=repo_id, title=repo_id.split("/")[-1], evaluations=evaluations))
