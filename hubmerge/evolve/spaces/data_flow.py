"""The data-flow space: which layers of which models the input runs through, in which order and with which scales.

Akiba et al. 2024, "Evolutionary Optimization of Model Merging Recipes", section 3.2, https://arxiv.org/abs/2403.13187.
The layers of all models lie in order, repeated `repeats` times: these are the slots. Gene I_t > 0 puts slot t into the
path; W_ij scales what runs from layer i to layer j. Positions are in units of a first step: an indicator is in for the
first model's first pass by 2 of them, and a scale lies as many sixths of its range away from its start.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ...recipe import AS_GIVEN, Output
from ...reference import ModelRef
from ..spec.data_flow import DataFlowSpace
from .layer_path import LayerPath
from .paths import Paths
from .scalings import scaling_of

_IN = 2.0
"""Position of the indicators that the search starts with: two steps above the threshold."""


class DataFlow(Paths):
    """The genome of a search for paths. `output`: how what they make is written.

    A path begins with the first model's first layer and ends with its last; where the slots that are in begin or end
    otherwise, these are added. A path of more than `max_layers` keeps the slots with the highest indicators, the
    earlier of equal ones. Only scales between layers that follow each other count, rounded to 6 digits, so that
    vectors that differ elsewhere give equal paths. Raises `SearchError` where there is nothing to search.
    """

    def __init__(
        self,
        space: DataFlowSpace,
        models: Sequence[ModelRef],
        layer_counts: Sequence[int],
        output: Output = AS_GIVEN,
    ) -> None:
        super().__init__(space, models, layer_counts, output)
        self.slots = len(self.layers) * space.repeats
        self._scales = scaling_of(space, len(self.layers), self.slots)

    @property
    def most_layers(self) -> int:
        """How many layers a path can have at most."""
        return self.options.max_layers or self.slots + 2

    @property
    def size(self) -> int:
        """How many numbers a vector has: one a slot, and those of the scales."""
        return self.slots + self._scales.size

    @property
    def start(self) -> np.ndarray:
        """The first model itself, float64 (size,): its first pass is in, all else at the threshold, scales at 1."""
        return self._vector(range(self.layer_counts[0]), outside=0.0)

    @property
    def binary(self) -> np.ndarray:
        """The indicators, bool (size,)."""
        return np.arange(self.size) < self.slots

    @property
    def learnt(self) -> Sequence[np.ndarray]:
        """Nothing: this genome begins with the first model."""
        return ()

    @property
    def finals(self) -> Sequence[np.ndarray]:
        """The first model itself."""
        return (self.start,)

    def decode(self, vector: np.ndarray) -> LayerPath:
        """The path of a vector of shape (size,)."""
        chosen = self._chosen(np.asarray(vector)[: self.slots])
        scale = self._scales.of(np.asarray(vector)[self.slots :])
        scales = [scale(i, j, step) for step, (i, j) in enumerate(pairwise(chosen), 1)]
        return self._path(chosen, [1.0, *scales])

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """A vector whose path has a length drawn uniformly, up to one pass through all models, then its slots, and
        whose scales are drawn uniformly from their range."""
        most = min(self.most_layers, len(self.layers))
        count = int(generator.integers(1, most + 1))
        vector = self._vector(generator.choice(self.slots, size=count, replace=False))
        vector[self.slots :] = self._scales.random(generator)
        return vector

    def grid(self, evaluations: int) -> list[np.ndarray]:
        """Stacks that people make by hand: the first layers of the first model, another model's from some layer on,
        the first model's last layer. Depths are spread evenly; at most `evaluations`, without scales."""
        others = range(1, len(self.models))
        if not others or evaluations < 1:
            return [self.start][:evaluations]
        side = max(1, math.isqrt(max(1, evaluations // len(others))))
        vectors = []
        for model in others:
            begin, count = sum(self.layer_counts[:model]), self.layer_counts[model]
            for stop in _evenly(1, max(1, self._last), side):
                for start in _evenly(0, count - 1, side):
                    if stop + count - start + 1 <= self.most_layers:
                        vectors.append(self._vector([*range(stop), *range(begin + start, begin + count)]))
        return vectors[:evaluations]

    def _vector(self, slots: Sequence[int] | range | np.ndarray, outside: float = -_IN) -> np.ndarray:
        indicators = np.full(self.slots, outside)
        indicators[np.asarray(slots, dtype=int)] = _IN
        return np.concatenate([indicators, self._scales.start])

    def _chosen(self, indicators: np.ndarray) -> list[int]:
        """The layers of a path, by their numbers among all layers."""
        inside = np.flatnonzero(indicators > 0)
        highest = inside[np.argsort(-indicators[inside], kind="stable")]
        # The two ends may come on top, so that up to two slots fewer fit.
        for count in range(min(len(highest), self.most_layers), -1, -1):
            path = self._with_ends((np.sort(highest[:count]) % len(self.layers)).tolist())
            if len(path) <= self.most_layers:
                return path
        raise AssertionError("two ends always fit")

    def _with_ends(self, numbers: list[int]) -> list[int]:
        begin = [] if numbers and numbers[0] == 0 else [0]
        whole = [*begin, *numbers]
        return whole if whole[-1] == self._last else [*whole, self._last]


def _evenly(low: int, high: int, count: int) -> list[int]:
    """At most `count` whole numbers from `low` to `high`, spread evenly."""
    if count == 1:
        return [(low + high) // 2]
    return sorted({round(low + (high - low) * k / (count - 1)) for k in range(count)})
