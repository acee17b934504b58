"""The picture of a search: fitness against evaluations, generation by generation."""

import io
from collections.abc import Sequence

from .explore import WORST
from .journal import Evaluation

_INK, _SOFT, _ACCENT, _DOTS = "#1f2933", "#9aa5b1", "#d9480f", "#ffd8a8"


def draw(evaluations: Sequence[Evaluation], title: str) -> bytes:
    """A PNG of every candidate's fitness, each generation's mean and the best so far, over the evaluations made."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = [(n, e.fitness) for n, e in enumerate(evaluations, start=1) if e.fitness > WORST]
    if shown:
        numbers, fitnesses = zip(*shown, strict=True)
        axes.scatter(numbers, fitnesses, s=12, color=_DOTS, label="candidates", zorder=2)
    ends, means = _means(evaluations)
    if ends:
        axes.plot(ends, means, color=_SOFT, linewidth=1.8, label="mean of the generation", zorder=3)
    best, so_far = [], 0.0
    for evaluation in evaluations:
        so_far = max(so_far, evaluation.fitness)
        best.append(so_far)
    steps = range(1, len(best) + 1)
    axes.step(steps, best, where="post", color=_ACCENT, linewidth=2.2, label="best so far", zorder=4)
    if best:
        axes.annotate(
            f"{best[-1]:.3f}", (len(best), best[-1]), (-4, 6), textcoords="offset points", ha="right", color=_ACCENT
        )
    axes.set_title(title, loc="left", color=_INK, fontsize=12)
    axes.set_xlabel("candidates evaluated", color=_INK)
    axes.set_ylabel("fitness (share of correct answers + bonuses)", color=_INK)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()


def _means(evaluations: Sequence[Evaluation]) -> tuple[list[int], list[float]]:
    """Where each generation ends, and its mean fitness without the candidates that failed."""
    ends: list[int] = []
    means: list[float] = []
    generations = dict.fromkeys(e.generation for e in evaluations)
    for generation in generations:
        numbered = [(n, e.fitness) for n, e in enumerate(evaluations, start=1) if e.generation == generation]
        values = [value for _, value in numbered if value > WORST]
        if values:
            ends.append(numbered[-1][0])
            means.append(sum(values) / len(values))
    return ends, means
