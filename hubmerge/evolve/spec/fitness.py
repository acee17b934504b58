"""What counts as better."""

from dataclasses import dataclass

from ...errors import SearchError
from ...guesses import guess

OBJECTIVES = ("score", "metric", "language", "short", "brief")


@dataclass(frozen=True)
class Fitness:
    """What the searcher maximises: one number per objective.

    Objectives are shares 0..1: "score" (right and in the language), "metric" (right), "language", and for paths
    "short" (1 for no layers, 0 for every slot); "brief" is 1 for answers of no tokens, 0 where all are as long as the
    task lets them be. Two small terms guide the score where it is still flat at zero: it
    becomes score + number_bonus * metric + language_bonus * language. Only the plain score is ever reported.
    """

    objectives: tuple[str, ...] = ("score",)
    number_bonus: float = 0.1
    language_bonus: float = 0.1

    def __post_init__(self) -> None:
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise SearchError(
                    f"Unknown objective {name!r}{guess(name, OBJECTIVES)}; expected {', '.join(OBJECTIVES)}."
                )
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise SearchError("fitness.objectives must name at least one objective, and each once.")
