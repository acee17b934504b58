"""A whole search in a folder (see folder.py): explore, choose on validation, report on test, write the winner.
Resumable anywhere."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import HubmergeError, SearchError
from ..evaluate.located import shared_task
from ..evaluate.table import Row
from ..evaluate.task import Task, load_task, sizes
from ..files import make_folder
from ..hub.card import Card, render
from ..hub.source import Source, open_source
from ..progress import Event, Progress, silent
from ..recipe import Recipe
from ..reference import ModelRef
from ..stream.executor import merge
from ..stream.journal import require_room
from ..stream.plan import made_by, make_plan
from ..stream.stage import Merged
from ..stream.written import Written
from .choose import Winner, choose
from .compared.answers import open_items
from .compared.contestants import COMPARED_LABELS, EVOLVED_RECIPE, Candidate, contestants
from .compared.scales import SCALED_LABEL, best_scale
from .compared.table import final_rows
from .examples.questions import Questions, cost
from .explore import Exploration, MakeGenome, explore
from .foresight import foresee
from .records.folder import (
    CURVE_FILE,
    ITEMS_FILE,
    JOURNAL_FILE,
    MODEL_FOLDER,
    PS_FOLDER,
    RECIPE_FILE,
    RESULTS_FILE,
    SEARCH_FILE,
)
from .records.journal import Evaluation, Journal, require_unused
from .records.results import card_rows, from_json, to_json
from .records.resume import has_scores, is_finished, measured_key, resumed, search_key
from .report import curve
from .search import SCALED, Search
from .spaces.data_flow import DataFlow
from .spaces.families import family_of
from .spaces.recipes import ParameterGenome
from .spec.searcher import COMPARED
from .workers.judge import Judge, make_judge
from .workers.path_model import layer_count
from .workers.pool import Pool
from .workers.workers import Workers


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
    search: Search,
    out: Path,
    *,
    resume: bool = False,
    token: str | None = None,
    workers: Workers = Workers(),  # noqa: B008 - a frozen value
    sources: Mapping[ModelRef, Source] | None = None,
    progress: Progress = silent,
) -> EvolveResult:
    """Runs `search` in the folder `out`, or goes on with what is there (`resume`); a finished one is only read.

    `sources` are models already open, by the search's references; the others are opened here.
    What of a search may be changed before it goes on is said in resume.py.

    Raises `SearchError` for a folder that holds another search, `TaskError` and `PlanError` before the long work,
    `HubError` for what the Hub refuses. When interrupted, the journal stays and the run can be resumed.
    """
    if not resume:
        require_unused(out / JOURNAL_FILE)
    make_folder(out, SearchError)
    written = require_own(out, resume)
    progress(Event("open", 0, 0, note="models and task"))
    mended = resumed(search, out, token) if resume else search
    pinned, sources, task = open_search(mended, token, sources)
    key, whole_key = measured_key(pinned, sources, task), search_key(pinned, sources, task)
    finished = resume and is_finished(out, whole_key)
    if not finished:
        foresee(pinned, sources, task, out).require()
    saved = is_saved(out / SEARCH_FILE, pinned)
    if not saved:
        written.require([SEARCH_FILE])
    facts = {"task": pinned.task.get("name"), "splits": sizes(task), **_header(task)}
    with Journal(out / JOURNAL_FILE, key, facts, resume=resume) as journal:
        if not saved:
            written.write(SEARCH_FILE, yaml_of(pinned))
        if resume and mended is search:
            written.remove(ITEMS_FILE)  # of the search that began here, and measured nothing
        if finished:
            stored = from_json(out / RESULTS_FILE, whole_key)
            return _result(pinned, sources, task, out, stored.facts, stored.winner, stored.rows)
        written.remove(RESULTS_FILE)  # with other baselines: the run is not finished any more
        run = _Run(key, out, written, task, token, workers, progress)
        others = contestants(pinned)
        last = pinned
        if pinned.spaces == ("ps", "dfs"):
            first = run.recipes_first(replace(pinned, data_flow=None, path_searcher=None), out / PS_FOLDER, sources)
            last = pinned.paths_after(first)
            others[EVOLVED_RECIPE] = last.stages[0].ref
        with run.pool(last, sources) as pool:
            found = run.explore(last, sources, journal, pool)
            written.write(CURVE_FILE, curve.draw(found.evaluations, _curve_title(last, found)))
            winner = run.choose(found, last, pool)
            # What the searches beside it cost is not what it took to find this winner.
            search_facts = _facts(pinned, found, task, run.spent, run.questions)
            notes: dict[str, str] = {}
            if SCALED in last.baselines and task.test and (best := best_scale(pinned, task, pool, progress)):
                others[SCALED_LABEL], notes[SCALED_LABEL] = best
            for name in last.baselines:
                if name in COMPARED:
                    other = last.beside(name, len(found.evaluations))
                    others[COMPARED_LABELS[name]] = run.compared(other, out / name, sources, pool)
            rows = final_rows(others, winner.candidate, pool, progress, notes) if task.test else ()
        recipe = recipe_of(winner.candidate, last, sources)
        chosen = {**winner.facts, "recipe": recipe.to_dict()}
        result = _result(pinned, sources, task, out, search_facts, chosen, rows)
        written.write(RECIPE_FILE, recipe.to_yaml().encode())
        # The card's commands start from the YAML files, so they go wherever the model goes.
        files = {name: (out / name).read_bytes() for name in (SEARCH_FILE, RECIPE_FILE, CURVE_FILE)}
        files["README.md"] = render(result.card).encode()
        merge(recipe, out / MODEL_FOLDER, token=token, progress=progress, files=files, again=True)
        front = [evaluation.number for evaluation in found.front]
        written.write(RESULTS_FILE, to_json(whole_key, search_facts, chosen, rows, front=front))
        return result


class _Run:
    """What the searches of one run share: the task, the workers, and the account of what was spent."""

    def __init__(
        self,
        key: str,
        out: Path,
        written: Written,
        task: Task,
        token: str | None,
        workers: Workers,
        progress: Progress,
    ) -> None:
        self.key = key
        self.out = out
        self.written = written
        self.task = task
        self.token = token
        self.workers = workers
        self.progress = progress
        self.spent: list[Evaluation] = []
        self.questions: Questions | None = None  # the same for all searches of the run, made when the first begins

    def pool(self, search: Search, sources: Mapping[ModelRef, Source]) -> Pool:
        """Workers that judge candidates of `search`."""
        if self.workers.here:
            return self.workers.pool(partial(Judge, search, self.task, sources, progress=self.progress))
        return self.workers.pool(partial(make_judge, search, self.task, self.token))

    def explore(self, search: Search, sources: Mapping[ModelRef, Source], journal: Journal, pool: Pool) -> Exploration:
        """One search, through its stages."""
        stages = stages_of(search, sources, self.token)
        if self.questions is None:
            items = partial(open_items, search, self.task, pool, self.out, self.key, self.progress)
            self.questions = Questions.of(search.economy, len(self.task.search), search.searcher.seed, items)
        found = explore(
            search.searcher,
            search.fitness,
            stages,
            journal,
            pool,
            progress=self.progress,
            questions=self.questions.of_searcher(search.searcher.name),
        )
        self.spent += found.evaluations
        return found

    def choose(self, found: Exploration, search: Search, pool: Pool) -> Winner:
        """The winner of a search."""
        assert self.questions is not None
        questions = self.questions.of_searcher(search.searcher.name)
        winner = choose(found, search.select, self.task, pool, self.progress, questions)
        self.questions = self.questions.after(winner.tokens, winner.seconds)
        return winner

    def recipes_first(self, search: Search, folder: Path, sources: Mapping[ModelRef, Source]) -> Recipe:
        """The search for a recipe in a folder of its own; its winner, of which no model is written."""
        folder.mkdir(exist_ok=True)
        journaled = Journal(folder / JOURNAL_FILE, f"{self.key}/{folder.name}", _header(self.task), resume=True)
        with journaled as journal, self.pool(search, sources) as pool:
            found = self.explore(search, sources, journal, pool)
            winner = self.choose(found, search, pool)
        self.written.write(f"{PS_FOLDER}/{SEARCH_FILE}", yaml_of(search))
        self.written.write(f"{PS_FOLDER}/{CURVE_FILE}", curve.draw(found.evaluations, _curve_title(search, found)))
        self.written.write(f"{PS_FOLDER}/{RECIPE_FILE}", winner.candidate.to_yaml().encode())
        facts = _facts(search, found, self.task, found.evaluations, self.questions)
        chosen = {**winner.facts, "recipe": winner.candidate.to_dict()}
        self.written.write(f"{PS_FOLDER}/{RESULTS_FILE}", to_json(self.key, facts, chosen, ()))
        assert isinstance(winner.candidate, Recipe)
        return winner.candidate

    def compared(self, other: Search, folder: Path, sources: Mapping[ModelRef, Source], pool: Pool) -> Candidate:
        """The winner of another search, chosen in the same way."""
        # Its candidates follow the budget: those of another one do not count.
        key = f"{self.key}/{folder.name}/{other.searcher.evaluations}"
        folder.mkdir(exist_ok=True)
        with Journal(folder / JOURNAL_FILE, key, _header(self.task), resume=True, replace=True) as journal:
            found = self.explore(other, sources, journal, pool)
        return self.choose(found, other, pool).candidate


def _header(task: Task) -> dict[str, Any]:
    """What every journal of a run begins with: `problems` are those that the values of its lines are of."""
    return {"hubmerge": __version__, "problems": task.problems("search")}


def stages_of(search: Search, sources: Mapping[ModelRef, Source], token: str | None) -> list[MakeGenome]:
    """The genomes of a search, one a stage: recipes at each granularity, or paths."""
    if search.data_flow is None:
        plan = make_plan(search.starting_recipe, sources=sources, token=token)
        plan.require()
        names = [tensor.name for tensor in plan.tensors]

        def recipes(granularity: str) -> MakeGenome:
            return lambda start: ParameterGenome(search, names, granularity, start)

        return [recipes(granularity) for granularity in search.granularity]
    models: dict[ModelRef, Source | Merged] = {**sources, **made_by(search.stages, sources, token)}
    counts = tuple(layer_count(models[ref]) for ref in search.models)
    genome = DataFlow(search.data_flow, search.models, counts, search.output)
    return [lambda start: genome]


def recipe_of(candidate: Candidate, search: Search, sources: Mapping[ModelRef, Source]) -> Recipe:
    """The recipe that makes a candidate an ordinary checkpoint."""
    if isinstance(candidate, Recipe):
        return candidate
    assert not isinstance(candidate, ModelRef)
    models: dict[ModelRef, Source | Merged] = {**sources, **made_by(search.stages, sources)}
    return candidate.recipe(family_of(models[candidate.models[0]].config), search.stages)


def open_search(
    search: Search, token: str | None, sources: Mapping[ModelRef, Source] | None = None
) -> tuple[Search, dict[ModelRef, Source], Task]:
    """The search with models and dataset at their commits, and both opened, but for `sources`, which are open."""
    opened = {ref: (sources or {}).get(ref) or open_source(ref, token=token) for ref in search.references}
    task = load_task(search.task, token=token, counts=search.splits, seed=search.searcher.seed)
    if not task.search:
        raise SearchError(f"The task {task.name} has no search split, so candidates cannot be scored.")
    pins = {ref: source.pinned for ref, source in opened.items()}
    revision = task.source.rpartition("@")[2] if task.source and search.task["examples"].get("repo_id") else None
    pinned = search.with_pins(pins, revision)
    return pinned, {source.pinned: source for source in opened.values()}, task


def _facts(
    search: Search, found: Exploration, task: Task, spent: Sequence[Evaluation], questions: Questions | None
) -> dict[str, Any]:
    assert questions is not None
    facts: dict[str, Any] = {"searcher": search.searcher.name, "space": " + ".join(search.spaces)}
    if search.merge_method is not None:
        facts["granularity"] = ", ".join(search.granularity)
    facts |= {
        "genes": found.genomes[-1].size,
        "popsize": found.popsize,
        "evaluations": len(spent),
        "examples": len(task.search),
        "objectives": list(search.fitness.objectives),
        "seed": search.searcher.seed,
        "seconds": round(sum(evaluation.seconds for evaluation in spent) + questions.seconds, 1),
        "tokens": sum(evaluation.tokens for evaluation in spent) + questions.tokens,
    }
    if search.economy is not None:
        facts["cost"] = cost(questions, spent, len(task.search))
    return facts | {"failed": found.failed} if found.failed else facts


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as a card's table has them: plain values, by names that need no explanation."""
    told = {name: value for name, value in facts.items() if name != "cost"}
    if (saved := facts.get("cost")) is not None:
        told["Examples asked of a candidate, at most"] = saved["examples_asked"]
        told["Candidates stopped early"] = saved["evaluations_raced"]
        told["Tokens that asking all would have taken, about"] = saved["tokens_full"]
    return told


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
    names = [f"{folder}{name}" for folder in folders for name in (CURVE_FILE, RECIPE_FILE, RESULTS_FILE, ITEMS_FILE)]
    if resume or not has_journal or not has_scores(out):  # else the journal says what to do
        written.require(names)
        require_room(out / MODEL_FOLDER)
    return written


def _curve_title(search: Search, found: Exploration) -> str:
    what = search.merge_method or "a path through the layers"
    return f"{search.searcher.name} over {found.genomes[-1].size} genes of {what}"


def _result(
    search: Search,
    sources: Mapping[ModelRef, Source],
    task: Task,
    out: Path,
    facts: Mapping[str, Any],
    winner: Mapping[str, Any],
    rows: tuple[Row, ...],
) -> EvolveResult:
    recipe, title = Recipe.from_dict(winner["recipe"]), os.path.basename(os.path.realpath(out))
    merging = f"hubmerge merge {RECIPE_FILE} --out {title}"
    example = (task.test or task.validation or task.search)[0].prompt
    card = Card(
        title=title,
        sources=tuple(sources.values()),
        recipe_yaml=recipe.to_yaml(),
        method=recipe.merge_method,
        before=tuple(stage.recipe.merge_method for stage in recipe.stages),
        base_model=sources[search.base_model].name if search.base_model else None,
        evaluations=card_rows(rows, title, task.metric, task.name),
        curve_image=CURVE_FILE,
        commands=(merging, f"hubmerge evolve {SEARCH_FILE} --out runs/{title}"),
        search=_told(facts),
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
