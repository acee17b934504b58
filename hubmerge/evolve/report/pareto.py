"""Several objectives: every candidate, the front that none of them beats, and the one that was chosen."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..records.evaluation import Evaluation
from .canvas import NARROW, bare, legend, literal, new_figure
from .palette import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MANY = 1500  # more dots than this become a bitmap inside the SVG
_DIGIT, _LINE = 5.4, 9.0  # the size of a label's letters, in points
_DOT = 3.0


def draw(
    evaluations: Sequence[Evaluation],
    front: Sequence[Evaluation],
    chosen: Evaluation | None,
    objectives: Sequence[str],
    width: float,
) -> "Figure":
    """One panel a pair of objectives. Points of the front carry their candidate number where there is room."""
    pairs = list(combinations(range(len(objectives)), 2))
    columns = min(len(pairs), 2 if width > NARROW else 1)
    rows = -(-len(pairs) // columns)
    height = 4.6 if len(pairs) == 1 and width > NARROW else 3.6
    figure = new_figure(width, height * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (x, y) in zip(panels, pairs, strict=False):
        _panel(axes, evaluations, front, chosen, x, y)
        axes.set_xlabel(literal(objectives[x]))
        axes.set_ylabel(literal(objectives[y]))
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    legend(figure, panels[0], 3)
    figure.draw_without_rendering()  # labels are placed by where the points come to lie
    for axes, (x, y) in zip(panels, pairs, strict=False):
        _number(axes, front, chosen, x, y)
    return figure


def _panel(
    axes: "Axes",
    evaluations: Sequence[Evaluation],
    front: Sequence[Evaluation],
    chosen: Evaluation | None,
    x: int,
    y: int,
) -> None:
    if evaluations:
        many = len(evaluations) > _MANY
        xs, ys = np.array([(e.fitness[x], e.fitness[y]) for e in evaluations]).T
        axes.scatter(xs, ys, s=6 if many else 16, color=colour("dots"), alpha=0.55, linewidths=0, rasterized=many)
        axes.scatter([], [], s=20, color=colour("dots"), linewidths=0, label="candidates")
    if front:
        ordered = sorted(front, key=lambda e: (e.fitness[x], -e.fitness[y]))
        xs, ys = [e.fitness[x] for e in ordered], [e.fitness[y] for e in ordered]
        # Between three objectives a line would zigzag: the front is a surface there.
        line = "-" if len(front[0].fitness) == 2 else "none"
        axes.plot(
            xs,
            ys,
            marker="o",
            markersize=5,
            linestyle=line,
            drawstyle="steps-pre",
            linewidth=1.4,
            color=colour("plus"),
            label="front",
        )
    if chosen is not None:
        axes.plot(
            [chosen.fitness[x]],
            [chosen.fitness[y]],
            marker="*",
            markersize=15,
            linestyle="none",
            color=colour("accent"),
            markeredgecolor=colour("paper"),
            label="chosen",
        )
    axes.margins(0.08)
    bare(axes, grid="both")


def _number(axes: "Axes", front: Sequence[Evaluation], chosen: Evaluation | None, x: int, y: int) -> None:
    """Writes candidate numbers beside points: the chosen one and the ends first, then those that still find room."""
    ordered = sorted(front, key=lambda e: e.fitness[x])
    first = [*([chosen] if chosen else []), *ordered[:1], *ordered[-1:]]
    wanted = {e.number: e for e in (*first, *ordered)}
    scale = 72 / axes.figure.get_dpi() if axes.figure else 1.0
    spots = {n: axes.transData.transform((e.fitness[x], e.fitness[y])) * scale for n, e in wanted.items()}
    taken = [(sx - _DOT, sy - _DOT, sx + _DOT, sy + _DOT) for sx, sy in spots.values()]
    for number, evaluation in wanted.items():
        label, spot = str(number), spots[number]
        # Up right of its point, then the other corners: where it covers neither a point nor another label.
        for right, up in ((True, True), (False, False), (False, True), (True, False)):
            left = spot[0] + (5 if right else -5 - _DIGIT * len(label))
            bottom = spot[1] + (4 if up else -4 - _LINE)
            box = (left, bottom, left + _DIGIT * len(label), bottom + _LINE)
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                continue
            taken.append(box)
            axes.annotate(
                label,
                (evaluation.fitness[x], evaluation.fitness[y]),
                (5 if right else -5, 4 if up else -4),
                textcoords="offset points",
                ha="left" if right else "right",
                va="bottom" if up else "top",
                fontsize=8,
                color=colour("accent") if evaluation is chosen else colour("ink"),
            )
            break
