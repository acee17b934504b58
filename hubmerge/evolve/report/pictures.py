"""Which pictures a run has, by what is known of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from ...markup import Markup
from . import canvas, cost, fitness, forest, heatmap, html, pareto, pathway, repeats, weights
from .data import Run, mapping, model_name


@dataclass(frozen=True)
class Picture:
    """A picture and the words that go with it; one that `scrolls` is as wide on a phone."""

    name: str
    title: str
    caption: str
    draw: canvas.Draw
    scrolls: bool = False

    def png(self) -> bytes:
        """The picture as a file."""
        return canvas.png(self.draw, self.title)

    def figure(self, prefix: str, widths: tuple[float, float] = (canvas.WIDE, canvas.NARROW)) -> Markup:
        """The picture in the page: one drawing for much room, one for little, `widths` in inches."""
        name, (much, little) = f"{prefix}{self.name}", widths
        wide = Markup(canvas.svg(self.draw, f"{name}-wide", self.title, much))
        narrow = None if self.scrolls else Markup(canvas.svg(self.draw, f"{name}-narrow", self.title, little))
        return html.render("figure", wide=wide, narrow=narrow, caption=self.caption)


def contestants(run: Run) -> Picture | None:
    """The forest plot of the final table."""
    if not run.rows:
        return None
    caption = "Scores on the held-out test examples, which no candidate was chosen by."
    if any(row.get("gain") for row in run.rows):
        caption += (
            " A gain is the winner's score less the contestant's on the same examples, with its 95% interval by paired"
            " bootstrap; where that reaches 0, the difference may be luck (grey)."
        )
    return Picture("forest", "Held-out scores", caption, partial(forest.draw, run.rows))


def curve(run: Run) -> Picture | None:
    """The fitness curve."""
    if not run.evaluations:
        return None
    caption = f"{len(run.evaluations):,} evaluations."
    if len({e.stage for e in run.evaluations}) > 1:
        caption += " Dashed lines mark where the genome grows finer."
    if run.failed:
        caption += f" Crosses are the {len(run.failed):,} evaluations that failed."
    others = {name: found for name, found in run.compared.items() if len(found[0].fitness) == len(run.objectives)}
    draw = partial(fitness.draw, run.evaluations, run.objectives, others=others)
    return Picture("curve", "Fitness", caption, draw)


def winner(run: Run) -> Picture | None:
    """The heat map of a recipe, or the path of a data-flow winner."""
    if run.path is not None:
        return _path(run)
    genes = [str(gene) for gene in mapping(mapping(run.spec, "genome"), "genes")]
    found = weights.panels(run.recipe, genes) or weights.panels(run.recipe)
    if not found:
        return None
    names = dict.fromkeys(column for panel in found for column in panel.columns)
    grain, row = _grain({row for panel in found for row in panel.rows})
    caption = Markup(
        "Each cell is a gene's value for a model (column){}; blue is positive, red negative, and the strength is the "
        "size. Models: {}."
    ).format(row, Markup(", ").join(html.name(model_name(name)) for name in names))
    return Picture("heatmap", f"{whose(run)}, {grain}", caption, partial(heatmap.draw, found))


def _grain(rows: Collection[str]) -> tuple[str, str]:
    """How finely a recipe varies, for the title; and what a row is, for the caption."""
    if any(row.isdecimal() or row.startswith(weights.DEPTH) for row in rows):
        return "layer by layer", " in a layer (row)"
    if set(rows) <= {weights.ALL}:
        return "model by model", ""
    return "part by part", " in a part of the layers (row)"


def whose(run: Run) -> str:
    """What the candidate that is shown is called."""
    return "The winner" if run.done else "The best so far"


def _path(run: Run) -> Picture:
    assert run.path is not None
    way = pathway.Way.of(run.path, run.models)
    counts = Markup(", ").join(
        Markup("{} of {}").format(sum(model == place for model, _ in way.steps), html.name(model_name(name)))
        for place, name in enumerate(way.models)
        if any(model == place for model, _ in way.steps)
    )
    caption = Markup(
        "{} steps through {} different layers: {}. It passes a layer again {} time(s), leaves a model's order {} "
        "time(s) and changes the model {} time(s). Rings are layers passed before, thin lines are jumps; below, the "
        "factor on each step's input."
    ).format(len(way.steps), len(way.visits), counts, way.repeats, way.jumps, way.switches)
    return Picture(
        "path", f"{whose(run)}: the path through the layers", caption, partial(pathway.draw, way), scrolls=True
    )


def blocks(run: Run) -> Picture | None:
    """What it is worth to run each block of a single model twice."""
    found = repeats.panel(run.evaluations, run.models)
    if found is None:
        return None
    caption = (
        "Points of the search score above the model as it is, where the layers from the row's to the column's come "
        "twice; blue is better, red is worse. Of the search split, and noisy: the final table tells what holds."
    )
    return Picture("blocks", "Each block of layers twice", caption, partial(heatmap.draw, [found]))


def front(run: Run) -> Picture | None:
    """The Pareto plot of a search with several objectives."""
    if len(run.objectives) < 2 or not run.measured:
        return None
    caption = f"{len(run.front)} point(s) on the front, by candidate number; each can be exported."
    draw = partial(pareto.draw, run.measured, run.front, run.chosen, run.objectives)
    return Picture("pareto", "Objectives", caption, draw)


def costs(run: Run, spent: cost.Cost) -> Picture | None:
    """What the search cost."""
    if not any(spent.spent) and not spent.phases:
        return None
    caption = ""
    if spent.saved > 0.02:
        caption = (
            f"About {spent.saved:.0%} was saved against asking every candidate every example every time: an estimate"
            " by what each candidate cost per example."
        )
    return Picture("cost", "Cost", caption, partial(cost.draw, spent))


def of_stage(run: Run) -> Sequence[Picture]:
    """All pictures of one stage."""
    found = [curve(run), winner(run), blocks(run), front(run), costs(run, cost.Cost.of(run))]
    return [picture for picture in found if picture is not None]
