"""The parts of a search's YAML: what varies, how candidates are proposed, what counts as better."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, get_args, get_origin

from ..documents import is_number, refuse_unknown
from ..errors import SearchError
from ..guesses import guess

COMPARED = ("random", "grid")
"""Searchers that a search can add to its `baselines`, with the same budget."""

GRANULARITIES = ("model", "group", "layer", "layer_group", "filter")
"""How finely the genes of a recipe apply: one value a model; one for attention, MLPs and the rest; one a layer; one for
each of attention, MLP and the rest of a layer; one for each of the filters that the genome names."""
SEARCHERS = ("cmaes", "snes", "xnes", "ga", "nsga2", "map_elites", "cycleqd", "m2n2", "random", "grid")
OBJECTIVES = ("score", "metric", "language", "short")


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


@dataclass(frozen=True)
class Fitness:
    """What the searcher maximises: one number per objective.

    Objectives are shares 0..1: "score" (right and in the language), "metric" (right), "language", and for paths
    "short" (1 for no layers, 0 for every slot). Two small terms guide the score where it is still flat at zero: it
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


def build(kind: type, value: Any, where: str) -> Any:
    """A dataclass of the spec from plain values; raises `SearchError` for unknown names and values of another type."""
    given = mapping(value or {}, where)
    known = {item.name: item for item in fields(kind)}
    refuse_unknown(given, known, where, SearchError)
    made = {}
    for name, item in given.items():
        kinds = [one.__name__ for one in _kinds(known[name].type)]
        if isinstance(item, list) and "tuple" in kinds:
            made[name] = tuple(item)
            continue
        if not any(_FITS[one](item) for one in kinds if one in _FITS):
            raise SearchError(f"{where}.{name} must be {' or '.join(_NAMES[one] for one in kinds)}, got {item!r}.")
        made[name] = item
    return kind(**made)


def _kinds(annotation: Any) -> list[type]:
    """The plain types of an annotation: int and NoneType for `int | None`, tuple for `tuple[str, ...]`."""
    parts = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return [get_origin(part) or part for part in parts]


_FITS: Mapping[str, Any] = {
    "int": lambda value: type(value) is int,
    "float": is_number,
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "NoneType": lambda value: value is None,
}
_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "NoneType": "left out",
    "tuple": "a list",
}


def mapping(value: Any, where: str) -> dict[str, Any]:
    """`value` as a dict; raises `SearchError` where it is none."""
    if not isinstance(value, Mapping):
        raise SearchError(f"`{where}` must be a mapping of names to values, got {value!r}.")
    return dict(value)


def listed(value: Any, where: str) -> list[Any]:
    """`value` as a list; raises `SearchError` where it is none."""
    if not isinstance(value, (list, tuple)):
        raise SearchError(f"`{where}` must be a list, got {value!r}.")
    return list(value)
