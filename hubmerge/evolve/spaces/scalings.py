"""How a path's scales follow from genes: W_ij for what runs from layer i to layer j, in step t of the path.

A scale lies as many sixths of its range away from its start as its gene says.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..spec.data_flow import DataFlowSpace
from .squash import squash, unsquash

Scale = Callable[[int, int, int], float]
"""The scale from layer i to layer j in step t."""

_HIDDEN = 8
_STEP = 1 / 6


class Scaling(Protocol):
    """The genes of the scales: how many, and where they start, shape (size,)."""

    size: int
    start: np.ndarray

    def of(self, genes: np.ndarray) -> Scale:
        """The scales of these genes, shape (size,)."""
        ...

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """Genes whose scales are drawn from the whole range, shape (size,)."""
        ...


class Ones:
    """No scales."""

    size = 0

    def __init__(self, layers: int, slots: int, space: DataFlowSpace) -> None:
        self.start = np.zeros(0)

    def of(self, genes: np.ndarray) -> Scale:
        return lambda i, j, step: 1.0

    def random(self, generator: np.random.Generator) -> np.ndarray:
        return self.start


class Matrix:
    """W as one gene from each layer to each, row by row."""

    def __init__(self, layers: int, slots: int, space: DataFlowSpace) -> None:
        self._layers = layers
        self._range = space.scale_range
        self._middle = _start(space)
        self.size = layers * layers
        self.start = np.zeros(self.size)

    def of(self, genes: np.ndarray) -> Scale:
        def scale(i: int, j: int, step: int) -> float:
            return squash(self._middle + _STEP * float(genes[i * self._layers + j]), *self._range)

        return scale

    def random(self, generator: np.random.Generator) -> np.ndarray:
        values = generator.uniform(*self._range, size=self.size)
        return np.array([(unsquash(float(value), *self._range) - self._middle) / _STEP for value in values])


class Network:
    """W_ij = pi_theta(i, j, t): one hidden layer of tanh, whose weights are the genes. All 0 gives the start."""

    size = _HIDDEN * 5 + 1

    def __init__(self, layers: int, slots: int, space: DataFlowSpace) -> None:
        self._spans = np.array([max(1, layers - 1), max(1, layers - 1), slots])
        self._range = space.scale_range
        self._middle = _start(space)
        self.start = np.zeros(self.size)

    def of(self, genes: np.ndarray) -> Scale:
        first, bias, second = np.split(genes, [3 * _HIDDEN, 4 * _HIDDEN])
        matrix = first.reshape(_HIDDEN, 3)

        def scale(i: int, j: int, step: int) -> float:
            inputs = 2 * np.array([i, j, step]) / self._spans - 1
            output = float(second[:-1] @ np.tanh(matrix @ inputs + bias) + second[-1])
            return squash(self._middle + _STEP * output, *self._range)

        return scale

    def random(self, generator: np.random.Generator) -> np.ndarray:
        return generator.standard_normal(self.size)


def _start(space: DataFlowSpace) -> float:
    """The position of scale 1, or of the range's middle where 1 lies outside."""
    low, high = space.scale_range
    return unsquash(1.0, low, high) if low < 1 < high else 0.5


def scaling_of(space: DataFlowSpace, layers: int, slots: int) -> Scaling:
    """The scaling that `space` names, of paths through so many layers and slots."""
    kinds: dict[str, type[Matrix | Network | Ones]] = {"matrix": Matrix, "network": Network, "none": Ones}
    return kinds[space.scaling](layers, slots, space)
