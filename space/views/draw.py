"""Drawings, as SVG text: the recipe as ribbons that flow into one model, and a score as a point on its interval."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hubmerge.blocks import BASE, is_word
from hubmerge.markup import Markup
from hubmerge.recipe import AS_GIVEN, Conditional, ModelEntry, Recipe, Setting

from ..theme import BASE_COLOUR, RESULT_COLOUR, colour
from ..wording import short
from .parts import render

_ROW, _TOP = 54, 22
_FLOW = 170
_LETTER, _NOTE = 10.6, 9.2
"""What a letter of a name and of a note takes at most, where they are drawn largest: in a narrow panel."""
_THICKEST = 30.0


@dataclass(frozen=True)
class Ribbon:
    """One model of the drawing: what is written beside it, its colour, and the way from there to the merged one."""

    name: str
    note: str
    fill: str
    y: float
    width: str
    path: str


def ribbons(recipe: Recipe | None) -> Markup:
    """The models of `recipe` as ribbons, as thick as their weights, that meet in the merged model."""
    if recipe is None:
        return Markup("")
    names = [(str(entry.model), colour(i), _weight(recipe, entry)) for i, entry in enumerate(_drawn(recipe))]
    if not names:
        refs = [ref for ref in replace(recipe, output=AS_GIVEN).named if ref != recipe.base_model]
        names = [(str(ref), colour(i), 1.0) for i, ref in enumerate(refs)]
    if recipe.base_model and str(recipe.base_model) not in [name for name, _, _ in names]:
        share = 1.0 - (names[0][2] or 0.0) if recipe.merge_method == "slerp" else None
        names.insert(0, (str(recipe.base_model), BASE_COLOUR, share))
    largest = max((abs(weight) for _, _, weight in names if weight is not None), default=1.0) or 1.0
    widths = [
        max(2.0, _THICKEST * abs(1.0 if weight is None else weight) / max(largest, 1.0)) for _, _, weight in names
    ]
    shown = [_clip(short(name)) for name, _, _ in names]
    left = 20 + _LETTER * max(map(len, shown), default=1)
    right = left + _FLOW
    height, stack = 2 * _TOP + _ROW * max(len(names), 1), sum(widths)
    drawn, offset, half = [], height / 2 - stack / 2, left + _FLOW / 2
    for row, ((_, fill, weight), width) in enumerate(zip(names, widths, strict=True)):
        y, end = _TOP + _ROW * (row + 0.5), offset + width / 2
        offset += width
        path = f"M{left:.1f},{y:.1f} C{half:.1f},{y:.1f} {half:.1f},{end:.1f} {right:.1f},{end:.1f}"
        drawn.append(Ribbon(shown[row], _note(recipe, weight, fill), fill, y, f"{width:.1f}", path))
    return render(
        "ribbons",
        ribbons=drawn,
        width=right + 24 + max(_LETTER * len("merged"), _NOTE * len(recipe.merge_method)),
        height=height,
        left=left,
        right=right,
        box=max(stack + 12, 40),
        result=RESULT_COLOUR,
        method=recipe.merge_method,
    )


def curve(values: Sequence[float], low: float, high: float, fill: str) -> Markup:
    """A gradient as the curve that it is over the layers, on an axis from `low` to `high`."""
    span = (high - low) or 1.0
    points = [(4 + 192 * i / (len(values) - 1), 40 - 36 * (value - low) / span) for i, value in enumerate(values)]
    return render("curve", values=values, points=points, fill=fill)


def interval(value: float, low: float, high: float, limit: float, fill: str) -> Markup:
    """A score as a point on its 95% interval, on an axis from 0 to `limit`."""
    scale = 100.0 / (limit or 1.0)
    return render("interval", value=value * scale, low=low * scale, wide=max(0.6, (high - low) * scale), fill=fill)


def _drawn(recipe: Recipe) -> Sequence[ModelEntry]:
    """The models that are mixed; of parts, into the first that is merged."""
    return recipe.models or next((module.models for module in recipe.modules if module.models), ())


def _weight(recipe: Recipe, entry: ModelEntry) -> float | None:
    own = entry.parameters
    for name in ("weight", "t", "scale"):
        setting = own.get(name, recipe.parameters.get(name))
        if setting is not None:
            return _middle(setting)
    return 1.0


def _middle(setting: Setting) -> float | None:
    """One number for a setting that may vary over depth or blocks; None where it does both."""
    given: Sequence[object] = setting if isinstance(setting, tuple) else (setting,)
    values = [one.value if isinstance(one, Conditional) and is_word(one.filter or BASE) else one for one in given]
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def _note(recipe: Recipe, weight: float | None, fill: str) -> str:
    if fill == BASE_COLOUR and weight is None:
        return "base"
    if weight is None:
        return "by tensor"
    return f"base, {weight:.2f}" if fill == BASE_COLOUR else f"{weight:.2f}"


def _clip(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"
