"""The contestants on the test examples: each score with its interval, and what the winner gains over each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .canvas import NARROW, bare, is_number, literal, new_figure, short
from .data import model_name
from .palette import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]


def is_winner(row: Row) -> bool:
    """Whether a row of results.json is the evolved model's: the one that is compared with nothing."""
    return row.get("gain") is None and row.get("p_value") is None


def draw(rows: Sequence[Row], width: float) -> "Figure":
    """Left the scores, right the gain of the evolved model over each contestant; one under the other on a phone."""
    wide = width > NARROW
    block = 0.75 + 0.31 * len(rows)
    figure = new_figure(width, block if wide else 2 * block + 0.2)
    compared = any(_interval(row.get("gain")) for row in rows)
    if not compared:
        _scores(figure.subplots(), rows, 40 if wide else 22)
    elif wide:
        scores, gains = figure.subplots(1, 2, sharey=True)
        _scores(scores, rows, 30)
        _gains(gains, rows)
    else:
        scores, gains = figure.subplots(2, 1)
        _scores(scores, rows, 22)
        _gains(gains, rows)
        _names(gains, rows, 22)
    return figure


def _scores(axes: "Axes", rows: Sequence[Row], length: int) -> None:
    for y, row in enumerate(rows):
        tone = colour("accent") if is_winner(row) else colour("soft")
        if _interval((row.get("low"), row.get("high"))):
            axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=tone, linewidth=2, solid_capstyle="butt")
        axes.plot([100 * row["value"]], [y], "o", color=tone, markersize=6)
    axes.set_xlabel("score, % (95% interval)")
    axes.set_xlim(left=0)
    bare(axes, grid="x")
    _names(axes, rows, length)


def _gains(axes: "Axes", rows: Sequence[Row]) -> None:
    axes.axvline(0, color=colour("soft"), linewidth=0.9)
    best = next((row["value"] for row in rows if is_winner(row)), None)
    for y, row in enumerate(rows):
        gain = _interval(row.get("gain"))
        if gain is None:
            continue
        low, high = 100 * gain[0], 100 * gain[1]
        tone = colour("plus") if low > 0 else colour("minus") if high < 0 else colour("soft")
        axes.plot([low, high], [y, y], color=tone, linewidth=2, solid_capstyle="butt")
        if best is not None:
            axes.plot([100 * (best - row["value"])], [y], "s", color=tone, markersize=5.5)
    axes.set_xlabel("gain of the evolved model, points (95%, paired)")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    bare(axes, grid="x")


def _names(axes: "Axes", rows: Sequence[Row], length: int) -> None:
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [literal(short(model_name(row["model"]), length)) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(colour("accent") if is_winner(row) else colour("ink"))
        label.set_fontweight("bold" if is_winner(row) else "normal")


def _interval(value: object) -> tuple[float, float] | None:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_number, value)):
        return value[0], value[1]
    return None
