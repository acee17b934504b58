"""What a search cost: seconds by phase, tokens generated, and what was saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from .canvas import NARROW, bare, count_along, is_number, literal, new_figure, short
from .data import Run, mapping
from .palette import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PHASES = 10
_WORTH_SHOWING = 1.02  # a saving below 2% is no picture


@dataclass(frozen=True)
class Cost:
    """What the evaluations of a search cost.

    `spent` has one entry an evaluation, in the order of the search: tokens generated, or seconds where nothing was
    generated (`unit`). `whole` is what each would have cost had it been asked every example and known nothing - an
    estimate, by the candidate's own cost per example. `phases`: seconds of each part of the run, by name.
    """

    unit: str
    spent: tuple[float, ...]
    whole: tuple[float, ...]
    phases: Mapping[str, float]

    @classmethod
    def of(cls, run: Run) -> "Cost":
        """The cost of a run as its journal tells it; phases are those of results.json."""
        unit = "tokens" if any(e.tokens for e in run.evaluations) else "seconds"
        paid = {e.candidate_key: e for e in run.first_asked}
        examples = run.facts.get("examples")  # more than the most that any was asked, where items were chosen
        most = max([e.n for e in run.measured] + [examples if isinstance(examples, int) else 0])
        spent, whole = [], []
        for evaluation in run.evaluations:
            first = paid[evaluation.candidate_key]
            price = float(first.tokens if unit == "tokens" else first.seconds)
            spent.append(price if first is evaluation else 0.0)
            whole.append(price * most / first.n if first.n and first.error is None else price)
        cost = mapping(run.facts, "cost")
        choosing = cost.get("tokens_items")
        # What choosing the examples took came before everything, and of two searches before the first.
        if spent and unit == "tokens" and is_number(choosing) and not run.second:
            spent[0] += float(choosing)  # type: ignore[arg-type]
        phases = mapping(cost, "phases") or mapping(cost, "seconds")
        return cls(
            unit, tuple(spent), tuple(whole), {str(k): float(v) for k, v in phases.items() if is_number(v) and v >= 0}
        )

    @property
    def saved(self) -> float:
        """The share of the cost that asking each candidate everything, every time, would have added: 0..1."""
        total = sum(self.whole)
        return max(0.0, 1 - sum(self.spent) / total) if total else 0.0


def draw(cost: Cost, width: float) -> "Figure":
    """Seconds by phase where they are known; the cost as it grew, beside what it would have been."""
    phases = sorted(cost.phases.items(), key=lambda item: -item[1])[:_MOST_PHASES]
    growth = any(cost.spent)
    wide = width > NARROW
    bars = 0.75 + 0.28 * len(phases)
    if not phases or not growth:
        figure = new_figure(width, bars if phases else 2.9)
        if phases:
            _phases(figure.subplots(), phases)
        else:
            _growth(figure.subplots(), cost)
    elif wide:
        figure = new_figure(width, max(bars, 2.9))
        left, right = figure.subplots(1, 2)
        _phases(left, phases)
        _growth(right, cost)
    else:
        figure = new_figure(width, bars + 2.9)
        top, bottom = figure.subplots(2, 1, gridspec_kw={"height_ratios": [bars, 2.9]})
        _phases(top, phases)
        _growth(bottom, cost)
    return figure


def _phases(axes: "Axes", phases: Sequence[tuple[str, float]]) -> None:
    seconds = [value for _, value in phases]
    axes.barh(range(len(phases)), seconds, height=0.62, color=colour("plus"), alpha=0.75, linewidth=0)
    for y, value in enumerate(seconds):
        axes.annotate(
            f"{value:,.1f}" if value < 10 else f"{value:,.0f}",
            (value, y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour("ink"),
        )
    names = [literal(short(name.replace("_", " "), 20)) for name, _ in phases]
    axes.set_yticks(range(len(phases)), names)
    axes.set_ylim(len(phases) - 0.5, -0.5)
    axes.set_xlim(0, 1.16 * (max(seconds) or 1.0))
    axes.set_xlabel("seconds")
    bare(axes, grid="x")


def _growth(axes: "Axes", cost: Cost) -> None:
    steps = range(1, len(cost.spent) + 1)
    spent, whole = list(accumulate(cost.spent)), list(accumulate(cost.whole))
    if whole[-1] > _WORTH_SHOWING * spent[-1]:
        axes.plot(
            steps, whole, color=colour("soft"), linewidth=1.4, linestyle=(0, (4, 2)), label="all examples, every time"
        )
        axes.fill_between(steps, spent, whole, color=colour("dots"), alpha=0.16, linewidth=0)
        axes.plot(steps, spent, color=colour("accent"), linewidth=2, label="spent")
        axes.legend(loc="upper left", fontsize=8)
    else:
        axes.plot(steps, spent, color=colour("accent"), linewidth=2)
    count_along(axes)
    axes.set_xlabel("candidates evaluated")
    axes.set_ylabel("tokens generated" if cost.unit == "tokens" else "seconds of evaluation")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.015)
    axes.yaxis.set_major_formatter(_amount)
    bare(axes, grid="y")


def _amount(value: float, _: object = None) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
