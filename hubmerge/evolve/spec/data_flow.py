"""What a path through the layers may be: the part of a search's YAML under `data_flow:`."""

import math
from dataclasses import dataclass

from ...errors import SearchError
from ...guesses import guess

MOST = 10_000
"""Layers of the longest path: no model has a tenth of them."""
SCALINGS = ("matrix", "network", "none")


@dataclass(frozen=True)
class DataFlowSpace:
    """What a path may be.

    repeats: how often the sequence of all layers is laid out (the paper's r). scaling: "matrix" has a gene for the
    scale from each layer to each, "network" the weights of a small network that computes it (for many layers), "none"
    leaves inputs as they are. scale_range: of the scales. max_layers: of a path, both ends included; None:
    as many as there are slots. paper: whether candidates are vectors of the paper's genome; None: unless the searcher
    is `edits`. Where they are not, paths are changed as they stand: `repeats` says nothing, each place has a scale of
    its own (with "none" there are none), and `max_layers` None is twice the layers of the first model. Raises
    `SearchError` at construction.
    """

    repeats: int = 3
    scaling: str = "matrix"
    scale_range: tuple[float, float] = (0.5, 1.5)
    max_layers: int | None = None
    paper: bool | None = None

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise SearchError(f"data_flow.repeats must be at least 1, got {self.repeats}.")
        if self.scaling not in SCALINGS:
            raise SearchError(
                f"data_flow.scaling must be one of {', '.join(SCALINGS)}, got {self.scaling!r}"
                f"{guess(self.scaling, SCALINGS)}."
            )
        bounds = self.scale_range
        if len(bounds) != 2 or not all(isinstance(b, (int, float)) and math.isfinite(b) for b in bounds):
            raise SearchError(f"data_flow.scale_range must be two numbers, [low, high], got {list(bounds)!r}.")
        if not bounds[0] < bounds[1]:
            raise SearchError(f"data_flow.scale_range must rise, got {list(bounds)!r}.")
        if self.max_layers is not None and not 2 <= self.max_layers <= MOST:
            raise SearchError(f"data_flow.max_layers must be at least 2 and at most {MOST:,}; got {self.max_layers:,}.")
