"""How a search saves tokens: the part of its YAML, under `economy:`.

economy:
  examples: 35       # candidates are asked so many examples of the search split, chosen by the models' own answers
  racing: true       # a candidate that is clearly worse than the best before it is asked no further
  blocks: 3          # racing: looks at the score after every third of the examples
  level: 0.05        # racing: how often, at most, a candidate as good as the best is stopped at any of the looks

The finalists are scored on the whole validation split whatever stands here, so the winner is chosen without either.
"""

from dataclasses import dataclass

from ...errors import SearchError

FEWEST = 8
"""The smallest number of examples: one of each kind that `chosen.choose_examples` tells apart."""


@dataclass(frozen=True)
class Economy:
    """What may be left out of an evaluation; validated. `examples` None: every one of the search split is meant."""

    examples: int | None = None
    racing: bool = False
    blocks: int = 3
    level: float = 0.05

    def __post_init__(self) -> None:
        if self.examples is None and not self.racing:
            raise SearchError("`economy` saves nothing: give `examples`, a number of them, or `racing: true`.")
        if self.examples is not None and self.examples < FEWEST:
            raise SearchError(f"economy.examples must be at least {FEWEST}, got {self.examples}.")
        if self.blocks < 2:
            raise SearchError(f"economy.blocks must be at least 2, for a look before the end; got {self.blocks}.")
        if not 0 < self.level < 0.5:
            raise SearchError(f"economy.level is a share above 0 and below 0.5, got {self.level}.")
