"""A whole search in a folder (see records/folder.py): explore, choose on validation, report on test, write the winner.
Resumable anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import SearchError
from ..evaluate.bred import bred_file
from ..evaluate.table import Row
from ..evaluate.task import Task, sizes
from ..extras import require
from ..files import make_folder
from ..hub.card import render
from ..hub.notices import notices
from ..hub.source import Source
from ..progress import Event, Progress, silent
from ..recipe import Recipe
from ..reference import ModelRef
from ..stream.executor import merge
from ..stream.plan import make_plan
from ..stream.written import Written
from .choose import Winner, choose
from .compared.answers import open_chosen
from .compared.contestants import COMPARED_LABELS, EVOLVED_RECIPE, contestants
from .compared.scales import SCALED_LABEL, best_scale
from .compared.table import final_rows
from .compared.verdict import unchanged
from .examples.search_examples import SearchExamples, cost
from .explore import Exploration, explore
from .foresight import foresee
from .genomes import recipe_of, stages_of
from .opened import Opened, open_search
from .records.evaluation import Evaluation
from .records.folder import (
    BRED_FILE,
    CURVE_FILE,
    DRAWN_FOLDER,
    EXAMPLES_FILE,
    FROM_FILE,
    HEATMAP_FILE,
    JOURNAL_FILE,
    MODEL_FOLDER,
    PICTURES_FILE,
    PS_FOLDER,
    RECIPE_FILE,
    RESULTS_FILE,
    SEARCH_FILE,
)
from .records.journal import Journal, require_unused
from .records.learnt import name_of
from .records.results import EVOLVED, Results, is_finished, told_of
from .records.resume import resumed
from .records.saved import is_saved, require_own, yaml_of
from .report import canvas, curve, heatmap
from .report.weights import panels
from .result import EvolveResult, result_of
from .search import Search
from .spaces.candidate import Candidate, Contestant
from .spec.baselines import COMPARED, SCALED
from .tracking import AUTO, chosen, tracking
from .workers.gallery import Gallery, sheet
from .workers.judge import Judge, make_judge
from .workers.pool import Pool
from .workers.workers import Workers


def evolve(
    search: Search,
    out: Path,
    *,
    resume: bool = False,
    token: str | None = None,
    workers: Workers = Workers(),  # noqa: B008 - a frozen value
    sources: Mapping[ModelRef, Source] | None = None,
    track: str | None = None,
    origin: str | Path | None = None,
    progress: Progress = silent,
) -> EvolveResult:
    """Runs `search` in the folder `out`, or goes on with what is there (`resume`); a finished one is only read.

    `sources` are models already open, by the search's references; the others are opened here. `track`: a tracker that
    is told of it as it goes (tracking.py), "auto" for trackio where that is installed. `origin`: an earlier run to
    begin with, a folder or the dataset that it is mirrored at, in place of the search's own.
    What of a search may be changed before it goes on is said in records/resume.py.

    Raises `SearchError` for a folder that holds another search, `TaskError` and `PlanError` before the long work,
    `HubError` for what the Hub refuses. When interrupted, the journal stays and the run can be resumed.
    """
    require("matplotlib")  # the curve is drawn at the end
    search = search if origin is None else search.begun_with(origin)
    if not resume:
        require_unused(out / JOURNAL_FILE)
    if (tracker := chosen(track)) is not None:
        how: dict[str, Any] = {"resume": resume, "token": token, "workers": workers, "sources": sources}
        with tracking(tracker, search, out, progress, asked=track != AUTO) as told:
            result = evolve(search, out, **how, progress=told.progress)
            told.rows(result.rows)
        return result
    make_folder(out, SearchError)
    written = require_own(out, resume)
    progress(Event("open", 0, 0, note="models and task"))
    mended = resumed(search, out, token) if resume else search
    opened = open_search(mended, token, sources, out)
    finished = resume and is_finished(out, opened.key)
    if not finished:
        foresee(opened.search, opened.sources, opened.task, out, workers.memory).require()
    saved = is_saved(out / SEARCH_FILE, opened.search)
    if not saved:
        written.require([SEARCH_FILE])
    with Journal(out / JOURNAL_FILE, opened.measured_key, _first_line(opened), resume=resume) as journal:
        if opened.learnt is not None:
            written.write(FROM_FILE, opened.learnt.to_json())
        if not saved:
            written.write(SEARCH_FILE, yaml_of(opened.search))
        if resume and mended is search:
            written.remove(EXAMPLES_FILE)  # of the search that began here, and measured nothing
        if finished:
            results = Results.read(out / RESULTS_FILE, opened.key)
            return result_of(opened.search, opened.sources, out, results, token)
        written.write(BRED_FILE, bred_file(opened.task))
        written.remove(RESULTS_FILE)  # with other baselines: the run is not finished any more
        return _Run(opened, out, written, token, workers, progress).finish(journal)


@dataclass
class _Run:
    """A run on its way: what all its searches share, and the account of what they spent."""

    opened: Opened
    out: Path
    written: Written
    token: str | None
    workers: Workers
    progress: Progress
    spent: list[Evaluation] = field(default_factory=list)
    gallery: Gallery | None = None
    """Pictures of the best candidate, where all is evaluated in this process."""
    examples: SearchExamples | None = None
    """The same for all searches of the run, made when the first begins."""

    def finish(self, journal: Journal) -> EvolveResult:
        """Searches, compares, and writes the winner; results.json comes last."""
        search, others = self.opened.search, contestants(self.opened.search, self.opened.task)
        last = search
        if search.spaces == ("ps", "dfs"):
            last = search.paths_after(self._recipes_first())
            others[EVOLVED_RECIPE] = last.models[0]
        with self._pool(last) as pool:
            progress = self.progress if last is search else _noted(self.progress, "paths")
            found = self._explore(last, journal, pool, progress)
            self.written.write(CURVE_FILE, curve.draw(found.evaluations, _curve_title(last, found)))
            winner = self._choose(found, last, pool, progress)
            if self.gallery is not None:
                self.gallery.closed = True
            # What the searches beside it cost is not what it took to find this winner.
            facts = self._facts(search, found, self.spent)
            rows = self._compare(winner.candidate, others, last, len(found.evaluations), pool)
        recipe = recipe_of(winner.candidate, last, self.opened.sources)
        results = Results(
            self.opened.key,
            facts,
            {**winner.facts, "recipe": recipe.to_dict(), "unchanged": unchanged(recipe, self.opened.sources)},
            rows,
            tuple(evaluation.number for evaluation in found.front),
            {**told_of(self.opened.task, "test" not in search.splits), **self._show(winner.candidate, rows)},
        )
        self._draw(recipe)
        result = result_of(search, self.opened.sources, self.out, results, self.token)
        self._write_model(recipe, render(result.card))
        self.written.write(RESULTS_FILE, results.to_json())
        return result

    def _pool(self, search: Search) -> Pool:
        """Workers that judge candidates of `search`."""
        if self.workers.here:
            self.gallery = Gallery(self.out / DRAWN_FOLDER)
            here = partial(Judge, memory=self.workers.memory, progress=self.progress, gallery=self.gallery)
            return self.workers.pool(partial(here, search, self.opened.task, self.opened.sources))
        return self.workers.pool(partial(make_judge, search, self.opened.task, self.token, self.workers.memory))

    def _explore(self, search: Search, journal: Journal, pool: Pool, progress: Progress) -> Exploration:
        """One search, through its stages."""
        learnt = self.opened.learnt if search.origin is not None else None
        stages = stages_of(search, self.opened.sources, self.token, learnt)
        if self.examples is None:
            task, key = self.opened.task, self.opened.measured_key
            choose_some = partial(open_chosen, search, task, pool, self.out, key, self.progress)
            self.examples = SearchExamples.of(search.economy, len(task.search), search.searcher.seed, choose_some)
        found = explore(
            search.searcher,
            search.fitness,
            stages,
            journal,
            pool,
            progress=progress,
            longest=self.opened.task.max_new_tokens,
            examples=self.examples.of_searcher(search.searcher.name),
        )
        self.spent += found.evaluations
        return found

    def _choose(self, found: Exploration, search: Search, pool: Pool, progress: Progress) -> Winner:
        """The winner of a search."""
        assert self.examples is not None
        asked = self.examples.of_searcher(search.searcher.name)
        winner = choose(found, search.select, self.opened.task, pool, progress, asked)
        self.examples = self.examples.after(winner.tokens, winner.seconds)
        return winner

    def _recipes_first(self) -> Recipe:
        """The search for a recipe in a folder of its own; its winner, of which no model is written."""
        search = replace(self.opened.search, data_flow=None, path_searcher=None)
        progress = _noted(self.progress, "recipes")
        with self._journal(PS_FOLDER) as journal, self._pool(search) as pool:
            found = self._explore(search, journal, pool, progress)
            winner = self._choose(found, search, pool, progress)
        recipe = winner.candidate
        assert isinstance(recipe, Recipe)
        facts = self._facts(search, found, found.evaluations)
        results = Results(self.opened.measured_key, facts, {**winner.facts, "recipe": recipe.to_dict()})
        self.written.write(f"{PS_FOLDER}/{SEARCH_FILE}", yaml_of(search))
        if self.opened.learnt is not None:
            self.written.write(f"{PS_FOLDER}/{FROM_FILE}", self.opened.learnt.to_json())
        self.written.write(f"{PS_FOLDER}/{CURVE_FILE}", curve.draw(found.evaluations, _curve_title(search, found)))
        self.written.write(f"{PS_FOLDER}/{RECIPE_FILE}", recipe.to_yaml().encode())
        self.written.write(f"{PS_FOLDER}/{RESULTS_FILE}", results.to_json())
        return recipe

    def _compare(
        self, winner: Candidate, others: dict[str, Contestant], search: Search, made: int, pool: Pool
    ) -> tuple[Row, ...]:
        """The table: the winner, `others`, the best of five scales, and other searchers after `made` evaluations."""
        notes: dict[str, str] = {}
        task = self.opened.task
        if (
            SCALED in search.baselines
            and task.test
            and (best := best_scale(self.opened.search, task, pool, self.progress))
        ):
            others[SCALED_LABEL], notes[SCALED_LABEL] = best
        for name in search.baselines:
            if name in COMPARED:
                others[COMPARED_LABELS[name]] = self._compared(search.beside(name, made), name, pool)
        return final_rows(others, winner, pool, self.progress, notes) if task.test else ()

    def _compared(self, other: Search, name: str, pool: Pool) -> Candidate:
        """The winner of another search, chosen in the same way."""
        progress = _beside(self.progress, COMPARED[name])
        # Its candidates follow the budget: those of another one do not count.
        with self._journal(name, f"/{other.searcher.evaluations}", replace=True) as journal:
            found = self._explore(other, journal, pool, progress)
        candidate = self._choose(found, other, pool, progress).candidate
        recipe = recipe_of(candidate, other, self.opened.sources)
        self.written.write(f"{name}/{RECIPE_FILE}", recipe.to_yaml().encode())
        return candidate

    def _show(self, winner: Candidate, rows: Sequence[Row]) -> dict[str, Any]:
        """Writes what the winner and the models drew of the test split, one below the other, and tells of it."""
        drawn = self.gallery.tested if self.gallery is not None else []
        others = contestants(replace(self.opened.search, baselines=()), self.opened.task)
        listed = {EVOLVED: winner} | {row.model: others[row.model] for row in rows if row.model in others}
        found = {name: next((kept for one, kept in drawn if one == who), {}) for name, who in listed.items()}
        prompts = list(found[EVOLVED])
        if not prompts or any(list(kept) != prompts for kept in found.values()):
            self.written.remove(PICTURES_FILE)
            return {}
        self.written.write(PICTURES_FILE, sheet([list(kept.values()) for kept in found.values()]))
        # What files of this machine ask is not for everybody.
        told = [] if "folder" in self.opened.search.task["examples"] else prompts
        return {"models_drawn": [name for name in found if name != EVOLVED], "prompts_drawn": told}

    def _journal(self, folder: str, more: str = "", *, replace: bool = False) -> Journal:
        """The journal of a search beside the last one, in a folder of its own."""
        path = self.out / folder
        path.mkdir(exist_ok=True)
        key = f"{self.opened.measured_key}/{folder}{more}"
        return Journal(path / JOURNAL_FILE, key, _header(self.opened.task), resume=True, replace=replace)

    def _facts(self, search: Search, found: Exploration, spent: Sequence[Evaluation]) -> dict[str, Any]:
        """What is told of a search, in its results and on its card; `spent`: the evaluations that it took."""
        assert self.examples is not None
        facts: dict[str, Any] = {"searcher": search.searcher.name, "space": " + ".join(search.spaces)}
        if search.merge_method is not None:
            facts["granularity"] = ", ".join(search.granularity)
        count = len(self.opened.task.search)
        facts |= {
            "genes": found.genomes[-1].size,
            "popsize": found.popsize,
            "evaluations": len(spent),
            "examples": count,
            "objectives": list(search.fitness.objectives),
            "seed": search.searcher.seed,
            "seconds": round(sum(evaluation.seconds for evaluation in spent) + self.examples.seconds, 1),
            "tokens": sum(evaluation.tokens for evaluation in spent) + self.examples.tokens,
        }
        if search.economy is not None:
            facts["cost"] = cost(self.examples, spent, count)
        if found.failed:
            facts["failed"] = found.failed
        if search.origin is not None:
            facts["from"] = name_of(search.origin)
        return facts

    def _draw(self, recipe: Recipe) -> None:
        """The heat map of the winner's numbers, where it has any."""
        found = panels(recipe.to_dict())
        if not found:
            self.written.remove(HEATMAP_FILE)
            return
        drawn = canvas.png(partial(heatmap.draw, found), "How much of each model goes in where")
        self.written.write(HEATMAP_FILE, drawn)

    def _write_model(self, recipe: Recipe, card: str) -> None:
        self.written.write(RECIPE_FILE, recipe.to_yaml().encode())
        # The card's commands start from the YAML files, so they go wherever the model goes.
        beside = [SEARCH_FILE, RECIPE_FILE, CURVE_FILE, BRED_FILE, *([FROM_FILE] if self.opened.learnt else [])]
        beside += [name for name in (HEATMAP_FILE, PICTURES_FILE) if (self.out / name).exists()]
        files = {name: (self.out / name).read_bytes() for name in beside}
        plan = make_plan(recipe, token=self.token, memory=self.workers.memory)
        files |= {"README.md": card.encode(), **notices(plan.sources)}
        merge(plan, self.out / MODEL_FOLDER, token=self.token, progress=self.progress, files=files, again=True)


def _beside(progress: Progress, name: str) -> Progress:
    """Tells of a search beside the main one, under its own name; curves are of the main one."""

    def tell(event: Event) -> None:
        stage = name if event.stage == "search" else f"{event.stage} {name}"
        progress(replace(event, stage=stage, data={}))

    return tell


def _noted(progress: Progress, what: str) -> Progress:
    """Tells of one of two searches, the second of which builds on the first: what is searched."""
    return lambda event: progress(replace(event, note=": ".join(filter(None, (what, event.note)))))


def _first_line(opened: Opened) -> dict[str, Any]:
    return {"task": opened.search.task.get("name"), "splits": sizes(opened.task), **_header(opened.task)}


def _header(task: Task) -> dict[str, Any]:
    """What every journal of a run begins with: `problems` are those that the values of its lines are of."""
    return {"hubmerge": __version__, "problems": task.problems("search")}


def _curve_title(search: Search, found: Exploration) -> str:
    what = search.merge_method or "a path through the layers"
    return f"{search.searcher.name} over {found.genomes[-1].size} genes of {what}"
