"""Drawings, as SVG text: the recipe as ribbons that flow into one model, and a score as a point on its interval."""

from collections.abc import Sequence

from hubmerge.recipe import Recipe, Setting

from ..theme import BASE_COLOUR, RESULT_COLOUR, colour
from ..wording import escape, short

_WIDTH, _ROW, _TOP = 640, 54, 22
_LEFT, _RIGHT = 232, 520
_THICKEST = 30.0


def ribbons(recipe: Recipe) -> str:
    """The models of `recipe` as ribbons, as thick as their weights, that meet in the merged model."""
    names = [(str(entry.model), colour(i), _weight(recipe, i)) for i, entry in enumerate(recipe.models)]
    if recipe.slices:
        refs = dict.fromkeys(source.model for piece in recipe.slices for source in piece.sources)
        names = [(str(ref), colour(i), 1.0) for i, ref in enumerate(refs)]
    if recipe.base_model:
        share = 1.0 - (_weight(recipe, 0) or 0.0) if recipe.merge_method == "slerp" else None
        names.insert(0, (str(recipe.base_model), BASE_COLOUR, share))
    largest = max((abs(weight) for _, _, weight in names if weight is not None), default=1.0) or 1.0
    widths = [
        max(2.0, _THICKEST * abs(1.0 if weight is None else weight) / max(largest, 1.0)) for _, _, weight in names
    ]
    height = 2 * _TOP + _ROW * max(len(names), 1)
    middle, stack = height / 2, sum(widths)
    parts, offset = [], middle - stack / 2
    for row, ((name, fill, weight), width) in enumerate(zip(names, widths, strict=True)):
        y, end = _TOP + _ROW * (row + 0.5), offset + width / 2
        offset += width
        half = (_LEFT + _RIGHT) / 2
        path = f"M{_LEFT},{y:.1f} C{half},{y:.1f} {half},{end:.1f} {_RIGHT},{end:.1f}"
        parts.append(
            f'<path d="{path}" stroke="url(#hm-flow-{row})" stroke-width="{width:.1f}" fill="none"/>'
            f'<linearGradient id="hm-flow-{row}" gradientUnits="userSpaceOnUse" x1="{_LEFT}" x2="{_RIGHT}">'
            f'<stop stop-color="{fill}" stop-opacity=".85"/>'
            f'<stop offset="1" stop-color="{RESULT_COLOUR}" stop-opacity=".9"/></linearGradient>'
            f'<circle cx="{_LEFT}" cy="{y:.1f}" r="5" fill="{fill}"/>'
            f'<g text-anchor="end"><text x="{_LEFT - 14}" y="{y - 2:.1f}" class="hm-name">{escape(_clip(short(name)))}'
            f'</text><text x="{_LEFT - 14}" y="{y + 14:.1f}" class="hm-note">{_note(recipe, weight, fill)}</text></g>'
        )
    box = max(stack + 12, 40)
    parts.append(
        f'<rect x="{_RIGHT - 3}" y="{middle - box / 2:.1f}" width="10" height="{box:.1f}" rx="5" '
        f'fill="{RESULT_COLOUR}"/>'
        f'<text x="{_RIGHT + 20}" y="{middle - 2:.1f}" class="hm-name">merged</text>'
        f'<text x="{_RIGHT + 20}" y="{middle + 14:.1f}" class="hm-note">{escape(recipe.merge_method)}</text>'
    )
    title = f"{len(names)} models flow into one by {escape(recipe.merge_method)}"
    attributes = f'class="hm-ribbons" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}"'
    return f"<svg {attributes}>{''.join(parts)}</svg>"


def curve(values: Sequence[float], low: float, high: float, fill: str) -> str:
    """A gradient as the curve that it is over the layers, on an axis from `low` to `high`."""
    span = (high - low) or 1.0
    points = [(4 + 192 * i / (len(values) - 1), 40 - 36 * (value - low) / span) for i, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{fill}"/>' for x, y in points)
    told = f"from {values[0]:g} at the first layer to {values[-1]:g} at the last"
    return (
        f'<svg class="hm-layers" viewBox="0 0 200 44" role="img" aria-label="{told}">'
        '<line x1="4" x2="196" y1="40" y2="40" class="hm-axis"/>'
        f'<polyline points="{line}" fill="none" stroke="{fill}" stroke-width="1.8"/>{dots}</svg>'
    )


def interval(value: float, low: float, high: float, limit: float, fill: str) -> str:
    """A score as a point on its 95% interval, on an axis from 0 to `limit`."""
    scale = 100.0 / (limit or 1.0)
    return (
        '<svg class="hm-interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<line x1="0" x2="100" y1="5" y2="5" class="hm-axis"/>'
        f'<rect x="{low * scale:.2f}" width="{max(0.6, (high - low) * scale):.2f}" y="3" height="4" rx="1" '
        f'fill="{fill}" opacity=".35"/>'
        f'<rect x="{value * scale - 0.5:.2f}" width="1.2" y="0.5" height="9" fill="{fill}"/></svg>'
    )


def _weight(recipe: Recipe, index: int) -> float | None:
    own = recipe.models[index].parameters
    for name in ("weight", "t", "scale"):
        setting = own.get(name, recipe.parameters.get(name))
        if setting is not None:
            return _middle(setting)
    return 1.0


def _middle(setting: Setting) -> float | None:
    """One number for a setting that may vary over depth; None where it depends on tensor names."""
    values: Sequence[object] = setting if isinstance(setting, tuple) else (setting,)
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
