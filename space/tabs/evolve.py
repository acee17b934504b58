"""Evolve: what may vary and how a candidate is judged; then the search live, and any of its candidates as a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from hubmerge.errors import SearchError
from hubmerge.evaluate.task import BUILTIN
from hubmerge.evolve.search import Search
from hubmerge.evolve.spec.searcher import SEARCHERS
from hubmerge.methods import METHODS

from ..forms.search import describe_search, explain_genes, gene_names, searchable, task_of, task_of_file
from ..state import Page, owner_of, title_of
from ..theme import BASE_COLOUR, RESULT_COLOUR, html, into_view
from ..views.plan import describe_search_plan
from ..views.search import BEST, MEAN, NOTHING, drawer, frame
from ..visitors.access import Token, require_fit_for_strangers, visitor_token
from ..visitors.guard import shows_errors
from ..work.job import Job
from ..work.runners import RUN_FOLDER
from .merge import submit_recipe
from .panel import Panel, panel
from .pick import Pick

DEFAULT_METHOD = "task_arithmetic"
_SPACES = [("recipes: the weights", "ps"), ("paths: through the layers", "dfs"), ("recipes, then paths", "ps dfs")]
_GRANULARITY_LABELS = {"model": "one value a model", "layer": "one a layer", "group": "attention, MLP, rest"}
_OBJECTIVES = [
    ("score", "score"),
    ("right answers", "metric"),
    ("right language", "language"),
    ("short paths", "short"),
]
_LANGUAGES = [("any language", ""), ("Japanese", "ja"), ("English", "en"), ("German", "de"), ("French", "fr")]
_LANGUAGES += [("Spanish", "es"), ("Chinese", "zh"), ("Korean", "ko")]
_BUDGET_HELP = (
    "Evaluations: candidates in all, popsize of them a generation. Minutes: 0 is no limit. "
    "The same seed gives the same search."
)
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Evolve:
    """What other tabs need: the job's panel, and the event after which a candidate is being made into a model."""

    panel: Panel
    made: Any


def evolve_tab(page: Page, pick: Pick) -> Evolve:
    """Builds the tab."""
    html('<p class="hm-lead">Let a search find the recipe: candidates are built in memory and judged on your task.</p>')
    given = page.examples.task
    own = str(given.get("name", "task")) if isinstance(given, Mapping) else given
    tasks = list(dict.fromkeys([*([own] if own else []), *BUILTIN]))
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            with gr.Group():
                task = gr.Dropdown(
                    tasks,
                    value=own or None,
                    allow_custom_value=True,
                    label="Task",
                    info="built in, or a dataset of the Hub with search, validation and test .jsonl files",
                    elem_id="hm-task",
                )
                with gr.Accordion("Or your own examples", open=False, elem_id="hm-own-examples"):
                    upload = gr.File(
                        file_types=[".csv", ".jsonl"], label="CSV or JSON lines with question and answer", height=110
                    )
                with gr.Row(visible=False) as own_dataset:
                    language = gr.Dropdown(
                        _LANGUAGES, value="", label="Answers must be in", allow_custom_value=True, min_width=130
                    )
                    longest = gr.Number(
                        64, label="Longest answer, tokens", precision=0, minimum=1, min_width=130, elem_id="hm-longest"
                    )
            with gr.Group():
                spaces = gr.Radio(_SPACES, value="ps", label="What is searched", elem_id="hm-spaces")
                with gr.Column(visible=True) as recipes:
                    method = gr.Dropdown(searchable(), value=DEFAULT_METHOD, label="Method")
                    genes = gr.CheckboxGroup(
                        gene_names(METHODS[DEFAULT_METHOD]),
                        value=["weight"],
                        label="What may vary",
                        info=explain_genes(METHODS[DEFAULT_METHOD]),
                        elem_id="hm-genes",
                    )
                    granularity = gr.Radio(
                        [(_GRANULARITY_LABELS[name], name) for name in _GRANULARITY_LABELS],
                        value="layer",
                        label="How finely",
                    )
            with gr.Group():
                searcher = gr.Dropdown(list(SEARCHERS), value="cmaes", label="Searcher", elem_id="hm-searcher")
                with gr.Row():
                    evaluations = gr.Number(
                        120, label="Evaluations", precision=0, minimum=4, min_width=150, elem_id="hm-evals"
                    )
                    popsize = gr.Number(
                        12, label="Popsize", precision=0, minimum=4, min_width=150, elem_id="hm-popsize"
                    )
                    minutes = gr.Number(
                        None, label="Minutes at most", placeholder="any", minimum=0, min_width=150, elem_id="hm-minutes"
                    )
                    seed = gr.Number(1, label="Seed", precision=0, minimum=0, min_width=150)
                html(f'<p class="hm-quiet hm-help">{_BUDGET_HELP}</p>')
                objectives = gr.CheckboxGroup(
                    _OBJECTIVES,
                    value=["score"],
                    label="Objectives",
                    info="score: right, and in the language asked for; two or more objectives: choose nsga2, "
                    "map_elites or cycleqd, and get a Pareto front",
                    elem_id="hm-objectives",
                )
            with gr.Accordion("Examples of each split, comparisons, economy", open=False):
                with gr.Row():
                    counts = [
                        gr.Number(number, label=label, precision=0, minimum=1, min_width=90, elem_id=f"hm-{label}")
                        for label, number in (("search", 60), ("validation", 100), ("test", 300))
                    ]
                compared = gr.Checkbox(False, label="Compare with random search and a grid of the same budget")
                economy = gr.Checkbox(False, label="Economy: stop asking a candidate that is losing")
            with gr.Row():
                plan = gr.Button("Plan", elem_id="hm-search-plan-button", min_width=120)
                go = gr.Button("Evolve", variant="primary", elem_id="hm-evolve-button", min_width=120)
        with gr.Column(scale=6, min_width=300):
            planned = html(elem_id="hm-search-plan")
            place = gr.Column()
            facts = html(NOTHING, elem_id="hm-evolve-facts")
            curve = gr.LinePlot(
                frame(()),
                x="evaluation",
                y="fitness",
                color="series",
                color_map={BEST: RESULT_COLOUR, MEAN: BASE_COLOUR},
                x_axis_format="d",
                y_axis_format=".2f",
                height=260,
                show_label=False,
                visible="hidden",
                elem_id="hm-curve",
            )
            table = html(elem_id="hm-results")
            drawn = html(elem_id="hm-pictures")
            candidates = html(elem_id="hm-candidates")
            with gr.Row(equal_height=True):
                one = gr.Dropdown(
                    [],
                    label="A candidate as a model",
                    info='choose any; "Make it" then merges it, in step 2',
                    visible=False,
                    scale=4,
                    elem_id="hm-candidate",
                )
                make = gr.Button("Make it", size="sm", scale=0, min_width=110, visible=False, elem_id="hm-make")
            one.change(lambda number: gr.Button(visible=number is not None), [one], [make], **_QUIET)
            with place:
                shown = [facts, curve, table, drawn, candidates, one]
                job = panel(page, "evolve", extra=shown, draw=drawer(page), pause=True)

    def genes_of(name: str) -> gr.CheckboxGroup:
        names = gene_names(METHODS[name])
        return gr.CheckboxGroup(choices=names, value=names[:1], info=explain_genes(METHODS[name]))

    def asks_recipes(chosen: str) -> gr.Column:
        return gr.Column(visible="ps" in chosen.split())

    method.input(genes_of, [method], [genes], **_QUIET)
    spaces.input(asks_recipes, [spaces], [recipes], **_QUIET)

    # A built-in task says these by itself.
    def asks_more(name: str | None, file: str | None) -> gr.Row:
        return gr.Row(visible=bool(file) or (bool(name) and name not in tasks))

    gr.on([task.change, upload.change], asks_more, [task, upload], [own_dataset], **_QUIET)

    def with_search(then: Callable[[Search, str, Token], Any]) -> Callable[..., Any]:
        """A handler that hands what the form says to `then`, and whose it is."""

        @shows_errors
        def handler(
            models: list[str] | None,
            base: str | None,
            task_name: str | None,
            file: str | None,
            language: str | None,
            longest: float,
            chosen: str,
            method: str,
            genes: list[str],
            granularity: str,
            searcher: str,
            evaluations: float,
            popsize: float,
            minutes: float | None,
            seed: float,
            objectives: list[str],
            searched: float,
            validated: float,
            tested: float,
            compared: bool,
            economy: bool,
            key: str | None,
            request: gr.Request,
            oauth: gr.OAuthToken | None,
        ) -> Any:
            length = int(longest)
            described = (
                task_of_file(Path(file), language, length) if file else task_of(given, task_name, language, length)
            )
            search = describe_search(
                task=described,
                models=models or (),
                base=base,
                spaces=chosen.split(),
                method=method,
                genes=genes,
                granularity=granularity,
                searcher={
                    "name": searcher,
                    "evaluations": int(evaluations),
                    "popsize": int(popsize),
                    "seed": int(seed),
                },
                splits={"search": int(searched), "validation": int(validated), "test": int(tested)},
                objectives=objectives,
                compared=compared,
                economy=economy,
                minutes=minutes,
            )
            return then(search, owner_of(key, request), visitor_token(page.settings, oauth))

        return handler

    def start(search: Search, owner: str, token: Token) -> gr.Timer:
        submit_search(page, owner, search, token)
        return gr.Timer(active=True)

    def show_plan(search: Search, owner: str, token: Token) -> str:
        return plan_search(page, search, token)

    inputs = [pick.models, pick.base, task, upload, language, longest, spaces, method, genes, granularity, searcher]
    inputs += [evaluations, popsize, minutes, seed, objectives, *counts, compared, economy]
    plan.click(
        with_search(show_plan),
        [*inputs, page.owner],
        [planned],
        show_progress="minimal",
        concurrency_limit=1,
        api_visibility="private",
    ).success(None, js=into_view("hm-search-plan"), **_QUIET)
    go.click(with_search(start), [*inputs, page.owner], [page.timer], **_QUIET).success(
        job.refresh, job.inputs, job.outputs, **_QUIET
    ).success(None, js=into_view("hm-evolve-job"), **_QUIET)

    @shows_errors
    def make_one(number: int | None, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> gr.Timer:
        owner, token = owner_of(key, request), visitor_token(page.settings, oauth)
        search = next(iter(page.jobs.of(owner, "evolve")), None)
        if search is None or number is None:
            raise SearchError("Choose a candidate of a search first.")
        from hubmerge.evolve.export import candidate_recipe

        recipe = candidate_recipe(page.jobs.folder(owner, search.id) / RUN_FOLDER, number, token=token)
        submit_recipe(page, owner, recipe, f"candidate {number} of {search.title}", token)
        return gr.Timer(active=True)

    return Evolve(job, make.click(make_one, [one, page.owner], [page.timer], **_QUIET))


def plan_search(page: Page, search: Search, token: Token) -> str:
    """What a search would do, as HTML, from headers and examples alone."""
    require_fit_for_strangers(page.settings, search, page.examples.task)
    from hubmerge.evolve.plan import (
        plan_search,
    )  # brings EvoTorch and Ray, which a page without a search does without

    return describe_search_plan(page.settings.limits.on_search(plan_search(search, token=token)))


def submit_search(page: Page, owner: str, search: Search, token: str | None) -> Job:
    """Queues a search."""
    require_fit_for_strangers(page.settings, search, page.examples.task)
    title = title_of(search.merge_method or "paths", [str(model) for model in search.models])
    return page.jobs.submit(owner, "evolve", title, {"search": search.to_dict()}, token)
