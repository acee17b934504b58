"""Pareto fronts: which points are beaten by no other in every objective at once. All objectives are maximised."""

import numpy as np


def fronts(points: np.ndarray) -> list[np.ndarray]:
    """Sorts points of shape (n, objectives) into fronts: arrays of row numbers, ascending, the best front first.

    A point dominates another that it matches in every objective and beats in one. The first front is dominated by
    nothing, the second by points of the first alone, and so on; equal points share a front (Deb et al. 2002,
    https://doi.org/10.1109/4235.996017, section III.A).
    """
    # Row i, column j: point i is at least as good as point j everywhere.
    matches = np.logical_and.reduce([column[:, None] >= column for column in points.T])
    dominates = matches & ~matches.T
    found = []
    left = np.arange(len(points))
    while len(left):
        free = ~dominates[np.ix_(left, left)].any(axis=0)
        found.append(left[free])
        left = left[~free]
    return found


def crowding(points: np.ndarray) -> np.ndarray:
    """How much room each point of one front has, shape (n,): infinite at the ends of an objective, 0 for a copy.

    The gap between the two neighbours of a point, as a share of the front's range, summed over the objectives (Deb et
    al. 2002, section III.B). Of equal points only the first has any room, so that a front is not filled with copies.
    """
    unique, first = np.unique(points, axis=0, return_index=True)
    room = np.zeros(len(unique))
    for column in unique.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        room[order[[0, -1]]] = np.inf
        if span > 0:
            room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    distances = np.zeros(len(points))
    distances[first] = room
    return distances


def best_first(points: np.ndarray) -> np.ndarray:
    """The row numbers of points of shape (n, objectives), best front first, and the roomiest first within a front.

    evotorch's own `SolutionBatch.take_best` reads an order as if it were ranks and so loses points of the first
    front; here a front is only ever cut at its most crowded end. Equal standing keeps the order of the rows.
    """
    return np.concatenate([front[np.argsort(-crowding(points[front]), kind="stable")] for front in fronts(points)])
