"""The picture of a search: fitness against evaluations, every candidate, generation by generation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..records.evaluation import Evaluation
from .canvas import NARROW, bare, count_along, legend, literal, new_figure
from .palette import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OTHERS = ("model5", "model3")
_MANY = 1500  # more dots than this become a bitmap inside the SVG


def draw(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[str],
    width: float,
    others: Mapping[str, Sequence[Evaluation]] | None = None,
) -> "Figure":
    """Every candidate, the mean of each generation and the best so far, one panel an objective.

    A candidate that failed is a cross at the bottom; where a stage begins (a finer genome), a line says so. `others`
    are searches to compare with, by name: of them only the best so far is drawn.
    """
    height = 3.7 if len(objectives) == 1 else 0.8 + 2.5 * len(objectives)
    figure = new_figure(width, height if width > NARROW else height * 0.85)
    panels = figure.subplots(len(objectives), 1, sharex=True, squeeze=False)[:, 0]
    for index, (axes, name) in enumerate(zip(panels, objectives, strict=True)):
        _panel(axes, evaluations, index)
        for place, (other, found) in enumerate((others or {}).items()):
            _other(axes, other, found, index, colour(_OTHERS[place % len(_OTHERS)]))
        _limits(axes)
        axes.set_ylabel(literal(name))
    _mark_stages(panels[0], evaluations)
    count_along(panels[-1])
    panels[-1].set_xlabel("candidates evaluated")
    legend(figure, panels[0], 6 if width > NARROW else 2)
    return figure


def _other(axes: "Axes", name: str, evaluations: Sequence[Evaluation], index: int, tone: str) -> None:
    shown = [(n, e.fitness[index]) for n, e in enumerate(evaluations, start=1) if e.error is None]
    if shown:
        steps, best = _best_so_far(shown, len(evaluations))
        axes.step(steps, best, where="post", color=tone, linewidth=1.4, zorder=1.9, label=f"{name}, best so far")


def _panel(axes: "Axes", evaluations: Sequence[Evaluation], index: int) -> None:
    shown = [(n, e.fitness[index]) for n, e in enumerate(evaluations, start=1) if e.error is None]
    failed = [n for n, e in enumerate(evaluations, start=1) if e.error is not None]
    if shown:
        numbers, values = np.array(shown).T  # matplotlib looks at each number of a tuple by itself
        many = len(shown) > _MANY
        axes.scatter(numbers, values, s=5 if many else 13, color=colour("dots"), linewidths=0, rasterized=many)
        axes.scatter([], [], s=20, color=colour("dots"), linewidths=0, label="candidates")
        ends, means = _means(evaluations, index)
        if len(ends) > 1:
            axes.plot(ends, means, color=colour("soft"), linewidth=1.5, label="mean of the generation")
        steps, best = _best_so_far(shown, len(evaluations))
        axes.step(steps, best, where="post", color=colour("accent"), linewidth=2, label="best so far")
        axes.annotate(
            f"{best[-1]:.3f}",
            (len(evaluations), best[-1]),
            (0, 5),
            textcoords="offset points",
            ha="right",
            color=colour("accent"),
            fontweight="bold",
            bbox={"facecolor": colour("paper"), "alpha": 0.8, "linewidth": 0, "pad": 0.4},
        )
    if failed:
        axes.plot(
            failed,
            [0.025] * len(failed),
            "x",
            transform=axes.get_xaxis_transform(),
            color=colour("fail"),
            markersize=4.5,
            label="failed",
            clip_on=False,
        )
    axes.margins(x=0.015)
    bare(axes, grid="y")


def _limits(axes: "Axes") -> None:
    low, high = axes.dataLim.intervaly
    if low > high:
        return  # nothing is drawn
    # Around one value alone, wide enough that it does not look like a trend.
    room = 0.12 * (high - low) if low < high else abs(high) or 1
    # A scale that starts at 0 is easiest to read, where it does not flatten everything.
    axes.set_ylim(0 if 0 <= low < 0.5 * high else low - room, high + room)


def _best_so_far(shown: Sequence[tuple[int, float]], last: int) -> tuple[list[int], list[float]]:
    steps, best = [shown[0][0]], [shown[0][1]]
    for number, value in shown[1:]:
        if value > best[-1]:
            steps.append(number)
            best.append(value)
    if steps[-1] < last:
        steps.append(last)
        best.append(best[-1])
    return steps, best


def _means(evaluations: Sequence[Evaluation], index: int) -> tuple[list[int], list[float]]:
    """Where each generation ends, and its mean fitness without the candidates that failed."""
    generations: dict[tuple[int, int], tuple[int, list[float]]] = {}
    for number, evaluation in enumerate(evaluations, start=1):
        key = (evaluation.stage, evaluation.generation)
        values = generations.get(key, (0, []))[1]
        if evaluation.error is None:
            values.append(evaluation.fitness[index])
        generations[key] = (number, values)
    found = [(end, sum(values) / len(values)) for end, values in generations.values() if values]
    return [end for end, _ in found], [mean for _, mean in found]


def _mark_stages(axes: "Axes", evaluations: Sequence[Evaluation]) -> None:
    starts = {e.stage: (n, len(e.genome)) for n, e in reversed(list(enumerate(evaluations, start=1)))}
    if len(starts) < 2:
        return
    before, level = 0.0, 0
    for number, genes in sorted(starts.values()):
        label = f"{genes:,} gene{'s' if genes > 1 else ''}"
        # A label moves up where it would meet the one before it.
        level = (level + 1) % 3 if before and number - before < 0.25 * len(evaluations) else 0
        before = number
        if number > 1:
            axes.axvline(number - 0.5, color=colour("soft"), linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(
            label,
            (number - 0.5, 1),
            (2, 2 + 11 * level),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            va="bottom",
            fontsize=8,
            color=colour("soft"),
        )
