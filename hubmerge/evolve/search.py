"""A search, as people write it: which models, what may vary, how a candidate is judged, how long to look.

models: [org/math, org/japanese]
base_model: org/base
merge_method: dare_ties                 # parameter space: candidates are recipes of this method
parameters: {normalize: false}          # fixed for all candidates
genome:
  granularity: [model, layer]           # model | group | layer | layer_group | filter; a list grows from the best point
  genes: {weight: [0, 2], density: [0.1, 1]}
  start: {weight: 0.5}                  # default: the middle of each range
data_flow: {max_layers: 14}             # data-flow space: candidates are paths through the layers; alone or next
task: ja-word-problems                  # a built-in name, a YAML file, or the task itself
splits: {search: 100, validation: 150, test: 300}
searcher: {name: cmaes, evaluations: 300, seed: 1}
economy: {examples: 35, racing: true}   # fewer tokens: see spec/economy.py
from: runs/first                        # an earlier run to begin with: see records/learnt.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError, SearchError
from ..guesses import guess
from ..methods import METHODS, Method
from ..recipe import ModelEntry, Output, Recipe, Stage
from ..reference import ModelRef
from .spec.baselines import BASELINES, COMPARED, require_baselines
from .spec.data_flow import DataFlowSpace
from .spec.document import read_origin, read_search
from .spec.economy import Economy
from .spec.fields import SEARCH
from .spec.fitness import Fitness
from .spec.genes import Gene, genome_document, require_genes, require_granularity
from .spec.searcher import BY_EDITS, Searcher

FIRST_STAGE = "recipe"
"""What the search for paths calls the winner among recipes, which is a stage of its candidates."""


@dataclass(frozen=True)
class Search:
    """A whole search, validated. `task` is the task's document (see evaluate.task), with its folder made absolute.

    With `merge_method` and `genes` candidates are recipes (parameter space); with `data_flow` they are paths through
    the layers; with both, the winner among recipes joins the models, first, and paths through all of them follow.
    `path_searcher` is the searcher of that second part (None: `searcher`). `select`: how many of the best candidates
    are scored again on the validation split to choose the winner. `origin`: the run that it begins with, a folder or
    the dataset that it is mirrored at. `stages`: merges that its models may name; no file has them, they come from
    `paths_after`. Raises `SearchError` at construction.
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
    origin: ModelRef | None = None
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
        if self.data_flow is not None:
            self._check_paths()
        if "short" in self.fitness.objectives and self.spaces != ("dfs",):
            raise SearchError("The objective `short` counts the layers of paths; it needs `data_flow` alone.")
        if self.economy is not None and self.economy.racing and self.fitness.objectives != ("score",):
            raise SearchError("economy.racing compares plain scores; it needs the single objective `score`.")
        for name, value in (("select", self.select), ("batch_size", self.batch_size)):
            if value < 1:
                raise SearchError(f"{name} must be at least 1, got {value}.")
        require_baselines(self.baselines)
        for spec in (self.searcher, self.path_searcher) if self.origin is not None else ():
            if spec is not None and spec.name in COMPARED:
                raise SearchError(f"{spec.name} begins nowhere; `from` is for searchers that follow what they find.")

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
        """Every model named, base first; those that only the tokenizer is about come last."""
        named = [self.base_model] if self.base_model else []
        named += [*self.models, *self.output.models]
        return tuple(dict.fromkeys(ref for ref in named if not ref.stage))

    @property
    def by_edits(self) -> bool:
        """Whether paths are changed as they stand, instead of by the paper's genome."""
        if self.data_flow is None or self.data_flow.paper is not None:
            return self.data_flow is not None and not self.data_flow.paper
        return (self.path_searcher or self.searcher).name == BY_EDITS

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
        flow = self.data_flow and replace(self.data_flow, paper=not self.by_edits)
        grain = self.granularity[-1:] if self.merge_method is not None else self.granularity
        return replace(self, searcher=other, granularity=grain, data_flow=flow, origin=None)

    def begun_with(self, run: str | Path) -> "Search":
        """The same search, begun with an earlier `run`: its folder, or the dataset that it is mirrored at."""
        return replace(self, origin=read_origin(str(run)))

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
            models=(replace(stage.ref, component=first.giver.component), *self.models),
            merge_method=None,
            genes=(),
            granularity=("layer",),
            filters=(),
            parameters={},
            searcher=self.path_searcher or self.searcher,
            path_searcher=None,
        )

    def with_pins(self, pins: Mapping[ModelRef, ModelRef], task_pins: Mapping[str, str] | None = None) -> "Search":
        """The same search with its models, as `pins` has them, and what its task reads (by names such as
        examples.revision) at their commits."""
        task = dict(self.task)
        for name, pinned_at in (task_pins or {}).items():
            key, _, inner = name.partition(".")
            task[key] = {**task[key], inner: pinned_at}

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
        """Reads a search from YAML text, or from a file (a `Path`, or its name as text), beside which its task is
        looked for."""
        source = SEARCH.source(source)
        document = SEARCH.load(source)
        return cls.from_dict(document, relative_to=source.parent if isinstance(source, Path) else Path())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], relative_to: Path = Path()) -> "Search":
        """Reads a search from plain values, as YAML gives them."""
        return cls(**read_search(document, relative_to))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; `Search.from_dict` reads them back to an equal search."""
        document: dict[str, Any] = {"models": [str(model) for model in self.models]}
        if self.base_model is not None:
            document["base_model"] = str(self.base_model)
        if self.merge_method is not None:
            genome = genome_document(self.genes, self.granularity, self.filters)
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
        if self.origin is not None:
            document["from"] = str(self.origin)
        return document | self.output.to_dict()

    def __repr__(self) -> str:
        return f"Search:\n{self.to_yaml()}"

    def to_yaml(self) -> str:
        """The search as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def _check_paths(self) -> None:
        assert self.data_flow is not None
        name, paper = (self.path_searcher or self.searcher).name, self.data_flow.paper
        if paper and name == BY_EDITS:
            raise SearchError(f"{name} is not for the paper's genome; leave out data_flow.paper, or take cmaes.")
        low, high = self.data_flow.scale_range
        if self.by_edits and self.data_flow.scaling != "none" and not 0 < low <= 1 <= high:
            raise SearchError(f"Edits begin with factors of 1; data_flow.scale_range must hold 1, got {[low, high]}.")
        if paper is False and name not in (BY_EDITS, *COMPARED):
            raise SearchError(f"{name} searches the paper's genome; set data_flow.paper to true, or leave it out.")

    def _check_recipes(self) -> None:
        if self.merge_method not in METHODS:
            raise SearchError(
                f"Unknown merge_method {self.merge_method!r}{guess(self.merge_method, METHODS)}; "
                f"known: {', '.join(METHODS)}."
            )
        if self.method.statistic is not None:
            raise SearchError(
                f"{self.merge_method} measures models on texts, which a search does not; merge with it on its own, and "
                "search with another method."
            )
        self._check_models()
        require_genes(self.genes, self.parameters, self.method)
        require_granularity(self.granularity, self.filters)
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


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in document.items()}
