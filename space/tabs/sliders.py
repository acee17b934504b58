"""The controls of a recipe's parameters, drawn anew where the recipe has others."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from hubmerge.errors import RecipeError
from hubmerge.evaluate.task import BUILTIN
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe

from ..forms.recipe import Field, Texts, apply, fields, measured_by, spread, texts_of
from ..theme import colour, html
from ..views.draw import curve, ribbons
from ..views.parts import note, render
from ..visitors.guard import shows_errors
from ..wording import short

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def read(text: str) -> Recipe | None:
    """The recipe in `text`; None where there is none, or none that can be read."""
    try:
        return Recipe.from_text(text) if text.strip() else None
    except RecipeError:
        return None


def draw_controls(text: str, recipe: gr.Code, picture: gr.HTML, redraw: gr.State) -> None:
    """Draws the controls of all parameters that the form can show, grouped by model; inside `gr.render`."""
    made = read(text)
    if made is None:
        html(note("Choose models in step 1 and their settings appear here.", "empty"))
        return
    shown = fields(made)
    controls: list[Any] = []
    curves: list[tuple[list[int], gr.HTML]] = []
    method = METHODS.get(made.merge_method)
    measures = method is not None and method.statistic is not None
    for index, entry in enumerate(made.models):
        own = {
            name: [place for place, field in enumerate(shown) if (field.model, field.parameter.name) == (index, name)]
            for name in dict.fromkeys(field.parameter.name for field in shown if field.model == index)
        }
        if own or measures:
            with gr.Group(elem_classes="hm-model"):
                html(render("model_name", colour=colour(index), name=short(str(entry.model))))
                for name, places in own.items():
                    by_layer = shown[places[0]].depth is not None
                    if by_layer:
                        curves.append((places, html(_curve(shown, places, [shown[place].value for place in places]))))
                    controls += [_control(shown[place]) for place in places]
                    if not shown[places[0]].parameter.is_switch:
                        _switch(by_layer, index, name, recipe, picture, redraw)
                if measures:
                    _texts(index, texts_of(entry.calibration or made.calibration), recipe)
    rest = [field for field in shown if field.model is None]
    if rest:
        with gr.Accordion("Settings of the whole merge", open=not controls):
            controls += [_control(field) for field in rest]
    if not controls or not made.models:
        html(note("This recipe is set up in YAML alone.", "quiet"))
        return

    @shows_errors
    def set_values(text: str, *values: Any) -> tuple[Any, ...]:
        now, nothing = read(text), (gr.skip(),) * (2 + len(curves))
        if now is None or [_place(field) for field in fields(now)] != [_place(field) for field in shown]:
            return nothing  # the recipe was edited meanwhile: a new form is on its way
        changed = apply(now, shown, values)
        if changed == now:
            return nothing  # a slider tells of a move twice: the second answer would undo what is typed meanwhile
        drawn = [_curve(shown, places, [values[place] for place in places]) for places, _ in curves]
        return (changed.to_yaml(), ribbons(changed), *drawn)

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


def _place(field: Field) -> tuple[str, int | None, float | None]:
    return field.parameter.name, field.model, field.depth


def _switch(by_layer: bool, model: int, name: str, recipe: gr.Code, picture: gr.HTML, redraw: gr.State) -> None:
    """A button that makes one value a gradient over the layers, or the other way round."""

    @shows_errors
    def turn(text: str, drawn: int) -> tuple[Any, ...]:
        now = read(text)
        if now is None or model >= len(now.models):
            return gr.skip(), gr.skip(), gr.skip()
        changed = spread(now, model, name)
        return changed.to_yaml(), ribbons(changed), drawn + 1

    label = f"{name}: one value for all layers" if by_layer else f"{name}: layer by layer"
    button = gr.Button(label, size="sm", variant="secondary", elem_classes="hm-by-layer")
    button.click(turn, [recipe, redraw], [recipe, picture, redraw], **_QUIET)


def _texts(model: int, shown: Texts | None, recipe: gr.Code) -> None:
    """The texts that a model is measured by."""
    if shown is None:
        html(note("Measured by texts that are set up in YAML alone.", "quiet", "hm-help"))
        return
    where = gr.Dropdown(
        list(dict.fromkeys([*([shown.where] if shown.where else []), *BUILTIN])),
        value=shown.where or None,
        allow_custom_value=True,
        label="Measured by",
        info="texts like those it was tuned on: a task, or a file of a dataset, as org/name/train.jsonl",
        interactive=True,
        elem_classes="hm-texts",
    )
    template = gr.Textbox(
        shown.template,
        label="What is read of a row",
        info="with the names of its {fields}",
        visible=shown.are_rows,
        interactive=True,
        elem_classes="hm-texts",
    )

    @shows_errors
    def set_texts(text: str, where: str | None, template: str) -> tuple[Any, Any]:
        now, chosen = read(text), Texts((where or "").strip(), template.strip() or Texts.template)
        if now is None or model >= len(now.models):
            return gr.skip(), gr.skip()
        same = texts_of(now.models[model].calibration or now.calibration) == chosen
        text = gr.skip() if same else measured_by(now, model, chosen).to_yaml()
        return text, gr.Textbox(visible=chosen.are_rows)

    for event in (where.change, template.blur, template.submit):
        event(set_texts, [recipe, where, template], [recipe, template], trigger_mode="always_last", **_QUIET)


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
        step=min(0.01, (high - low) / 100),
        label=label if field.depth is None else f"{label} at {_depth(field.depth)}",
        info=parameter.help if field.depth is None else None,
        buttons=[],
        interactive=True,
    )


def _depth(depth: float) -> str:
    return {0.0: "the first layer", 1.0: "the last layer"}.get(depth, f"{depth:.0%} of the layers")
