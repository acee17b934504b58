"""The picture of a search, for its folder and its card: fitness against evaluations."""

from collections.abc import Sequence
from functools import partial

from ..records.evaluation import Evaluation
from . import canvas, fitness
from .data import objective_names


def draw(evaluations: Sequence[Evaluation], title: str, objectives: Sequence[str] = ()) -> bytes:
    """A PNG of every candidate's fitness, each generation's mean and the best so far, over the evaluations made.

    `objectives` names the parts of the fitness; one panel each.
    """
    return canvas.png(partial(fitness.draw, evaluations, objective_names(evaluations, objectives)), title)
