"""A search, as people write it: which models, what may vary, how a candidate is judged, how long to look.

models: [org/math, org/japanese]
base_model: org/base
merge_method: dare_ties                 # parameter space: candidates are recipes of this method
parameters: {normalize: false}          # fixed for all candidates
genome:
  granularity: [model, layer]           # model | group | layer | layer_group | filter; a list grows from the best point
  genes: {weight: [0, 2], density: [0.1, 1]}
  start: {weight: 0.5}                  # default: the middle of each range
data_flow: {repeats: 2}                 # data-flow space: candidates are paths through the layers; alone or next
task: ja-word-problems                  # a built-in name, a YAML file, or the task itself
splits: {search: 100, validation: 150, test: 300}
searcher: {name: cmaes, evaluations: 300, seed: 1}
economy: {examples: 35, racing: true}   # fewer tokens: see spec/economy.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from ..documents import is_number
from ..errors import RecipeError, SearchError
from ..evaluate.task import SPLITS, task_document
from ..guesses import guess, missing_colon
from ..methods import METHODS, Method
from ..recipe import OUTPUT_KEYS, ModelEntry, Output, Recipe, Stage
from ..reference import ModelRef
from .spec.data_flow import DataFlowSpace
from .spec.economy import Economy
from .spec.fields import SEARCH
from .spec.fitness import Fitness
from .spec.genes import GRANULARITIES, Gene
from .spec.searcher import COMPARED, Searcher

UNTUNED = ("average", "task_arithmetic", "ties", "dare_ties")
"""Merges that people make without a search, nothing tuned."""
SCALED = "best_scale"
"""The merge that people make with a few tries; see scales.py."""
BASELINES = (*UNTUNED, SCALED)
"""The default `baselines`."""
FIRST_STAGE = "recipe"
"""What the search for paths calls the winner among recipes, which is a stage of its candidates."""


@dataclass(frozen=True)
class Search:
    """A whole search, validated. `task` is the task's document (see evaluate.task), with its folder made absolute.

    With `merge_method` and `genes` candidates are recipes (parameter space); with `data_flow` they are paths through
    the layers; with both, the winner among recipes joins the models, first, and paths through all of them follow.
    `path_searcher` is the searcher of that second part (None: `searcher`). `select`: how many of the best candidates
    are scored again on the validation split to choose the winner. `stages`: merges that its models may name; no file
    has them, they come from `paths_after`. Raises `SearchError` at construction.
    """

    models: tuple[ModelRef, ...]
    task: Mapping[str, Any]
    merge_method: str | None = None
    genes: tuple[Gene, ...] = ()
    base_model: ModelRef | None = None
    granularity: tuple[str, ...] = ("layer",)
    filters: tuple[str, ...] = ()
    parameters: Mapping[str, float | bool] = field(default_factory=dict)
    data_flow: DataFlowSpace | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    searcher: Searcher = field(default_factory=Searcher)
    path_searcher: Searcher | None = None
    fitness: Fitness = field(default_factory=Fitness)
    select: int = 5
    baselines: tuple[str, ...] = BASELINES
    output: Output = field(default_factory=Output)
    batch_size: int = 64
    economy: Economy | None = None
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.models)) < len(self.models) or self.base_model in self.models:
            raise SearchError("A model is named twice; name each once, and the base only as base_model.")
        if self.merge_method is None and self.data_flow is None:
            raise SearchError("Nothing varies: give `merge_method` and `genome` for recipes, `data_flow` for paths.")
        if self.merge_method is not None:
            self._check_recipes()
        elif self.genes or self.parameters:
            raise SearchError("`genome` and `parameters` belong to a merge_method; name one, or leave them out.")
        if "short" in self.fitness.objectives and self.spaces != ("dfs",):
            raise SearchError("The objective `short` counts the layers of paths; it needs `data_flow` alone.")
        if self.economy is not None and self.economy.racing and self.fitness.objectives != ("score",):
            raise SearchError("economy.racing compares plain scores; it needs the single objective `score`.")
        for name, value in (("select", self.select), ("batch_size", self.batch_size)):
            if value < 1:
                raise SearchError(f"{name} must be at least 1, got {value}.")
        for baseline in self.baselines:
            if baseline not in (*BASELINES, *COMPARED):
                known = (*BASELINES, *COMPARED)
                raise SearchError(f"Unknown baseline {baseline!r}{guess(baseline, known)}; known: {', '.join(known)}.")

    @property
    def spaces(self) -> tuple[str, ...]:
        """What is searched, in this order: "ps" (recipes), "dfs" (paths)."""
        found = [("ps", self.merge_method is not None), ("dfs", self.data_flow is not None)]
        return tuple(name for name, searched in found if searched)

    @property
    def method(self) -> Method:
        """The merge method of the recipes."""
        assert self.merge_method is not None
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
            self.method.name,
            models=tuple(models),
            base_model=self.base_model,
            parameters={**self.parameters, **shared},
            output=self.output,
        )

    @property
    def starting_recipe(self) -> Recipe:
        """The recipe with every gene at its start."""
        shared = {gene.name: gene.start for gene in self.genes if not self.is_per_model(gene.name)}
        own = {gene.name: gene.start for gene in self.genes if self.is_per_model(gene.name)}
        return self.recipe(shared, [own] * len(self.models))

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model named, base first; one that only gives the tokenizer comes last."""
        named = [self.base_model] if self.base_model else []
        named += self.models
        if self.output.tokenizer_model is not None:
            named.append(self.output.tokenizer_model)
        return tuple(dict.fromkeys(ref for ref in named if not ref.stage))

    def within(self, minutes: float) -> "Search":
        """The same search, ended after so many minutes of evaluating: recipes and paths have half each."""
        if self.spaces != ("ps", "dfs"):
            return replace(self, searcher=replace(self.searcher, minutes=minutes))
        second = replace(self.path_searcher or self.searcher, minutes=minutes / 2)
        return replace(self, searcher=replace(self.searcher, minutes=minutes / 2), path_searcher=second)

    def beside(self, name: str, made: int) -> "Search":
        """The search with another searcher, for comparison: as many evaluations, or `made` where minutes ended it."""
        budget = made if self.searcher.minutes is not None else self.searcher.evaluations
        other = replace(self.searcher, name=name, sigma=None, evaluations=budget, minutes=None)
        grain = self.granularity[-1:] if self.merge_method is not None else self.granularity
        return replace(self, searcher=other, granularity=grain)

    def compared(self) -> "Search":
        """The same search with other searchers of the same budget among its baselines."""
        more = [name for name in COMPARED if name not in self.baselines and name != self.searcher.name]
        return replace(self, baselines=(*self.baselines, *more))

    def paths_after(self, first: Recipe) -> "Search":
        """The search for paths alone, through the layers of what `first` makes and those of all models."""
        stage = Stage(FIRST_STAGE, first)
        return replace(
            self,
            stages=(stage,),
            models=(stage.ref, *self.models),
            merge_method=None,
            genes=(),
            granularity=("layer",),
            filters=(),
            parameters={},
            searcher=self.path_searcher or self.searcher,
            path_searcher=None,
        )

    def with_pins(self, pins: Mapping[ModelRef, ModelRef], task_revision: str | None = None) -> "Search":
        """The same search with its models, as `pins` has them, and its task's dataset at their commits."""
        task = dict(self.task)
        if task_revision is not None:
            task["examples"] = {**task["examples"], "revision": task_revision}

        def pinned(ref: ModelRef) -> ModelRef:
            return pins.get(ref, ref)

        return replace(
            self,
            models=tuple(map(pinned, self.models)),
            base_model=pinned(self.base_model) if self.base_model else None,
            output=self.output.with_pins(pins),
            task=task,
        )

    @classmethod
    def from_yaml(cls, source: str | Path) -> "Search":
        """Reads a search from YAML text or from a file (pass a `Path`; its task is looked for beside it)."""
        document = SEARCH.load(source)
        return cls.from_dict(document, relative_to=source.parent if isinstance(source, Path) else Path())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], relative_to: Path = Path()) -> "Search":
        """Reads a search from plain values, as YAML gives them."""
        SEARCH.require_plain(document)
        inside = {"genes", "granularity", "filters", "path_searcher", "stages", "output"}
        known = {item.name for item in fields(cls)} - inside | {"genome", *OUTPUT_KEYS}
        SEARCH.require_known(document, known, "the search")
        for key in ("models", "task"):
            if not document.get(key):
                raise SearchError(f"The search needs `{key}`.")
        given = {key: value for key, value in document.items() if value is not None and key not in OUTPUT_KEYS}
        given["output"] = Output.read(document, SEARCH)
        SEARCH.text(document, "merge_method")
        try:
            given["models"] = tuple(ModelRef.parse(model) for model in SEARCH.listed(given["models"], "models"))
            if "base_model" in given:
                given["base_model"] = ModelRef.parse(given["base_model"])
        except RecipeError as exc:
            raise SearchError(str(exc)) from None
        if stages := [ref for ref in (*given["models"], given.get("base_model")) if ref is not None and ref.stage]:
            raise SearchError(f"{stages[0]} is a stage of a recipe; a search names models.")
        if "genome" in given:
            given |= _genome(SEARCH.mapping(given.pop("genome"), "genome"))
        elif "merge_method" in given:
            raise SearchError("The search needs `genome`: the genes of the merge_method that may vary.")
        if "data_flow" in given:
            data_flow = SEARCH.mapping(given["data_flow"] or {}, "data_flow")
            if "searcher" in data_flow:
                given["path_searcher"] = SEARCH.build(Searcher, data_flow.pop("searcher"), "data_flow.searcher")
            given["data_flow"] = SEARCH.build(DataFlowSpace, data_flow, "data_flow")
        given["task"] = task_document(given["task"], relative_to)
        given["searcher"] = SEARCH.build(Searcher, given.get("searcher"), "searcher")
        given["fitness"] = SEARCH.build(Fitness, given.get("fitness"), "fitness")
        if "economy" in given:
            given["economy"] = SEARCH.build(Economy, given["economy"], "economy")
        given["baselines"] = tuple(SEARCH.listed(given.get("baselines", list(BASELINES)), "baselines"))
        given["parameters"] = SEARCH.mapping(given.get("parameters") or {}, "parameters")
        for name, value in given["parameters"].items():
            if not isinstance(value, bool) and not is_number(value):
                raise SearchError(
                    f"parameters.{name} must be a number or true or false, got {value!r}{_colon(name, value)}"
                )
        given["splits"] = SEARCH.mapping(given.get("splits") or {}, "splits")
        SEARCH.require_known(given["splits"], SPLITS, "splits")
        for name, value in given["splits"].items():
            if type(value) is not int or value < 0:
                raise SearchError(f"splits.{name} must be a number of examples, got {value!r}.")
        for key in ("select", "batch_size"):
            if key in given and type(given[key]) is not int:
                raise SearchError(f"{key} must be a whole number, got {given[key]!r}.")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; `Search.from_dict` reads them back to an equal search."""
        document: dict[str, Any] = {"models": [str(model) for model in self.models]}
        if self.base_model is not None:
            document["base_model"] = str(self.base_model)
        if self.merge_method is not None:
            genome: dict[str, Any] = {
                "granularity": list(self.granularity),
                "genes": {gene.name: [gene.low, gene.high] for gene in self.genes},
                "start": {gene.name: gene.start for gene in self.genes},
            }
            if self.filters:
                genome["filters"] = list(self.filters)
            document |= {"merge_method": self.merge_method, "parameters": dict(self.parameters), "genome": genome}
        if self.data_flow is not None:
            document["data_flow"] = _plain(asdict(self.data_flow))
            if self.path_searcher is not None:
                document["data_flow"]["searcher"] = self.path_searcher.to_dict()
        document |= {
            "task": dict(self.task),
            "splits": dict(self.splits),
            "searcher": self.searcher.to_dict(),
            "fitness": _plain(asdict(self.fitness)),
            "select": self.select,
            "baselines": list(self.baselines),
            "batch_size": self.batch_size,
        }
        if self.economy is not None:
            document["economy"] = asdict(self.economy)
        return document | self.output.to_dict()

    def to_yaml(self) -> str:
        """The search as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def _check_recipes(self) -> None:
        if self.merge_method not in METHODS:
            raise SearchError(
                f"Unknown merge_method {self.merge_method!r}{guess(self.merge_method, METHODS)}; "
                f"known: {', '.join(METHODS)}."
            )
        self._check_models()
        self._check_genes()
        for name in self.granularity:
            if name not in GRANULARITIES:
                raise SearchError(
                    f"Unknown granularity {name!r}{guess(name, GRANULARITIES)}; expected {', '.join(GRANULARITIES)}."
                )
        if not self.granularity or ("filter" in self.granularity) != bool(self.filters):
            raise SearchError("genome.filters belongs to the granularity `filter`: give both, or neither.")
        try:
            self.recipe({gene.name: gene.start for gene in self.genes if not self.is_per_model(gene.name)})
        except RecipeError as exc:
            raise SearchError(str(exc)) from None

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
                    f"{self.merge_method} has no gene {gene.name!r}{guess(gene.name, numeric)}; it can vary: "
                    f"{', '.join(numeric) or 'nothing'}."
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
                raise SearchError(
                    f"{self.merge_method} has no parameter {name!r}{guess(name, known)}; it takes: {', '.join(known)}."
                )


def _genome(genome: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Search` that its `genome` holds."""
    SEARCH.require_known(genome, ("granularity", "genes", "start", "filters"), "genome")
    granularity = genome.get("granularity", "layer")
    return {
        "genes": _genes(genome),
        "granularity": (granularity,)
        if isinstance(granularity, str)
        else tuple(SEARCH.listed(granularity, "granularity")),
        "filters": tuple(map(str, SEARCH.listed(genome.get("filters") or [], "genome.filters"))),
    }


def _genes(genome: Mapping[str, Any]) -> tuple[Gene, ...]:
    ranges = SEARCH.mapping(genome.get("genes") or {}, "genome.genes")
    start = genome.get("start")
    starts = (
        dict.fromkeys(ranges, start) if isinstance(start, (int, float)) else SEARCH.mapping(start or {}, "genome.start")
    )
    SEARCH.require_known(starts, ranges, "genome.start")
    genes = []
    for name, limits in ranges.items():
        if not isinstance(limits, (list, tuple)) or len(limits) != 2 or not all(map(is_number, limits)):
            raise SearchError(f"Gene {name} needs a range [low, high], got {limits!r}{_colon(name, limits)}")
        low, high = map(float, limits)
        middle = starts.get(name, (low + high) / 2)
        if not is_number(middle):
            raise SearchError(f"The start of gene {name} must be a number, got {middle!r}.")
        genes.append(Gene(name, low, high, float(middle)))
    return tuple(genes)


def _colon(name: str, value: object) -> str:
    """The end of a message about a value."""
    hint = missing_colon(name, value)
    return f"; {hint}" if hint else "."


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
