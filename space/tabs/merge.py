"""Merge: the recipe as a form, a drawing and YAML; its plan before anything is read; the merge with live progress."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from hubmerge.errors import HubmergeError, RecipeError
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe

from ..forms.recipe import DEFAULT_METHOD, Field, apply, compose, fields, spread
from ..forms.share import QUERY, pack, read_file, unpack
from ..state import Page, owner_of, title_of
from ..theme import colour, html, into_view
from ..views.draw import curve, ribbons
from ..views.plan import describe_plan
from ..visitors.access import require_hub_ids, visitor_token
from ..visitors.guard import shows_errors
from ..wording import escape, short
from ..work.job import Job
from .panel import Panel, panel
from .pick import Pick

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_PLAIN_ADDRESS = "() => history.replaceState(null, '', location.pathname)"
_WHOLE_ADDRESS = f"(packed) => location.origin + location.pathname + '?{QUERY}=' + packed"


@dataclass(frozen=True)
class Merge:
    """The components other tabs read."""

    method: gr.Dropdown
    recipe: gr.Code
    panel: Panel


def merge_tab(page: Page, pick: Pick) -> Merge:
    """Builds the tab."""
    first = compose(METHODS[DEFAULT_METHOD], page.examples.models, page.examples.base_model)
    html('<p class="hm-lead">Set how much of each model goes in. The recipe is what runs; edit either side.</p>')
    redraw = gr.State(0)
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            method = gr.Dropdown(list(METHODS), value=DEFAULT_METHOD, label="Method", elem_id="hm-method")
            about = html(_about(DEFAULT_METHOD))
            form = gr.Column(elem_classes="hm-form")
        with gr.Column(scale=6, min_width=300):
            picture = html(_picture(first), elem_id="hm-picture")
            recipe = gr.Code(
                first.to_yaml() if first else "",
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
            with gr.Row():
                opened = gr.UploadButton(
                    "Open a recipe", file_types=[".yaml", ".yml"], size="sm", min_width=120, elem_id="hm-open-recipe"
                )
                share = gr.Button("Link to this recipe", size="sm", min_width=120, elem_id="hm-share")
            link = gr.Textbox(
                visible=False, label="Link to this recipe", buttons=["copy"], interactive=False, elem_id="hm-share-link"
            )
    planned = html(elem_id="hm-plan")
    job = panel(page, "merge")

    with form:
        # One at a time: two drawings of one visitor's page at once change the table of events under each other's hands.
        @gr.render(
            inputs=[recipe],
            triggers=[page.blocks.load, redraw.change],
            show_progress="hidden",
            concurrency_limit=1,
        )
        @shows_errors
        def draw_form(text: str) -> None:
            _form(text, recipe, picture, redraw)

    def chosen(name: str, models: list[str] | None, base: str | None, text: str, drawn: int) -> tuple[Any, ...]:
        before = _read(text)
        try:
            made = compose(METHODS[name], models or (), base, before)
        except HubmergeError as error:
            return gr.skip(), gr.skip(), _about(name), _sentence(str(error)), gr.skip()
        # Drawn anew only where it shows something else: a control that is replaced loses what is set meanwhile.
        same = before is not None and made is not None and _shown(before) == _shown(made)
        next_form = gr.skip() if same else drawn + 1
        return (made.to_yaml() if made else ""), _picture(made), _about(name), _missing(made), next_form

    # `input`, or what differs: only what a person picks rewrites the recipe, never what an edited recipe picks.
    gr.on(
        [method.input, pick.models.input, pick.base.input],
        chosen,
        [method, pick.models, pick.base, recipe, redraw],
        [recipe, picture, about, said, redraw],
        trigger_mode="always_last",
        **_QUIET,
    )

    def changed(name: str, models: list[str] | None, base: str | None, text: str, drawn: int) -> tuple[Any, ...]:
        before = _read(text)
        held = {str(ref) for ref in before.references if ref != before.base_model} if before else set()
        return (gr.skip(),) * 5 if held == set(models or ()) else chosen(name, models, base, text, drawn)

    # To gradio, no `input` is an ID that is typed and entered, the last one taken back, or all of them.
    pick.models.change(
        changed,
        [method, pick.models, pick.base, recipe, redraw],
        [recipe, picture, about, said, redraw],
        trigger_mode="always_last",
        **_QUIET,
    )

    def edited(text: str, drawn: int) -> tuple[Any, ...]:
        try:
            made = Recipe.from_yaml(text)
        except RecipeError as error:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), _sentence(str(error)), gr.skip()
        name = made.merge_method if made.merge_method in METHODS else None
        models = [str(ref) for ref in made.references if ref != made.base_model]
        base = str(made.base_model) if made.base_model else None
        return (
            gr.Dropdown(value=models),
            gr.Dropdown(value=base) if base else gr.skip(),
            gr.Dropdown(value=name) if name else gr.skip(),
            _about(name) if name else "",
            _picture(made),
            _missing(made),
            drawn + 1,
        )

    # What was chosen outlives a reload, in the visitor's own browser.
    recipe.change(lambda text, kept: text or kept, [recipe, page.kept], [page.kept], **_QUIET)

    whole = [recipe, pick.models, pick.base, method, about, picture, said, redraw]

    @shows_errors
    def restore(kept: Any, drawn: int, request: gr.Request) -> tuple[Any, ...]:
        if packed := request.query_params.get(QUERY):
            kept = unpack(packed)
        if not isinstance(kept, str) or _read(kept) is None:
            return (gr.skip(),) * len(whole)
        return (kept, *edited(kept, drawn))

    @shows_errors
    def read(file: str, drawn: int) -> tuple[Any, ...]:
        text = read_file(Path(file))
        return (text, *edited(text, drawn))

    # The address is plain again afterwards: a reload brings what the visitor made of the recipe.
    page.ready.then(restore, [page.kept, redraw], whole, **_QUIET).then(None, js=_PLAIN_ADDRESS, **_QUIET)
    recipe.blur(edited, [recipe, redraw], whole[1:], **_QUIET)
    opened.upload(read, [opened, redraw], whole, **_QUIET)

    @shows_errors
    def packed(text: str) -> gr.Textbox:
        require_hub_ids(page.settings, _required(text))
        return gr.Textbox(pack(text), visible=True)

    share.click(packed, [recipe], [link], **_QUIET).success(None, [link], [link], js=_WHOLE_ADDRESS, **_QUIET)
    # A link that is shown is the recipe's as it stands.
    recipe.change(lambda: gr.Textbox(visible=False), None, [link], **_QUIET)

    @shows_errors
    def show_plan(text: str, oauth: gr.OAuthToken | None) -> str:
        checked = require_hub_ids(page.settings, _required(text))
        return describe_plan(page.settings.limits.plan(checked, visitor_token(page.settings, oauth)))

    @shows_errors
    def start(text: str, key: str | None, request: gr.Request, oauth: gr.OAuthToken | None) -> gr.Timer:
        submit_merge(page, owner_of(key, request), text, visitor_token(page.settings, oauth))
        return gr.Timer(active=True)

    plan.click(show_plan, [recipe], [planned], show_progress="minimal", api_visibility="private").success(
        None, js=into_view("hm-plan"), **_QUIET
    )
    go.click(start, [recipe, page.owner], [page.timer], **_QUIET).success(
        job.refresh, job.inputs, job.outputs, **_QUIET
    ).success(None, js=into_view("hm-merge-job"), **_QUIET)
    return Merge(method, recipe, job)


def submit_merge(page: Page, owner: str, text: str, token: str | None) -> Job:
    """Queues a merge of the recipe in `text`. Raises `HubmergeError` for one that cannot be read or may not run."""
    recipe = require_hub_ids(page.settings, _required(text))
    models = [str(ref) for ref in recipe.references if ref != recipe.base_model]
    return submit_recipe(page, owner, recipe, title_of(recipe.merge_method, models), token)


def submit_recipe(page: Page, owner: str, recipe: Recipe, title: str, token: str | None) -> Job:
    """Queues a merge of a recipe that may name what a search of this page has made."""
    return page.jobs.submit(owner, "merge", title, {"recipe": recipe.to_yaml()}, token)


def _form(text: str, recipe: gr.Code, picture: gr.HTML, redraw: gr.State) -> None:
    """Draws the controls of all parameters that the form can show, grouped by model; inside `gr.render`."""
    made = _read(text)
    if made is None:
        html('<div class="hm-empty">Choose models in step 1 and their settings appear here.</div>')
        return
    shown = fields(made)
    controls: list[Any] = []
    curves: list[tuple[list[int], gr.HTML]] = []
    for index, entry in enumerate(made.models):
        own = {
            name: [place for place, field in enumerate(shown) if (field.model, field.parameter.name) == (index, name)]
            for name in dict.fromkeys(field.parameter.name for field in shown if field.model == index)
        }
        if own:
            with gr.Group(elem_classes="hm-model"):
                dot = f'<i style="background:{colour(index)}"></i>'
                html(f'<div class="hm-model-name">{dot}{escape(short(str(entry.model)))}</div>')
                for name, places in own.items():
                    by_layer = shown[places[0]].depth is not None
                    if by_layer:
                        curves.append((places, html(_curve(shown, places, [shown[place].value for place in places]))))
                    controls += [_control(shown[place]) for place in places]
                    if not shown[places[0]].parameter.is_switch:
                        _switch(by_layer, index, name, recipe, picture, redraw)
    rest = [field for field in shown if field.model is None]
    if rest:
        with gr.Accordion("Settings of the whole merge", open=not controls):
            controls += [_control(field) for field in rest]
    if not controls or made.slices:
        html('<div class="hm-quiet">This recipe is set up in YAML alone.</div>')
        return

    @shows_errors
    def set_values(text: str, *values: Any) -> tuple[Any, ...]:
        now, nothing = _read(text), (gr.skip(),) * (2 + len(curves))
        if now is None or [_place(field) for field in fields(now)] != [_place(field) for field in shown]:
            return nothing  # the recipe was edited meanwhile: a new form is on its way
        changed = apply(now, shown, values)
        if changed == now:
            return nothing  # a slider tells of a move twice: the second answer would undo what is typed meanwhile
        drawn = [_curve(shown, places, [values[place] for place in places]) for places, _ in curves]
        return (changed.to_yaml(), _picture(changed), *drawn)

    for control in controls:
        # All controls at once: two quick moves must not undo each other.
        event = control.release if isinstance(control, gr.Slider) else control.input
        gr.on(
            [event, control.input] if isinstance(control, gr.Slider) else [event],
            set_values,
            [recipe, *controls],
            [recipe, picture, *(drawn for _, drawn in curves)],
            trigger_mode="always_last",
            **_QUIET,
        )


def _shown(recipe: Recipe) -> tuple[list[str], list[Field]]:
    """All that the form shows of a recipe."""
    return [str(entry.model) for entry in recipe.models], fields(recipe)


def _place(field: Field) -> tuple[str, int | None, float | None]:
    return field.parameter.name, field.model, field.depth


def _switch(by_layer: bool, model: int, name: str, recipe: gr.Code, picture: gr.HTML, redraw: gr.State) -> None:
    """A button that makes one value a gradient over the layers, or the other way round."""

    @shows_errors
    def turn(text: str, drawn: int) -> tuple[Any, ...]:
        now = _read(text)
        if now is None or model >= len(now.models):
            return gr.skip(), gr.skip(), gr.skip()
        changed = spread(now, model, name)
        return changed.to_yaml(), _picture(changed), drawn + 1

    label = f"{name}: one value for all layers" if by_layer else f"{name}: layer by layer"
    button = gr.Button(label, size="sm", variant="secondary", elem_classes="hm-by-layer")
    button.click(turn, [recipe, redraw], [recipe, picture, redraw], **_QUIET)


def _curve(shown: Sequence[Field], places: Sequence[int], values: Sequence[Any]) -> str:
    first = shown[places[0]]
    low, high = first.parameter.typical
    numbers = [float(value) for value in values]
    return curve(numbers, min(low, *numbers), max(high, *numbers), colour(first.model or 0))


def _control(field: Field) -> Any:
    parameter = field.parameter
    label = parameter.name
    if parameter.is_switch:
        return gr.Checkbox(bool(field.value), label=label, info=parameter.help, interactive=True)
    if parameter.name == "seed":
        return gr.Number(int(field.value), label=label, info=parameter.help, precision=0, minimum=0, interactive=True)
    low, high = parameter.typical
    value = float(field.value)
    return gr.Slider(
        min(low, value),
        max(high, value),
        value=value,
        step=0.01,
        label=label if field.depth is None else f"{label} at {_depth(field.depth)}",
        info=parameter.help if field.depth is None else None,
        buttons=[],
        interactive=True,
    )


def _depth(depth: float) -> str:
    return {0.0: "the first layer", 1.0: "the last layer"}.get(depth, f"{depth:.0%} of the layers")


def _read(text: str) -> Recipe | None:
    try:
        return Recipe.from_yaml(text) if text.strip() else None
    except RecipeError:
        return None


def _required(text: str) -> Recipe:
    if not text.strip():
        raise RecipeError("There is no recipe yet: choose at least one model in step 1.")
    return Recipe.from_yaml(text)


def _missing(recipe: Recipe | None) -> str:
    """What still keeps a recipe from running, said before the plan says it."""
    method = METHODS.get(recipe.merge_method) if recipe else None
    if recipe is None or method is None or recipe.slices:
        return ""
    if method.base == "required" and recipe.base_model is None:
        return _sentence(f"{method.name} builds on a base model: choose one in step 1.", "warning")
    most = method.max_models
    if most is not None and len(recipe.models) > most:
        beside = " beside the base" if method.base == "required" else ""
        return _sentence(f"{method.name} takes {most} model{beside}, this recipe has {len(recipe.models)}.", "warning")
    if len(recipe.models) < method.min_models:
        return _sentence(f"{method.name} needs at least {method.min_models} models.", "warning")
    return ""


def _sentence(text: str, level: str = "") -> str:
    return f'<div class="hm-problem {level}" role="status">{escape(text)}</div>'


def _about(name: str) -> str:
    method = METHODS[name]
    link = f'<a href="{escape(method.paper)}" target="_blank" rel="noopener">paper</a>' if method.paper else ""
    return f'<div class="hm-quiet">{escape(method.summary)} {link}</div>'


def _picture(recipe: Recipe | None) -> str:
    return f'<div class="hm-panel">{ribbons(recipe)}</div>' if recipe else ""
