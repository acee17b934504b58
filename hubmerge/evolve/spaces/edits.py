"""Paths as they are written down: a layer and a scale in each place; what a search by edits changes.

The paper's genome (data_flow.py) has a gene for each layer in each pass and for each pair of layers, most of which no
path uses. Here a vector is the path itself, so that what follows from a good one is near it: the same layer of another
model, a layer more, a layer less, another scale. What people make by hand is a splice, a block that is repeated, or one
model's inner layers between another's (layer swapping, https://arxiv.org/abs/2410.01335): a search begins with these.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from ...recipe import AS_GIVEN, Output
from ...reference import ModelRef
from ..spec.data_flow import DataFlowSpace
from .layer_path import LayerPath
from .paths import Paths

_NONE = -1.0
"""What stands in a place that a path does not reach."""
_JITTER = 0.35
"""By how much a scale's logarithm moves, one standard deviation."""
_SCANNED = 9
"""At how many depths a single model is cut: the blocks between two of them are tried twice over."""
_DEPTHS = (1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Where models are cut for the first paths, in parts of their depth."""

Steps = list[tuple[int, float]]
"""A path: the number of each layer among those of all models, and the scale on its input."""


class Edits(Paths):
    """The genome of a search for paths by edits. `output`: how what they make is written.

    A vector of shape (2 n,), n the most layers of a path, holds the layer in each place, numbers as in `layers` and -1
    behind the last, and then the scale on the input of each. A path begins with the first model's first layer and ends
    with its last. `learnt`: paths of an earlier run, its winner first; a layer of a model that is not searched here is
    taken for the first model's at its depth. Raises `SearchError` where there is nothing to search.
    """

    def __init__(
        self,
        space: DataFlowSpace,
        models: Sequence[ModelRef],
        layer_counts: Sequence[int],
        output: Output = AS_GIVEN,
        learnt: Sequence[LayerPath] = (),
    ) -> None:
        super().__init__(space, models, layer_counts, output)
        self._numbers = {layer: number for number, layer in enumerate(self.layers)}
        self._scaled = space.scaling != "none"
        self._low, self._high = space.scale_range
        known = [self._read(path) for path in learnt]
        longest = max(2 * layer_counts[0], len(known[0]) if known else 0)
        self.slots = max(space.max_layers or longest, min(2, layer_counts[0]))
        found = [self._vector(steps) for steps in known if self._fits(steps)]
        self.learnt = tuple({vector.tobytes(): vector for vector in found}.values())

    @property
    def most_layers(self) -> int:
        """How many layers a path can have at most."""
        return self.slots

    @property
    def size(self) -> int:
        """How many numbers a vector has: two a place."""
        return 2 * self.slots

    @property
    def start(self) -> np.ndarray:
        """The first model itself, or as many of its layers as a path may have, float64 (size,)."""
        kept = _evenly(0, self._last, min(self.slots, self._last + 1))
        return self._vector([(layer, 1.0) for layer in kept])

    @property
    def binary(self) -> np.ndarray:
        """None of the numbers counts by its sign alone, bool (size,)."""
        return np.zeros(self.size, dtype=bool)

    @property
    def finals(self) -> Sequence[np.ndarray]:
        """The first model itself, and the winner of the earlier run."""
        return (self.start, *self.learnt[:1])

    def decode(self, vector: np.ndarray) -> LayerPath:
        """The path of a vector of shape (size,)."""
        steps = self._steps(np.asarray(vector))
        return self._path([number for number, _ in steps], [scale for _, scale in steps])

    def seeds(self) -> list[np.ndarray]:
        """What a search begins with: the first model, then splices of every two models in both orders, repeats of a
        block of each model, and the inner layers of each between the outer ones of another. Of a single model it is
        every block between two of nine depths. Where the first model is what another search ended with, that alone."""
        if self.models[0].stage:
            return [self.start]
        return list({vector.tobytes(): vector for vector in (self.start, *self._by_hand())}.values())

    def edited(self, vector: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A path beside that of `vector`: one edit away, or (three times in ten) two."""
        known = self._steps(np.asarray(vector))
        for _ in range(100):
            steps = known
            for _ in range(1 + (generator.random() < 0.3)):
                steps = self._edit(steps, generator)
            if self._fits(steps) and steps != known:
                return self._vector(steps)
        return self.start

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """A vector whose path has a length drawn uniformly, layers at random, scales drawn from their range."""
        count = int(generator.integers(0, max(1, self.slots - 1)))
        scales = generator.uniform(self._low, self._high, count) if self._scaled else np.ones(count)
        between = generator.integers(len(self.layers), size=count)
        return self._vector(self._with_ends(list(zip(between.tolist(), scales.tolist(), strict=True))))

    def grid(self, evaluations: int) -> list[np.ndarray]:
        """What people make by hand; at most `evaluations`."""
        return self.seeds()[:evaluations]

    def _read(self, path: LayerPath) -> Steps:
        """The path by models of this search."""
        titles = [model.title for model in self.models]
        own = [titles.index(model.title) if model.title in titles else 0 for model in path.models]
        steps = []
        for (model, layer), scale in zip(path.layers, path.scales, strict=True):
            kept = min(max(scale, self._low), self._high) if self._scaled else 1.0
            steps.append((self._near(own[model], layer), kept))
        return self._with_ends(steps)

    def _by_hand(self) -> Iterator[np.ndarray]:
        for first, second in permutations(range(len(self.models)), 2):
            for stop in self._cuts(first):
                for start in self._cuts(second):
                    yield from self._made([*self._run(first, 0, stop), *self._run(second, start)])
        for model in range(len(self.models)):
            for stop in self._cuts(model):
                for start in self._cuts(model):
                    if start < stop:  # the layers from `start` to `stop` come twice
                        yield from self._made([*self._run(model, 0, stop), *self._run(model, start)])
        for outer, inner in permutations(range(len(self.models)), 2):
            for cut in self._cuts(outer):
                rest = self.layer_counts[outer] - cut
                if cut < rest:
                    middle = self._run(inner, cut, rest)
                    yield from self._made([*self._run(outer, 0, cut), *middle, *self._run(outer, rest)])

    def _cuts(self, model: int) -> list[int]:
        count = self.layer_counts[model]
        if len(self.models) == 1:
            return _evenly(0, count, min(_SCANNED, count + 1))
        return sorted({max(1, round(depth * count)) for depth in _DEPTHS} & set(range(1, count)))

    def _run(self, model: int, start: int, stop: int | None = None) -> list[int]:
        numbers = [self._numbers[model, layer] for layer in range(self.layer_counts[model])]
        return numbers[start:stop]

    def _made(self, numbers: list[int]) -> Iterator[np.ndarray]:
        steps = self._with_ends([(number, 1.0) for number in numbers])
        if self._fits(steps):
            yield self._vector(steps)

    def _edit(self, steps: Steps, generator: np.random.Generator) -> Steps:
        """One change behind the first layer: another model's layer in a place, a layer less or more, another scale."""
        steps, draw = list(steps), generator.random()
        if len(steps) < 2:
            draw = 0.6  # a lone layer can only be followed by another
        place = int(generator.integers(1, max(2, len(steps))))
        if draw < 0.3 and len(self.models) > 1:
            model, layer = self.layers[steps[place][0]]
            other = int(generator.choice([one for one in range(len(self.models)) if one != model]))
            steps[place] = (self._near(other, layer), steps[place][1])
        elif draw < 0.5:
            del steps[place]
        elif draw < 0.75 or not self._scaled:
            model, layer = self.layers[steps[place - 1][0]]
            anyone = int(generator.integers(len(self.models)))
            anywhere = int(generator.integers(len(self.layers)))
            new = [self._near(model, layer), self._near(model, layer + 1), self._near(anyone, layer), anywhere]
            steps.insert(place, (new[int(generator.integers(4))], 1.0))
        else:
            number, scale = steps[place]
            moved = scale * math.exp(_JITTER * generator.standard_normal())
            steps[place] = (number, min(max(moved, self._low), self._high))
        return self._with_ends(steps)

    def _near(self, model: int, layer: int) -> int:
        return self._numbers[model, min(layer, self.layer_counts[model] - 1)]

    def _with_ends(self, steps: Steps) -> Steps:
        whole = list(steps)
        if not whole or whole[0][0] != 0:
            whole.insert(0, (0, 1.0))
        whole[0] = (0, 1.0)
        return whole if whole[-1][0] == self._last else [*whole, (self._last, 1.0)]

    def _fits(self, steps: Steps) -> bool:
        return len(steps) <= self.slots

    def _vector(self, steps: Steps) -> np.ndarray:
        vector = np.concatenate([np.full(self.slots, _NONE), np.zeros(self.slots)])
        for place, (number, scale) in enumerate(steps):
            vector[place], vector[self.slots + place] = number, scale
        return vector

    def _steps(self, vector: np.ndarray) -> Steps:
        places = zip(vector[: self.slots].tolist(), vector[self.slots :].tolist(), strict=True)
        return self._with_ends([(round(number), scale) for number, scale in places if number >= 0])


def _evenly(low: int, high: int, count: int) -> list[int]:
    """`count` whole numbers from `low` to `high`, both of them among these where there is room, spread evenly."""
    return [low] if count == 1 else [round(low + (high - low) * k / (count - 1)) for k in range(count)]
