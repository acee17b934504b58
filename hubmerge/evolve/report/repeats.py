"""One model's layers twice over: what it is worth to run a block of them again, block by block."""

from collections.abc import Sequence

from ..records.evaluation import Evaluation
from .weights import Panel

Block = tuple[int, int]
"""A block's first layer, and the one behind its last."""


def repeated(layers: Sequence[Sequence[int]], count: int) -> Block | None:
    """The block that a path runs through twice, all else of a model of `count` layers once and in order; (0, 0) where
    there is none, None for any other path.

    >>> repeated([(0, 0), (0, 1), (0, 2), (0, 1), (0, 2), (0, 3)], 4)
    (1, 3)
    """
    numbers = [layer for model, layer in layers if model == 0]
    more = len(numbers) - count
    if len(numbers) != len(layers) or more < 0:
        return None
    for start in range(count - more + 1) if more else [0]:
        stop = start + more
        if numbers == [*range(stop), *range(start, count)]:
            return (start, stop)
    return None


def panel(evaluations: Sequence[Evaluation], models: Sequence[str]) -> Panel | None:
    """The blocks of a single model that were tried twice over: points of the score above the model's own, a row where
    the block begins, a column where it ends. None where another search made them, or none is known."""
    paths = [(e, e.solution.get("layers"), e.solution.get("scales")) for e in evaluations if e.error is None]
    known = [(e, layers) for e, layers, scales in paths if layers and set(scales or ()) == {1}]
    if len(models) != 1 or not known:
        return None
    count = 1 + max(layer for _, layer in known[0][1])  # a search begins with the model itself
    scores: dict[Block, float] = {}
    for evaluation, layers in known:
        block = repeated(layers, count)
        if block is not None:
            scores.setdefault(block, evaluation.score)
    plain = scores.pop((0, 0), None)
    if plain is None or not scores:
        return None
    starts, stops = (sorted({block[side] for block in scores}) for side in (0, 1))
    cells = tuple(
        tuple(100 * (scores[start, stop] - plain) if (start, stop) in scores else None for stop in stops)
        for start in starts
    )
    return Panel("points", "", tuple(map(str, starts)), tuple(str(stop - 1) for stop in stops), cells)
