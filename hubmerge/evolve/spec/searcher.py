"""How candidates are proposed, and how many."""

from dataclasses import asdict, dataclass
from typing import Any

from ...errors import SearchError
from ...guesses import guess

SEARCHERS = ("cmaes", "snes", "xnes", "ga", "nsga2", "map_elites", "cycleqd", "m2n2", "edits", "random", "grid")

BY_EDITS = "edits"
"""What searches for paths, where nothing else is said."""


@dataclass(frozen=True)
class Searcher:
    """How candidates are proposed.

    `evaluations`: the budget; whole generations of `popsize` are made from it. `popsize` None is the rule of CMA-ES,
    4 + floor(3 ln genes). `sigma`: the first step size, in the genome's units; None is its own (in parameter space the
    paper's 1/6 of a gene's range). `separable`: CMA-ES with a diagonal covariance; None: where there are many genes.
    `lag`: how many evaluations a searcher without generations keeps in flight; a run does not depend on how many
    actors there are, but on this. `minutes`: the search ends with the generation in which its candidates, one after
    the other, have taken so long; with two actors that is half as long to wait.
    """

    name: str = "cmaes"
    evaluations: int = 300
    popsize: int | None = None
    sigma: float | None = None
    seed: int = 0
    separable: bool | None = None
    lag: int = 4
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.name not in SEARCHERS:
            raise SearchError(
                f"Unknown searcher {self.name!r}{guess(self.name, SEARCHERS)}; expected one of {', '.join(SEARCHERS)}."
            )
        if self.popsize is not None and self.popsize < 4:
            raise SearchError(f"popsize must be at least 4, got {self.popsize}.")
        if not self.evaluations >= (self.popsize or 4):
            raise SearchError(
                f"evaluations must be at least popsize ({self.popsize or 4}): one whole generation, "
                f"got {self.evaluations}."
            )
        if self.sigma is not None and not 0 < self.sigma <= 4:
            raise SearchError(f"sigma must be above 0 and at most 4 (in the genome's units), got {self.sigma}.")
        if self.seed < 0:
            raise SearchError(f"seed must be 0 or more, got {self.seed}.")
        if self.lag < 1:
            raise SearchError(f"lag must be at least 1, got {self.lag}.")
        if self.minutes is not None and not self.minutes > 0:
            raise SearchError(f"minutes must be above 0, got {self.minutes}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a search's YAML; a search without `minutes` says nothing of them."""
        return {key: value for key, value in asdict(self).items() if key != "minutes" or value is not None}
