"""What of a recipe varies, and how finely."""

from dataclasses import dataclass

from ...errors import SearchError

GRANULARITIES = ("model", "group", "layer", "layer_group", "filter")
"""How finely the genes of a recipe apply: one value a model; one for attention, MLPs and the rest; one a layer; one for
each of attention, MLP and the rest of a layer; one for each of the filters that the genome names."""


@dataclass(frozen=True)
class Gene:
    """One parameter of the merge method that the search varies between `low` and `high`, from `start`."""

    name: str
    low: float
    high: float
    start: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SearchError(f"The range of gene {self.name} must rise, got [{self.low}, {self.high}].")
        if not self.low <= self.start <= self.high:
            raise SearchError(f"The start {self.start} of gene {self.name} is outside [{self.low}, {self.high}].")
