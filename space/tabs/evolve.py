"""Evolve: what may vary and how a candidate is judged; then the search live, and any of its candidates as a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from hubmerge.errors import SearchError
from hubmerge.evolve.search import Search
from hubmerge.extras import require

from ..forms.filled import filled, names
from ..forms.search import SearchForm
from ..state import Page, owner_of, title_of
from ..theme import BASE_COLOUR, RESULT_COLOUR, html, into_view
from ..views.parts import lead
from ..views.plan import describe_search_plan
from ..views.search import BEST, MEAN, NOTHING, drawer, frame
from ..visitors.access import Token, require_fit_for_strangers, visitor_token
from ..visitors.guard import shows_errors
from ..work.job import Job
from ..work.runners import RUN_FOLDER
from .evolve_form import search_controls
from .merge import submit_recipe
from .panel import Panel, begins, panel
from .pick import Pick

if TYPE_CHECKING:
    from hubmerge.evolve.plan import SearchPlan

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Evolve:
    """What other tabs need: the job's panel, and the event after which a candidate is being made into a model."""

    panel: Panel
    made: Any


def evolve_tab(page: Page, pick: Pick, tab: gr.Tab) -> Evolve:
    """Builds the tab."""
    html(lead("Let a search find the recipe: candidates are built in memory and judged on your task."))
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            controls = search_controls(page.examples.task, page.settings.on_space)
            with gr.Row():
                plan = gr.Button("Plan", elem_id="hm-search-plan-button", min_width=120)
                go = gr.Button("Evolve", variant="primary", elem_id="hm-evolve-button", min_width=120)
        with gr.Column(scale=6, min_width=300):
            planned = html(elem_id="hm-search-plan")
            job, made = _live(page)

    fields = {"models": pick.models, "base": pick.base, **controls}
    inputs = [page.owner, pick.drawn, *(fields[name] for name in names(SearchForm))]

    def show_plan(search: Search, owner: str, token: Token) -> str:
        return describe_search_plan(of_form(plan_search(page, search, token)))

    def start(search: Search, owner: str, token: Token) -> gr.Timer:
        submit_search(page, owner, search, token)
        return gr.Timer(active=True)

    plan.click(
        _with_search(page, show_plan),
        inputs,
        [planned],
        show_progress="minimal",
        concurrency_limit=1,
        api_visibility="private",
    ).success(None, js=into_view("hm-search-plan"), **_QUIET)
    begins(page, job, go, _with_search(page, start), inputs)

    # A curve that is drawn while its tab is hidden has no width, and keeps none.
    def enter(key: str | None, request: gr.Request) -> Sequence[Any]:
        return job.refresh(key, "", request)

    tab.select(enter, [page.owner], job.outputs, **_QUIET)
    return Evolve(job, made)


def _with_search(page: Page, then: Callable[[Search, str, Token], Any]) -> Callable[..., Any]:
    """A handler that hands what the form says to `then`, and whose it is."""

    @shows_errors
    def handler(key: str | None, drawn: Any, request: gr.Request, oauth: gr.OAuthToken | None, *values: Any) -> Any:
        token = visitor_token(page.settings, oauth)
        search = filled(SearchForm, values).to_search(page.examples.task, token, drawn)
        return then(search, owner_of(key, request), token)

    return handler


def _live(page: Page) -> tuple[Panel, Any]:
    """The search as it goes: its job, figures, curve, scores and candidates; and the event that makes one a model."""
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

    return job, make.click(make_one, [one, page.owner], [page.timer], **_QUIET)


def plan_search(page: Page, search: Search, token: Token) -> "SearchPlan":
    """What a search would do, from headers and examples alone, with a finding for each limit that it goes over."""
    require_fit_for_strangers(page.settings, search, page.examples.task)
    require("evotorch", "matplotlib")
    # Brings EvoTorch and Ray, which a page without a search does without.
    from hubmerge.evolve.plan import plan_search

    limits = page.settings.limits
    return limits.on_search(plan_search(search, token=token, memory=limits.memory))


def of_form(plan: "SearchPlan") -> "SearchPlan":
    """The plan, as somebody reads it who filled in the form: of each split that asks for so many examples at most."""
    return replace(plan, findings=tuple(one for one in plan.findings if one.about != "splits"))


def submit_search(page: Page, owner: str, search: Search, token: str | None) -> Job:
    """Queues a search."""
    require_fit_for_strangers(page.settings, search, page.examples.task)
    require("evotorch", "matplotlib")
    title = title_of(search.merge_method or "paths", [str(model) for model in search.models])
    return page.jobs.submit(owner, "evolve", title, {"search": search.to_dict()}, token)
