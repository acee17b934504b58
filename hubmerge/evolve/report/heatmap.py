"""The winning recipe: how much of each model goes into each layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .canvas import NARROW, bare, literal, new_figure, short
from .data import model_name
from .palette import colour
from .weights import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.195  # inches: enough for a number of 8 points
_MOST_ROWS = 60  # beyond these, rows grow thinner and numbers are left out


def draw(panels: Sequence[Panel], width: float) -> "Figure":
    """One small map a gene, all with the same rows where they can.

    A cell's hue is the sign of its value, its strength the size, against the largest value of the gene: an empty cell
    is 0 on a light page as on a dark one.
    """
    across = min(len(panels), _across(panels, width))
    bands = [panels[start : start + across] for start in range(0, len(panels), across)]
    most = [max(len(panel.rows) for panel in band) for band in bands]
    heights = [max(0.3, min(rows, _MOST_ROWS) * _ROW) for rows in most]
    figure = new_figure(width, sum(heights) + 0.95 * len(bands) + 0.2)
    grid = figure.subplots(len(bands), across, squeeze=False, gridspec_kw={"height_ratios": heights})
    for band, axes_row, rows in zip(bands, grid, most, strict=True):
        for axes in axes_row[len(band) :]:
            axes.set_axis_off()
        for place, (panel, axes) in enumerate(zip(band, axes_row, strict=False)):
            scale = max(other.largest for other in panels if other.gene == panel.gene) or 1.0
            same = place > 0 and band[place - 1].rows == panel.rows
            _panel(axes, panel, scale, numbers=rows <= _MOST_ROWS, named=not same, inches=width / across)
    return figure


def _across(panels: Sequence[Panel], width: float) -> int:
    """How many maps stand side by side: each column of a map needs half an inch for its number."""
    columns = max((len(panel.columns) for panel in panels), default=1)
    most = 4 if width > NARROW else 2
    return max(1, min(most, int((width - 0.5) / (0.45 * columns + 0.35))))


def _panel(axes: "Axes", panel: Panel, scale: float, *, numbers: bool, named: bool, inches: float) -> None:
    for y, row in enumerate(panel.cells):
        for x, value in enumerate(row):
            if value is None:
                continue
            strength = min(1.0, abs(value) / scale)
            tone = colour("minus" if value < 0 else "plus")
            axes.barh(y, 0.96, 0.94, x - 0.48, color=tone, alpha=0.92 * strength, linewidth=0)
            if numbers:
                # White on a strong colour, else the page's ink: readable in both themes.
                ink = "#fefefe" if strength > 0.68 else colour("ink")
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    columns, rows = len(panel.columns), len(panel.rows)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_facecolor(colour("panel"))
    axes.xaxis.tick_top()
    room = int((inches - 0.6) / columns / 0.085)
    names = [model_name(name) for name in panel.columns]
    fits = all(len(name.rsplit("/", 1)[-1]) <= room for name in names)
    names = [literal(short(name, room if fits else 16)) for name in names]
    axes.set_xticks(range(columns), names, fontsize=8)
    if not fits:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="left", rotation_mode="anchor")
    step = 1 if rows <= _MOST_ROWS else -(-rows // 40)
    shown = [y for y in range(rows) if y % step == 0 or not panel.rows[y].isdecimal()]
    axes.set_yticks(shown, [literal(short(panel.rows[y], 14)) if named else "" for y in shown], fontsize=8)
    if named and any(row.isdecimal() for row in panel.rows):
        axes.set_ylabel("layer")
    axes.set_title(literal(panel.title), fontsize=9.5, color=colour("ink"), loc="left")
    bare(axes)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
