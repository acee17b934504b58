"""The controls of a recipe's parameters, drawn anew where the recipe has others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hubmerge.errors import RecipeError
from hubmerge.evaluate.task import BUILTIN
from hubmerge.methods import METHODS
from hubmerge.recipe import Recipe

from ..forms.parts import (
    ALL_ELSE,
    AS_IS,
    BY_BLOCK,
    LAYERS,
    MERGED,
    ONE,
    SHAPES,
    Drawn,
    Part,
    shape_of,
    state_of,
    turned,
)
from ..forms.recipe import Field, Texts, apply, fields, measured_by, placed, spread, texts_of
from ..standing import ONE_BY_ONE, Kept, after, standing
from ..theme import colour, html
from ..views.draw import curve, ribbons
from ..views.parts import note, render
from ..visitors.guard import shows_errors
from ..wording import short

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", **ONE_BY_ONE}


@dataclass(frozen=True)
class Written:
    """A recipe that controls change: its text, its picture, how often the controls were drawn, and the texts that
    handlers wrote (see standing.py)."""

    text: gr.Code
    picture: gr.HTML
    redraw: gr.State
    kept: gr.State

    @property
    def asked(self) -> list[Any]:
        """What a handler is told first."""
        return [self.text, self.kept]

    @property
    def answered(self) -> list[Any]:
        """What it says first."""
        return [self.text, self.kept, self.picture]


def read(text: str) -> Recipe | None:
    """The recipe in `text`; None where there is none, or none that can be read."""
    try:
        return Recipe.from_text(text) if text.strip() else None
    except RecipeError:
        return None


def draw_controls(text: str, drawn: Drawn | None, recipe: Written) -> None:
    """Draws the controls of all parameters that the form can show, grouped by part and model; inside `gr.render`.

    `drawn`: what draws among the models that were chosen, by whose parts and blocks the recipe may be divided.
    """
    made = read(text)
    if made is None:
        html(note("Choose models in step 1 and their settings appear here.", "empty"))
        return
    shown = fields(made)
    controls: list[Any] = []
    curves: list[tuple[list[int], gr.HTML]] = []
    method = METHODS.get(made.merge_method)
    measures = method is not None and method.statistic is not None
    models, before = placed(made), None
    for index, (part, entry) in enumerate(models):
        if part is not None and part is not before:
            before = part
            html(note(f"{part.name}: merged", "quiet", "hm-part", tag="h3"))
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
                        if drawn is not None and (blocks := drawn.blocks_of(part)):
                            _finely(entry.parameters.get(name, 0.0), blocks, drawn, index, name, recipe)
                        else:
                            _switch(by_layer, index, name, recipe)
                if measures:
                    _texts(index, texts_of(entry.calibration or made.calibration), recipe)
    rest = [field for field in shown if field.model is None]
    if rest:
        with gr.Accordion("Settings of the whole merge", open=not controls):
            controls += [_control(field) for field in rest]
    if drawn is not None and drawn.parts and models:
        _parts(made, drawn, recipe)
    if not controls or not models:
        html(note("This recipe is set up in YAML alone.", "quiet"))
        return

    @shows_errors
    def set_values(text: str, kept: Kept, *values: Any) -> tuple[Any, ...]:
        now, nothing = read(standing(text, kept)), (gr.skip(),) * (3 + len(curves))
        if now is None or [_place(field) for field in fields(now)] != [_place(field) for field in shown]:
            return nothing  # the recipe was edited meanwhile: a new form is on its way
        changed = apply(now, shown, values)
        if changed == now:
            return nothing  # a slider tells of a move twice: the second answer would undo what is typed meanwhile
        drawn = [_curve(shown, places, [values[place] for place in places]) for places, _ in curves]
        text = changed.to_yaml()
        return (text, after(text, kept), ribbons(changed), *drawn)

    for control in controls:
        # All controls at once: two quick moves must not undo each other.
        event = control.release if isinstance(control, gr.Slider) else control.input
        gr.on(
            [event, control.input] if isinstance(control, gr.Slider) else [event],
            set_values,
            [*recipe.asked, *controls],
            [*recipe.answered, *(drawn for _, drawn in curves)],
            trigger_mode="always_last",
            **_QUIET,
        )


def _place(field: Field) -> tuple[str, int | None, float | None, str | None]:
    return field.parameter.name, field.model, field.depth, field.filter


def _switch(by_layer: bool, model: int, name: str, recipe: Written) -> None:
    """A button that makes one value a gradient over the layers, or the other way round."""

    @shows_errors
    def turn(text: str, kept: Kept, drawn: int) -> tuple[Any, ...]:
        return _changed(text, kept, drawn, lambda now: spread(now, model, name, ONE if by_layer else LAYERS))

    label = f"{name}: one value for all layers" if by_layer else f"{name}: layer by layer"
    button = gr.Button(label, size="sm", variant="secondary", elem_classes="hm-by-layer")
    button.click(turn, [*recipe.asked, recipe.redraw], [*recipe.answered, recipe.redraw], **_QUIET)


def _changed(text: str, kept: Kept, drawn: int, change: Callable[[Recipe], Recipe]) -> tuple[Any, ...]:
    """The recipe as text and picture, changed, and one more drawing; nothing where it was edited meanwhile."""
    try:
        now = read(standing(text, kept))
        changed = None if now is None else change(now)
    except IndexError:
        changed = None
    if changed is None or changed == now:
        return (gr.skip(),) * 4
    text = changed.to_yaml()
    return text, after(text, kept), ribbons(changed), drawn + 1


def _finely(
    setting: Any,
    blocks: Sequence[str],
    what: Drawn,
    model: int,
    name: str,
    recipe: Written,
) -> None:
    """How finely a value varies over the blocks of a network that draws."""
    several = len([block for block in blocks if block[-1].isdigit()]) > 1
    choices = [(told, shape) for shape, told in SHAPES.items() if several or shape != BY_BLOCK]
    chosen = gr.Dropdown(
        choices,
        value=shape_of(setting, blocks),
        label=f"{name} varies",
        interactive=True,
        elem_classes="hm-finely",
    )

    @shows_errors
    def turn(text: str, kept: Kept, drawn: int, shape: str | None) -> tuple[Any, ...]:
        known = shape in SHAPES
        return _changed(text, kept, drawn, lambda now: spread(now, model, name, shape or ONE, what) if known else now)

    chosen.input(turn, [*recipe.asked, recipe.redraw, chosen], [*recipe.answered, recipe.redraw], **_QUIET)


def _parts(made: Recipe, drawn: Drawn, recipe: Written) -> None:
    """What becomes of each part of a pipeline."""
    whole = str(made.giver)
    named = [str(ref) for ref in made.mixed if ref.component is None]
    others = [name for name in dict.fromkeys([*drawn.pipelines, *named]) if name != whole]

    def control(part: Part) -> None:
        state = state_of(made, part)
        choices = [("merged", MERGED)] if part.parameters else []
        choices += [(f"as it is in {short(whole)}", AS_IS), *((f"from {short(name)}", name) for name in others)]
        if state not in [value for _, value in choices]:
            choices.append((f"from {short(state)}", state))
        box = gr.Dropdown(
            choices,
            value=state,
            allow_custom_value=True,
            label=part.name,
            interactive=True,
            min_width=180,
            elem_id=f"hm-part-{part.name}",
        )

        @shows_errors
        def turn(text: str, kept: Kept, count: int, chosen: str | None) -> tuple[Any, ...]:
            name = (chosen or "").strip()
            return _changed(text, kept, count, lambda now: turned(now, drawn, part, name))

        asked, answered = [*recipe.asked, recipe.redraw, box], [*recipe.answered, recipe.redraw]
        box.change(turn, asked, answered, trigger_mode="always_last", **_QUIET)

    with gr.Accordion("Parts of the pipeline", open=True, elem_id="hm-parts"):
        html(note("Each is merged, left as it is, or copied from another model, whose ID you may enter.", "quiet"))
        with gr.Row():
            for part in drawn.parts:
                control(part)


def _texts(model: int, shown: Texts | None, recipe: Written) -> None:
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
    def set_texts(text: str, kept: Kept, where: str | None, template: str) -> tuple[Any, ...]:
        now, chosen = read(standing(text, kept)), Texts((where or "").strip(), template.strip() or Texts.template)
        if now is None or model >= len(placed(now)):
            return (gr.skip(),) * 3
        box = gr.Textbox(visible=chosen.are_rows)
        if texts_of(placed(now)[model][1].calibration or now.calibration) == chosen:
            return gr.skip(), gr.skip(), box
        text = measured_by(now, model, chosen).to_yaml()
        return text, after(text, kept), box

    for event in (where.change, template.blur, template.submit):
        asked, answered = [*recipe.asked, where, template], [recipe.text, recipe.kept, template]
        event(set_texts, asked, answered, trigger_mode="always_last", **_QUIET)


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
    value, where = float(field.value), _where(field)
    return gr.Slider(
        min(low, value),
        max(high, value),
        value=value,
        step=min(0.01, (high - low) / 100),
        label=label if not where else f"{label} {where}",
        info=None if where else parameter.help,
        buttons=[],
        interactive=True,
    )


_SIDES = {"IN": "IN (down)", "M": "M (mid)", "OUT": "OUT (up)", ALL_ELSE: "all else"}


def _where(field: Field) -> str:
    """The layers or blocks that a value is for."""
    if field.filter is not None:
        return "of " + " ".join(_SIDES.get(word, word) for word in field.filter.split("+"))
    at = field.depth
    if at is None:
        return ""
    return "at " + {0.0: "the first layer", 1.0: "the last layer"}.get(at, f"{at:.0%} of the layers")
