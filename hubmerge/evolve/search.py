"""A search, as people write it: which models, what may vary, how a candidate is judged, how long to look.

models: [org/math, org/japanese]
base_model: org/base
merge_method: dare_ties
parameters: {normalize: false}          # fixed for all candidates
genome:
  granularity: layer                    # model | layer | group
  genes: {weight: [0, 2], density: [0.1, 1]}
  start: {weight: 0.5}                  # default: the middle of each range
task: ja-word-problems                  # a built-in name, a YAML file, or the task itself
splits: {search: 100, validation: 150, test: 300}
searcher: {name: cmaes, evaluations: 300, seed: 1}
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError, SearchError
from ..evaluate.task import SPLITS, task_document
from ..methods import METHODS, Method
from ..recipe import ModelEntry, ModelRef, Recipe
from ..yamlfile import load_mapping, refuse_unknown

GRANULARITIES = ("model", "layer", "group")
SEARCHERS = ("cmaes", "random", "grid")
BASELINES = ("average", "task_arithmetic", "ties", "dare_ties")


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

    `name`: cmaes, random or grid (over two scalars). `evaluations`: the budget; whole generations of `popsize` are
    made from it. `popsize` None is the rule of CMA-ES, 4 + floor(3 ln genes). `sigma`: the first step size, in units
    of a gene's range (the paper's 1/6). `separable`: CMA-ES with a diagonal covariance, for thousands of genes.
    """

    name: str = "cmaes"
    evaluations: int = 300
    popsize: int | None = None
    sigma: float = 1 / 6
    seed: int = 0
    separable: bool = False

    def __post_init__(self) -> None:
        if self.name not in SEARCHERS:
            raise SearchError(f"Unknown searcher {self.name!r}; expected one of {', '.join(SEARCHERS)}.")
        if self.popsize is not None and self.popsize < 4:
            raise SearchError(f"popsize must be at least 4, got {self.popsize}.")
        if not self.evaluations >= (self.popsize or 4):
            raise SearchError(
                f"evaluations must be at least popsize ({self.popsize or 4}): one whole generation, "
                f"got {self.evaluations}."
            )
        if not 0 < self.sigma <= 2:
            raise SearchError(
                f"sigma must be above 0 and at most 2 (it is a share of a gene's range), got {self.sigma}."
            )
        if self.seed < 0:
            raise SearchError(f"seed must be 0 or more, got {self.seed}.")


@dataclass(frozen=True)
class Shaping:
    """Small terms that guide the search where the plain score is still flat at zero.

    Fitness = score + number_bonus * (share with the right number) + language_bonus * (share in the right language).
    Only the plain score is ever reported.
    """

    number_bonus: float = 0.1
    language_bonus: float = 0.1


@dataclass(frozen=True)
class Search:
    """A whole search, validated. `task` is the task's document (see evaluate.task), with its folder made absolute.

    `select`: how many of the best candidates are scored again on the validation split to choose the winner.
    Raises `SearchError` at construction.
    """

    models: tuple[ModelRef, ...]
    merge_method: str
    genes: tuple[Gene, ...]
    task: Mapping[str, Any]
    base_model: ModelRef | None = None
    granularity: str = "layer"
    parameters: Mapping[str, float | bool] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    searcher: Searcher = field(default_factory=Searcher)
    fitness: Shaping = field(default_factory=Shaping)
    select: int = 5
    baselines: tuple[str, ...] = BASELINES
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.merge_method not in METHODS:
            raise SearchError(f"Unknown merge_method {self.merge_method!r}; known: {', '.join(METHODS)}.")
        if len(set(self.models)) < len(self.models) or self.base_model in self.models:
            raise SearchError("A model is named twice; name each once, and the base only as base_model.")
        self._check_models()
        self._check_genes()
        if self.granularity not in GRANULARITIES:
            raise SearchError(f"Unknown granularity {self.granularity!r}; expected {', '.join(GRANULARITIES)}.")
        for name, value in (("select", self.select), ("batch_size", self.batch_size)):
            if value < 1:
                raise SearchError(f"{name} must be at least 1, got {value}.")
        for baseline in self.baselines:
            if baseline not in BASELINES:
                raise SearchError(f"Unknown baseline {baseline!r}; known: {', '.join(BASELINES)}.")
        try:
            self.recipe({gene.name: gene.start for gene in self.genes if not self.is_per_model(gene.name)})
        except RecipeError as exc:
            raise SearchError(str(exc)) from None

    @property
    def method(self) -> Method:
        """The merge method."""
        return METHODS[self.merge_method]

    def is_per_model(self, name: str) -> bool:
        """Whether the method takes one value of this parameter for each model."""
        return any(p.per_model for p in self.method.parameters if p.name == name)

    def recipe(self, shared: Mapping[str, Any], per_model: Sequence[Mapping[str, Any]] | None = None) -> Recipe:
        """The recipe with the given values of its genes, beside the fixed parameters."""
        entries = zip(self.models, per_model or [{}] * len(self.models), strict=True)
        models = [ModelEntry(model, dict(values)) for model, values in entries]
        if self.merge_method == "slerp" and self.base_model is not None:
            models.insert(0, ModelEntry(self.base_model))  # mergekit wants both ends of a slerp listed
        return Recipe(
            self.merge_method,
            models=tuple(models),
            base_model=self.base_model,
            parameters={**self.parameters, **shared},
            dtype=self.dtype,
            out_dtype=self.out_dtype,
            tokenizer_source=self.tokenizer_source,
            chat_template=self.chat_template,
        )

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model named, base first; one that only gives the tokenizer comes last."""
        named = [self.base_model] if self.base_model else []
        named += self.models
        if self.tokenizer_source not in (None, "base", "union"):
            named.append(ModelRef.parse(self.tokenizer_source))
        return tuple(dict.fromkeys(named))

    def with_pins(self, commits: Mapping[ModelRef, str | None], task_revision: str | None = None) -> "Search":
        """The same search with its models, and its task's dataset, at their commits."""
        task = dict(self.task)
        if task_revision is not None:
            task["examples"] = {**task["examples"], "revision": task_revision}
        recipe = self.recipe({}).with_pins(commits)
        return replace(
            self,
            models=tuple(model.pinned(commits.get(model)) for model in self.models),
            base_model=recipe.base_model,
            tokenizer_source=recipe.tokenizer_source,
            task=task,
        )

    @classmethod
    def from_yaml(cls, source: str | Path) -> "Search":
        """Reads a search from YAML text or from a file (pass a `Path`; its task is looked for beside it)."""
        document = load_mapping(source, "search", SearchError)
        return cls.from_dict(document, relative_to=source.parent if isinstance(source, Path) else Path())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], relative_to: Path = Path()) -> "Search":
        """Reads a search from plain values, as YAML gives them."""
        keys = {item.name for item in fields(cls)} - {"genes", "granularity"} | {"genome"}
        refuse_unknown(document, keys, "the search", SearchError)
        for key in ("models", "merge_method", "genome", "task"):
            if not document.get(key):
                raise SearchError(f"The search needs `{key}`.")
        given = dict(document)
        genome = _mapping(given.pop("genome"), "genome")
        refuse_unknown(genome, ("granularity", "genes", "start"), "genome", SearchError)
        try:
            given["models"] = tuple(ModelRef.parse(model) for model in _list(given["models"], "models"))
            if given.get("base_model") is not None:
                given["base_model"] = ModelRef.parse(given["base_model"])
        except RecipeError as exc:
            raise SearchError(str(exc)) from None
        given["genes"] = _genes(genome)
        given["granularity"] = genome.get("granularity", "layer")
        given["task"] = task_document(given["task"], relative_to)
        given["searcher"] = _build(Searcher, given.get("searcher"), "searcher")
        given["fitness"] = _build(Shaping, given.get("fitness"), "fitness")
        given["baselines"] = tuple(_list(given.get("baselines", list(BASELINES)), "baselines"))
        given["parameters"] = _mapping(given.get("parameters") or {}, "parameters")
        given["splits"] = _mapping(given.get("splits") or {}, "splits")
        refuse_unknown(given["splits"], SPLITS, "splits", SearchError)
        for key in ("select", "batch_size"):
            if key in given and type(given[key]) is not int:
                raise SearchError(f"{key} must be a whole number, got {given[key]!r}.")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; `Search.from_dict` reads them back to an equal search."""
        document: dict[str, Any] = {"models": [str(model) for model in self.models]}
        if self.base_model is not None:
            document["base_model"] = str(self.base_model)
        document |= {
            "merge_method": self.merge_method,
            "parameters": dict(self.parameters),
            "genome": {
                "granularity": self.granularity,
                "genes": {gene.name: [gene.low, gene.high] for gene in self.genes},
                "start": {gene.name: gene.start for gene in self.genes},
            },
            "task": dict(self.task),
            "splits": dict(self.splits),
            "searcher": asdict(self.searcher),
            "fitness": asdict(self.fitness),
            "select": self.select,
            "baselines": list(self.baselines),
            "batch_size": self.batch_size,
        }
        for name in ("dtype", "out_dtype", "tokenizer_source", "chat_template"):
            if (value := getattr(self, name)) is not None:
                document[name] = value
        return document

    def to_yaml(self) -> str:
        """The search as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def _check_models(self) -> None:
        method, count = self.method, len(self.models)
        if method.base == "required" and self.base_model is None:
            raise SearchError(f"{method.name} needs a base_model: the model that the others were tuned from.")
        if count < method.min_models or (method.max_models is not None and count > method.max_models):
            limit = f"at most {method.max_models}" if method.max_models else f"at least {method.min_models}"
            raise SearchError(f"{method.name} merges {limit} model(s) beside the base, got {count}.")

    def _check_genes(self) -> None:
        known = {parameter.name: parameter for parameter in self.method.parameters}
        if not self.genes:
            raise SearchError("The genome has no genes; give at least one, such as `genes: {weight: [0, 2]}`.")
        for gene in self.genes:
            parameter = known.get(gene.name)
            if parameter is None or parameter.is_switch or gene.name == "seed":
                numeric = [p.name for p in self.method.parameters if not p.is_switch and p.name != "seed"]
                raise SearchError(
                    f"{self.merge_method} has no gene {gene.name!r}; it can vary: {', '.join(numeric) or 'nothing'}."
                )
            low = gene.low if parameter.low is None else parameter.low
            high = gene.high if parameter.high is None else parameter.high
            if gene.low < low or gene.high > high:
                raise SearchError(
                    f"The range [{gene.low}, {gene.high}] of gene {gene.name} leaves the limits of "
                    f"{self.merge_method}: [{low}, {high}]."
                )
        names = {gene.name for gene in self.genes}
        for name in self.parameters:
            if name in names:
                raise SearchError(f"{name} is both a gene and a fixed parameter; keep one.")
            if name not in known:
                raise SearchError(f"{self.merge_method} has no parameter {name!r}; it takes: {', '.join(known)}.")


def _genes(genome: Mapping[str, Any]) -> tuple[Gene, ...]:
    ranges = _mapping(genome.get("genes") or {}, "genome.genes")
    start = genome.get("start")
    starts = dict.fromkeys(ranges, start) if isinstance(start, (int, float)) else _mapping(start or {}, "genome.start")
    refuse_unknown(starts, ranges, "genome.start", SearchError)
    genes = []
    for name, limits in ranges.items():
        if not isinstance(limits, (list, tuple)) or len(limits) != 2 or not all(map(_is_number, limits)):
            raise SearchError(f"Gene {name} needs a range [low, high], got {limits!r}.")
        low, high = map(float, limits)
        middle = starts.get(name, (low + high) / 2)
        if not _is_number(middle):
            raise SearchError(f"The start of gene {name} must be a number, got {middle!r}.")
        genes.append(Gene(name, low, high, float(middle)))
    return tuple(genes)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _build(kind: type, value: Any, where: str) -> Any:
    given = _mapping(value or {}, where)
    known = {item.name: item for item in fields(kind)}
    refuse_unknown(given, known, where, SearchError)
    for name, item in given.items():
        default = known[name].default
        expected = int if default is None else type(default)
        fits = _is_number(item) if expected is float else type(item) is expected or (item is None and default is None)
        if not fits:
            raise SearchError(f"{where}.{name} must be {_KINDS[expected]}, got {item!r}.")
    return kind(**given)


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise SearchError(f"`{where}` must be a mapping of names to values, got {value!r}.")
    return dict(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise SearchError(f"`{where}` must be a list, got {value!r}.")
    return list(value)
