"""A data-flow winner: the way through the layers of its models."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .canvas import WIDE, bare, count_along, is_number, literal, new_figure, short
from .data import model_name
from .palette import colour, model_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP = 2.4  # between two lanes, in layers
_STEP = 0.034  # inches a step needs at least
_LABELLED = 24  # with more steps, scales are read from the axis


@dataclass(frozen=True)
class Way:
    """A path: at each step a model (its place in `models`) and one of its layers, entered at a scale."""

    models: tuple[str, ...]
    steps: tuple[tuple[int, int], ...]
    scales: tuple[float, ...]

    @classmethod
    def of(cls, path: Mapping[str, Any], names: Sequence[str] = ()) -> "Way":
        """Reads a path's `to_dict()`; `names` stand in for models that it does not name.

        A model is given by its place or by its name. Scales that are missing are 1.
        """
        given = path.get("models")
        models = [str(name) for name in (given if isinstance(given, list) and given else names)]
        steps = []
        for step in path["layers"]:
            model, layer = step[0], int(step[1])
            if not isinstance(model, int):
                if str(model) not in models:
                    models.append(str(model))
                model = models.index(str(model))
            models += [f"model {n}" for n in range(len(models) + 1, model + 2)]
            steps.append((model, layer))
        raw = path.get("scales")
        scales = [float(s) if is_number(s) else 1.0 for s in raw] if isinstance(raw, list) else []
        scales = (scales + [1.0] * len(steps))[: len(steps)]
        return cls(tuple(models), tuple(steps), tuple(scales))

    @property
    def visits(self) -> Counter[tuple[int, int]]:
        """How often each layer is passed."""
        return Counter(self.steps)

    @property
    def repeats(self) -> int:
        """How many steps pass a layer that was passed before."""
        return len(self.steps) - len(self.visits)

    @property
    def jumps(self) -> int:
        """How many times the path leaves the order of a model's layers."""
        return sum(not _follows(a, b) for a, b in zip(self.steps, self.steps[1:], strict=False))

    @property
    def switches(self) -> int:
        """How many times it goes over to another model."""
        return sum(a[0] != b[0] for a, b in zip(self.steps, self.steps[1:], strict=False))


def _follows(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] == b[0] and b[1] == a[1] + 1


def draw(way: Way, width: float) -> "Figure":
    """Steps from left to right, a lane of layers for each model; below, the scale that each step's input is given.

    A filled dot is a layer's first visit, a ring a repeat; a solid line runs on in a model, a thin one jumps.
    """
    width = max(width, WIDE, 1.3 + _STEP * len(way.steps))  # never narrow: on a phone it scrolls
    depth = max(layer for _, layer in way.steps) + 1
    lanes = [model for model in range(len(way.models)) if any(step[0] == model for step in way.steps)]
    bottoms = {model: place * (depth + _GAP) for place, model in enumerate(reversed(lanes))}
    lane = min(2.0, max(0.9, 0.085 * depth))
    figure = new_figure(width, lane * len(lanes) + 1.9)
    ways, scales = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [lane * len(lanes), 0.85]})
    _lanes(ways, way, depth, bottoms)
    _flow(ways, way, bottoms)
    _scales(scales, way)
    return figure


def _lanes(axes: "Axes", way: Way, depth: int, bottoms: Mapping[int, float]) -> None:
    ticks, labels = [], []
    step = next(size for size in (1, 2, 4, 8, 16, 32, 64, 128) if depth / size <= 6 or size == 128)
    for model, bottom in bottoms.items():
        axes.axhspan(bottom - 0.5, bottom + depth - 0.5, color=model_colour(model), alpha=0.07, linewidth=0)
        axes.annotate(
            literal(short(model_name(way.models[model]), 48)),
            (0, bottom + depth - 0.5),
            (2, 2),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            fontsize=8.5,
            color=model_colour(model),
            fontweight="bold",
            bbox={"facecolor": colour("paper"), "linewidth": 0, "pad": 0.5},
            zorder=4,
        )
        marks = [*range(0, depth, step)]
        ticks += [bottom + layer for layer in marks]
        labels += [str(layer) for layer in marks]
    axes.set_yticks(ticks, labels, fontsize=7.5)
    axes.set_ylim(-1, max(bottoms.values()) + depth + _GAP - 0.6)
    axes.set_ylabel("layer")
    axes.tick_params(axis="x", length=0, labelbottom=False)
    bare(axes)
    axes.spines["bottom"].set_visible(False)


def _flow(axes: "Axes", way: Way, bottoms: Mapping[int, float]) -> None:
    spots = [(n, bottoms[model] + layer) for n, (model, layer) in enumerate(way.steps, start=1)]
    many = len(spots) > 80
    for a, b, start, end in zip(way.steps, way.steps[1:], spots, spots[1:], strict=False):
        xs, ys = [start[0], end[0]], [start[1], end[1]]
        if _follows(a, b):
            axes.plot(xs, ys, color=model_colour(b[0]), linewidth=1.4 if many else 2.2, solid_capstyle="round")
        else:
            axes.plot(xs, ys, color=colour("soft"), linewidth=0.6 if many else 0.9, alpha=0.75)
    size = 2.6 if many else 5.0
    seen: set[tuple[int, int]] = set()
    for (x, y), step in zip(spots, way.steps, strict=True):
        again = step in seen
        seen.add(step)
        axes.plot(
            [x],
            [y],
            "o",
            markersize=size * 1.2 if again else size,
            color=model_colour(step[0]),
            markerfacecolor=colour("paper") if again else model_colour(step[0]),
            markeredgewidth=0.9 if many else 1.4,
            zorder=3,
        )


def _scales(axes: "Axes", way: Way) -> None:
    axes.axhline(1, color=colour("line"), linewidth=0.9)
    if min(way.scales) < 0:
        axes.axhline(0, color=colour("soft"), linewidth=0.7)
    labelled = len(way.steps) <= _LABELLED
    for n, ((model, _), scale) in enumerate(zip(way.steps, way.scales, strict=True), start=1):
        axes.plot([n, n], [1, scale], color=model_colour(model), linewidth=1.0 if len(way.steps) > 80 else 1.8)
        axes.plot([n], [scale], "o", color=model_colour(model), markersize=1.8 if len(way.steps) > 80 else 3.2)
        if labelled and abs(scale - 1) > 0.005:
            up = scale >= 1
            axes.annotate(
                f"{scale:.2f}",
                (n, scale),
                (0, 4 if up else -4),
                textcoords="offset points",
                ha="center",
                va="bottom" if up else "top",
                fontsize=7,
                color=colour("ink"),
            )
    low, high = min(*way.scales, 1.0), max(*way.scales, 1.0)
    room = max(0.1, (0.35 if labelled else 0.12) * (high - low))
    axes.set_ylim(low - room, high + room)
    axes.set_xlim(0.3, len(way.steps) + 0.7)
    count_along(axes)
    axes.set_xlabel("step")
    axes.set_ylabel("input scale")
    bare(axes)
