"""Merge: the recipe as a form, a drawing and YAML; its plan before anything is read; the merge with live progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, RecipeError
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe

from ..client import Proposals, proposed
from ..forms.parts import Drawn
from ..forms.recipe import DEFAULT_METHOD, compose, fields, placed, texts_of
from ..forms.share import QUERY, pack, read_file, unpack
from ..standing import ONE_BY_ONE, Kept, after, standing
from ..state import Page, owner_of, title_of
from ..theme import html, into_view
from ..views.draw import ribbons
from ..views.models import describe_parts
from ..views.parts import lead, note, render
from ..views.plan import describe_plan
from ..visitors.access import require_hub_ids, visitor_token
from ..visitors.guard import shows_errors
from ..work.job import Job
from .panel import Panel, begins, panel
from .pick import Pick
from .sliders import Written, draw_controls, read

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_PLAIN_ADDRESS = "() => history.replaceState(null, '', location.pathname)"
_HIDDEN = "() => ({__type__: 'update', visible: false})"
"""By the browser at once: an answer of the server may come when the link to the changed recipe is shown already."""
_WHOLE_ADDRESS = f"(packed) => location.origin + location.pathname + '?{QUERY}=' + packed"


@dataclass(frozen=True)
class Merge:
    """The components other tabs read."""

    method: gr.Dropdown
    recipe: gr.Code
    panel: Panel


@dataclass(frozen=True)
class _Recipe:
    """A recipe on the page, by the components that show it. `redraw` counts drawings of the sliders; `told` holds the
    models that the text and the Pick tab were last made to agree on, `written` the text that the picks last made,
    `kept` those that handlers wrote (see standing.py)."""

    models: gr.Dropdown
    base: gr.Dropdown
    method: gr.Dropdown
    about: gr.HTML
    text: gr.Code
    picture: gr.HTML
    said: gr.HTML
    redraw: gr.State
    told: gr.State
    written: gr.State
    kept: gr.State


def merge_tab(page: Page, pick: Pick) -> Merge:
    """Builds the tab."""
    first = compose(METHODS[DEFAULT_METHOD], page.examples.models, page.examples.base_model)
    html(lead("Set how much of each model goes in. The recipe is what runs; edit either side."))
    begun = first.to_yaml() if first else ""
    redraw, told, written, kept = gr.State(0), gr.State([]), gr.State(begun), gr.State(after(begun, []))
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            method = gr.Dropdown(list(METHODS), value=DEFAULT_METHOD, label="Method", elem_id="hm-method")
            about = html(_about(DEFAULT_METHOD))
            form = gr.Column(elem_classes="hm-form")
        with gr.Column(scale=6, min_width=300):
            picture = html(ribbons(first), elem_id="hm-picture")
            text = gr.Code(
                begun,
                language="yaml",
                label="Recipe (YAML)",
                lines=10,
                max_lines=24,
                interactive=True,
                elem_id="hm-recipe",
            )
            said = html()
            with gr.Row():
                plan = gr.Button("Plan", elem_id="hm-plan-button", min_width=120)
                go = gr.Button("Merge", variant="primary", elem_id="hm-merge-button", min_width=120)
            recipe = _Recipe(pick.models, pick.base, method, about, text, picture, said, redraw, told, written, kept)
            files = _files()
    planned = html(elem_id="hm-plan")
    job = panel(page, "merge")

    with form:
        # One at a time: two drawings of one visitor's page at once change the table of events under each other's hands.
        @gr.render(
            inputs=[text, kept, pick.drawn],
            triggers=[page.blocks.load, redraw.change],
            show_progress="hidden",
            concurrency_limit=1,
        )
        @shows_errors
        def draw_form(now: str, before: Kept, drawn: Drawn | None) -> None:
            draw_controls(standing(now, before), drawn, Written(text, picture, redraw, kept))

    _follow_picks(recipe, pick)
    _follow_text(page, recipe, files)
    _share(page, recipe, files)
    _run(page, recipe, plan, go, planned, job)
    return Merge(method, text, job)


@dataclass(frozen=True)
class _Files:
    """A recipe that comes as a file, and one that goes as a link."""

    opened: gr.UploadButton
    share: gr.Button
    link: gr.Textbox


def _files() -> _Files:
    with gr.Row():
        opened = gr.UploadButton(
            "Open a recipe", file_types=[".yaml", ".yml"], size="sm", min_width=120, elem_id="hm-open-recipe"
        )
        share = gr.Button("Link to this recipe", size="sm", min_width=120, elem_id="hm-share")
    link = gr.Textbox(
        visible=False, label="Link to this recipe", buttons=["copy"], interactive=False, elem_id="hm-share-link"
    )
    return _Files(opened, share, link)


def _follow_picks(recipe: _Recipe, pick: Pick) -> None:
    """Another method, model or base makes another recipe."""
    shown = (
        recipe.text,
        recipe.picture,
        recipe.about,
        recipe.said,
        recipe.redraw,
        recipe.told,
        recipe.written,
        pick.parts,
    )
    nothing = (gr.skip(),) * len(shown)

    def chosen(
        name: str,
        models: list[str] | None,
        base: str | None,
        text: str,
        count: int,
        drawn: Drawn | None,
        fresh: bool = False,
    ) -> tuple[Any, ...]:
        before = read(text)
        try:
            made = compose(METHODS[name], models or (), base, None if fresh else before, drawn)
        except HubmergeError as error:
            return gr.skip(), gr.skip(), _about(name), _said(str(error)), *(gr.skip(),) * 4
        # Drawn anew only where it shows something else: a control that is replaced loses what is set meanwhile.
        same = before is not None and made is not None and _shown(before) == _shown(made)
        next_form = gr.skip() if same else count + 1
        text = made.to_yaml() if made else ""
        parts = describe_parts(made, drawn)
        return text, ribbons(made), _about(name), _missing(made), next_form, models or [], text, parts

    def changed(
        name: str, models: list[str] | None, base: str | None, text: str, count: int, drawn: Any, told: list[str]
    ) -> tuple[Any, ...]:
        before = read(text)
        held = set(picked(before)) if before else set()
        # What a text picked, which may have been edited again since, rewrites none either.
        return nothing if set(models or ()) in (held, set(told)) else chosen(name, models, base, text, count, drawn)

    def rebased(
        name: str, models: list[str] | None, base: str | None, text: str, count: int, drawn: Drawn | None
    ) -> tuple[Any, ...]:
        before = read(text)
        in_parts = before is not None and before.modules and drawn is not None and drawn.parts
        takes = before is not None and (METHODS[name].base != "none" or in_parts) and base
        same = before is None or str(before.base_model) == base or before.merge_method != name
        return chosen(name, models, base, text, count, drawn) if takes and not same else nothing

    def known(
        name: str, models: list[str] | None, base: str | None, text: str, count: int, drawn: Drawn | None, written: str
    ) -> tuple[Any, ...]:
        # What pipelines are made of is known when they are read. What a person wrote or set meanwhile stays.
        if text.strip() and text.strip() == written.strip():
            text, *others = chosen(name, models, base, text, count, drawn, fresh=True)
            return text, *others[:3], count + 1, *others[4:]
        return *(gr.skip(),) * 4, count + 1, gr.skip(), gr.skip(), describe_parts(read(text), drawn)

    def settled(
        name: str,
        models: list[str] | None,
        base: str | None,
        text: str,
        count: int,
        drawn: Drawn | None,
        told: list[str],
        written: str,
    ) -> tuple[Any, ...]:
        # Answers come in any order, and one that was asked for before another may write the recipe after it.
        before = read(text)
        in_parts = bool(drawn and drawn.parts)
        unlike = before is not None and (bool(before.modules), before.merge_method) != (in_parts, name)
        if unlike and text.strip() == written.strip():
            return chosen(name, models, base, text, count, drawn, fresh=True)
        found = changed(name, models, base, text, count, drawn, told)
        return (*found[:-1], describe_parts(before, drawn)) if found is nothing else found

    def shown_parts(text: str, drawn: Drawn | None) -> str:
        return describe_parts(read(text), drawn)

    def on(handler: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        def asked(kept: Kept, name: str, models: Any, base: Any, text: str, *more: Any) -> tuple[Any, ...]:
            found = handler(name, models, base, standing(text, kept), *more)
            return after(found[0], kept) if isinstance(found[0], str) else gr.skip(), *found

        return asked

    inputs = [recipe.kept, recipe.method, recipe.models, recipe.base, recipe.text, recipe.redraw, pick.drawn]
    outputs = [recipe.kept, *shown]
    # `input`, or what differs: only what a person picks rewrites the recipe, never what an edited recipe picks.
    events = [recipe.method.input, recipe.models.input, recipe.base.input]
    # Not "always_last": gradio repeats the whole event for that, so two that wait on one box, as the Pick
    # tab's own do, would go round in a ring. They are answered in the order in which they were asked.
    each: dict[str, Any] = {"trigger_mode": "multiple", **ONE_BY_ONE, **_QUIET}
    answers = (
        gr.on(events, on(chosen), inputs, outputs, **each),
        # A base that the cards told of is no `input`.
        recipe.base.change(on(rebased), inputs, outputs, **each),
        # To gradio, no `input` is an ID that is typed and entered, the last one taken back, or all of them.
        recipe.models.change(on(changed), [*inputs, recipe.told], outputs, **each),
        pick.drawn.change(on(known), [*inputs, recipe.written], outputs, **each),
    )
    for answer in answers:
        answer.then(on(settled), [*inputs, recipe.told, recipe.written], outputs, **ONE_BY_ONE, **_QUIET)
    pick.tab.select(shown_parts, [recipe.text, pick.drawn], [pick.parts], **_QUIET)


def _follow_text(page: Page, recipe: _Recipe, files: _Files) -> None:
    """A recipe that is edited, opened, linked to or left here before is shown by all other components."""

    picks = Proposals(recipe.models, recipe.base, recipe.method)
    follows = [recipe.kept, picks.told, recipe.about, recipe.picture, recipe.said, recipe.redraw, recipe.told]

    def edited(text: str, kept: Kept, drawn: int, models: Any, base: str | None, method: str | None) -> tuple[Any, ...]:
        text = standing(text, kept)
        kept = after(text, kept)
        try:
            made = Recipe.from_text(text)
        except RecipeError as error:
            return (kept, None, *(gr.skip(),) * 2, _said(str(error)), gr.skip(), gr.skip())
        name = made.merge_method if made.merge_method in METHODS else None
        named = str(made.base_model) if made.base_model else base
        return (
            kept,
            proposed((models, picked(made)), (base, named), (method, name or method)),
            _about(name) if name else "",
            ribbons(made),
            _missing(made),
            drawn + 1,
            picked(made),
        )

    @shows_errors
    def restore(kept: Any, request: gr.Request, *shown: Any) -> tuple[Any, ...]:
        if packed := request.query_params.get(QUERY):
            kept = unpack(packed)
        if not isinstance(kept, str) or read(kept) is None:
            return (gr.skip(),) * (1 + len(follows))
        return (kept, *opened_as(kept, *shown))

    @shows_errors
    def open_file(file: str, *shown: Any) -> tuple[Any, ...]:
        text = read_file(Path(file))
        return (text, *opened_as(text, *shown))

    def opened_as(text: str, kept: Kept, *shown: Any) -> tuple[Any, ...]:
        return edited(text, after(text, kept), *shown)

    # What was chosen outlives a reload, in the visitor's own browser.
    recipe.text.change(lambda text, kept: text or kept, [recipe.text, page.kept], [page.kept], **_QUIET)
    # The address is plain again afterwards: a reload brings what the visitor made of the recipe.
    shown, whole = [recipe.kept, recipe.redraw, *picks.boxes], [recipe.text, *follows]
    restored = page.ready.then(restore, [page.kept, *shown], whole, **ONE_BY_ONE, **_QUIET)
    restored.then(None, js=_PLAIN_ADDRESS, **_QUIET)
    edits = recipe.text.blur(edited, [recipe.text, *shown], follows, **ONE_BY_ONE, **_QUIET)
    opened = files.opened.upload(open_file, [files.opened, *shown], whole, **ONE_BY_ONE, **_QUIET)
    for event in (restored, edits, opened):
        picks.enter(event)


def _share(page: Page, recipe: _Recipe, files: _Files) -> None:
    """A recipe as a link."""

    @shows_errors
    def packed(text: str) -> gr.Textbox:
        require_hub_ids(page.settings, _required(text))
        return gr.Textbox(pack(text), visible=True)

    files.share.click(packed, [recipe.text], [files.link], **_QUIET).success(
        None, [files.link], [files.link], js=_WHOLE_ADDRESS, **_QUIET
    )
    # A link that is shown is the recipe's as it stands.
    recipe.text.change(None, None, [files.link], js=_HIDDEN, **_QUIET)


def _run(page: Page, recipe: _Recipe, plan: gr.Button, go: gr.Button, planned: gr.HTML, job: Panel) -> None:
    """The buttons that plan the recipe and merge it."""

    @shows_errors
    def show_plan(text: str, oauth: gr.OAuthToken | None) -> str:
        checked = require_hub_ids(page.settings, _required(text))
        return describe_plan(page.settings.limits.plan(checked, visitor_token(page.settings, oauth)))

    @shows_errors
    def start(text: str, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> gr.Timer:
        submit_merge(page, owner_of(key, request), text, visitor_token(page.settings, oauth))
        return gr.Timer(active=True)

    plan.click(show_plan, [recipe.text], [planned], show_progress="minimal", api_visibility="private").success(
        None, js=into_view("hm-plan"), **_QUIET
    )
    begins(page, job, go, start, [recipe.text, page.owner])


def submit_merge(page: Page, owner: str, text: str, token: str | None) -> Job:
    """Queues a merge of the recipe in `text`. Raises `HubmergeError` for one that cannot be read or may not run."""
    recipe = require_hub_ids(page.settings, _required(text))
    models = [str(ref) for ref in recipe.references if ref != recipe.base_model]
    return submit_recipe(page, owner, recipe, title_of(recipe.merge_method, models), token)


def submit_recipe(page: Page, owner: str, recipe: Recipe, title: str, token: str | None) -> Job:
    """Queues a merge of a recipe that may name what a search of this page has made."""
    return page.jobs.submit(owner, "merge", title, {"recipe": recipe.to_yaml()}, token)


def picked(recipe: Recipe) -> list[str]:
    """What a recipe's last merge is made of, as the Pick tab has it: models of the Hub, and stages by their names; of
    parts those that are mixed, not what is only copied from."""
    if recipe.modules:
        return list(dict.fromkeys(str(entry.model) for _, entry in placed(recipe)))
    return [str(ref) for ref in recipe.named if ref != recipe.base_model]


def _shown(recipe: Recipe) -> tuple[Any, ...]:
    """All that the form shows of a recipe."""
    method = METHODS.get(recipe.merge_method)
    texts = list(map(texts_of, recipe.calibrations.values())) if method and method.statistic else None
    names = [(part and part.name, str(entry.model)) for part, entry in placed(recipe)]
    return names, fields(recipe), texts, recipe.copied, recipe.giver


def _required(text: str) -> Recipe:
    if not text.strip():
        raise RecipeError("There is no recipe yet: choose at least one model in step 1.")
    return Recipe.from_text(text)


def _missing(recipe: Recipe | None) -> str:
    """What still keeps a recipe from running, said before the plan says it."""
    method = METHODS.get(recipe.merge_method) if recipe else None
    if recipe is None or method is None or not placed(recipe):
        return ""
    if method.base == "required" and recipe.base_model is None:
        return _said(f"{method.name} builds on a base model: choose one in step 1.", "warning")
    most, count = method.max_models, len(recipe.models) or max(len(module.models) for module in recipe.modules)
    if most is not None and count > most:
        beside = " beside the base" if recipe.base_model is not None else ""
        return _said(f"{method.name} takes {most} model{beside}, this recipe has {count}.", "warning")
    if count < method.min_models:
        return _said(f"{method.name} needs at least {method.min_models} models.", "warning")
    return ""


def _said(text: str, level: str = "") -> str:
    return note(text, level=level, role="status")


def _about(name: str) -> str:
    return render("method", method=METHODS[name])
