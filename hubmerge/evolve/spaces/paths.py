"""What the genomes of paths share: the layers of all models, and how numbers of them become a path."""

from collections.abc import Sequence
from typing import TypeVar

from ...errors import SearchError
from ...recipe import AS_GIVEN, Output
from ...reference import ModelRef
from ..spec.data_flow import DataFlowSpace
from .layer_path import LARGEST, LayerPath
from .squash import DIGITS

Step = TypeVar("Step")


class Paths:
    """Paths through `models` with so many layers each; `output`: how what they make is written.

    `layers` are those of all models in order, which the numbers of a path stand for. Raises `SearchError` for none.
    """

    space = "dfs"
    sigma = 1.0

    def __init__(
        self,
        space: DataFlowSpace,
        models: Sequence[ModelRef],
        layer_counts: Sequence[int],
        output: Output = AS_GIVEN,
    ) -> None:
        if not models or len(models) != len(layer_counts) or min(layer_counts) < 1:
            raise SearchError("A search for paths needs models with at least one layer each.")
        self.options = space
        self.models = tuple(models)
        self.layers = tuple((model, layer) for model, count in enumerate(layer_counts) for layer in range(count))
        self.layer_counts = tuple(layer_counts)
        self._last = layer_counts[0] - 1
        self._output = output

    def _path(self, numbers: Sequence[int], scales: Sequence[float]) -> LayerPath:
        """The path through the layers with these numbers, whose scales are rounded to 6 digits; the first is 1.

        0, and what no exported weight could hold, are no scales: there it is 1.
        """
        kept, product = [1.0], 1.0
        for scale in scales[1:]:
            value = round(scale, DIGITS)
            if not 1 / LARGEST < abs(product * value) < LARGEST:
                value = 1.0
            product *= value
            kept.append(value)
        return LayerPath(self.models, tuple(self.layers[number] for number in numbers), tuple(kept), self._output)
