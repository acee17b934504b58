"""A recipe as frozen values, validated when they are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..documents import DocumentKind
from ..errors import RecipeError
from ..reference import ModelRef
from .calibration import Calibration
from .output import Output
from .parameters import Parameters

MOST_STAGES = 50
"""Stages of a recipe: each is planned and computed within the one after it."""
MOST_READS = 1000
"""How often a recipe's models may be read for one tensor, through all of its stages."""

RECIPE = DocumentKind("recipe", RecipeError)


@dataclass(frozen=True)
class ModelEntry:
    """One model of a `models:` recipe with its own parameters, and texts of its own to measure it by."""

    model: ModelRef
    parameters: Parameters = field(default_factory=dict)
    calibration: Calibration | None = None


@dataclass(frozen=True)
class SliceSource:
    """Layers `layer_range[0]` up to but not including `layer_range[1]` of one model."""

    model: ModelRef
    layer_range: tuple[int, int]
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """A run of output layers, merged from the same number of layers of each source.

    `base_model`: in place of the recipe's. A run of no layers gives what stands before or after the stack.
    """

    sources: tuple[SliceSource, ...]
    parameters: Parameters = field(default_factory=dict)
    base_model: ModelRef | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise RecipeError("A slice needs at least one source (model and layer_range).")
        lengths = {stop - start for start, stop in (source.layer_range for source in self.sources)}
        if len(lengths) > 1:
            raise RecipeError(f"The sources of one slice must span equally many layers, got {sorted(lengths)}.")


@dataclass(frozen=True)
class Stage:
    """A merge before the last one: what comes after it may name it as a model, `stage:NAME`. None of it is written."""

    name: str
    recipe: "Recipe"

    def __post_init__(self) -> None:
        if self.recipe.stages:
            raise RecipeError(f"The stage {self.name} has `stages` of its own; list all stages beside each other.")

    @property
    def ref(self) -> ModelRef:
        """How what comes after it refers to it."""
        return ModelRef(self.name, stage=True)


@dataclass(frozen=True)
class Module:
    """A part of models that is merged by itself, from models or slices of its own.

    `name`: the part's, as mergekit (text_decoder, vision_tower) or hubmerge calls it (see hub/component.py). What it
    does not say itself - method, base model, parameters - is the recipe's; parameters are its own alone where it has a
    method of its own. `copied`: the model that it is taken from as it is, in place of a merge.
    """

    name: str
    models: tuple[ModelEntry, ...] = ()
    slices: tuple[Slice, ...] = ()
    parameters: Parameters = field(default_factory=dict)
    merge_method: str | None = None
    base_model: ModelRef | None = None
    copied: ModelRef | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise RecipeError("A part under `modules` has no name; write that of a part, such as language_model.")
        if self.copied is None and bool(self.models) == bool(self.slices):
            raise RecipeError(f"The module {self.name} needs either `models` or `slices`, and not both.")

    def recipe(self, outer: "Recipe") -> "Recipe":
        """The merge of this part, as a module of `outer`; that one's parameters are not in it."""
        return Recipe(
            self.merge_method or outer.merge_method,
            self.models,
            self.slices,
            self.base_model or outer.base_model,
            self.parameters,
            outer.output,
        )


@dataclass(frozen=True)
class Recipe:
    """What to merge and how, validated; the keys are those of the YAML.

    Exactly one of `models` (whole models), `slices` (layer ranges) and `modules` (parts of models) is filled. All
    merging is done in float32; `output` says how it is written. `stages` are merged before, in their order.
    `calibration`: the texts by which models are measured, where the method needs that and a model has none of its own.
    `forgiving`: it is written for mergekit, so that a parameter which its method does not have is left out with a
    warning; `remarks`: what was left out as it was read. Raises `RecipeError` at construction.
    """

    merge_method: str
    models: tuple[ModelEntry, ...] = ()
    slices: tuple[Slice, ...] = ()
    base_model: ModelRef | None = None
    parameters: Parameters = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    stages: tuple[Stage, ...] = ()
    modules: tuple[Module, ...] = ()
    calibration: Calibration | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False, repr=False)
    forgiving: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if bool(self.models) + bool(self.slices) + bool(self.modules) != 1:
            raise RecipeError("A recipe needs `models`, `slices` or `modules`: one of them and not both.")
        if len({module.name for module in self.modules}) < len(self.modules):
            raise RecipeError("A part is named twice under `modules`; name each once.")

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model of the Hub or in a folder that is named, once each, base_model first, those of stages last."""
        named = [*self.named, *(ref for stage in self.stages for ref in stage.recipe.named)]
        return tuple(dict.fromkeys(ref for ref in named if not ref.stage))

    @property
    def named(self) -> tuple[ModelRef, ...]:
        """All that the last merge names, models and stages, once each, base_model first."""
        return tuple(dict.fromkeys([*self.merged, *self.output.models]))

    @property
    def merged(self) -> tuple[ModelRef, ...]:
        """The models and stages whose weights the last merge is about, once each, base_model first."""
        return tuple(dict.fromkeys([*self.mixed, *self.copied.values()]))

    @property
    def mixed(self) -> tuple[ModelRef, ...]:
        """Of these, the ones that are merged with others, and not only copied from."""
        named = [self.base_model] if self.base_model else []
        named += [entry.model for entry in self.models]
        for piece in self.slices:
            named += [piece.base_model] if piece.base_model else []
            named += [source.model for source in piece.sources]
        named += [ref for module in self.modules if not module.copied for ref in module.recipe(self).mixed]
        return tuple(dict.fromkeys(named))

    @property
    def copied(self) -> dict[str, ModelRef]:
        """The parts that the last merge takes as they are, by their names in `modules`, and where each is from."""
        return {module.name: module.copied for module in self.modules if module.copied}

    @property
    def calibrations(self) -> dict[ModelRef, Calibration | None]:
        """The texts that each merged model is measured by, its own or the recipe's."""
        own = {entry.model: entry.calibration for entry in self.models if entry.calibration is not None}
        return {ref: own.get(ref, self.calibration) for ref in self.merged}

    @property
    def local_texts(self) -> tuple[str, ...]:
        """Files and folders of this machine that its models are measured by."""
        merges = self.merges.values()
        given = [merge.calibration for merge in merges] + [one.calibration for each in merges for one in each.models]
        return tuple(dict.fromkeys(name for one in given if one is not None for name in one.local))

    @property
    def giver(self) -> ModelRef:
        """The model whose configuration the result keeps: the first of which only a part is merged, for the result is
        the whole of it; else base_model, else the first model."""
        parts = [ref for ref in self.named if ref.component is not None and ref not in self.copied.values()]
        if parts:
            return parts[0]
        if self.base_model is not None:
            return self.base_model
        if self.modules:
            first = next((module for module in self.modules if module.copied is None), self.modules[0])
            return first.copied or first.recipe(self).giver
        return self.models[0].model if self.models else self.slices[0].sources[0].model

    @property
    def merges(self) -> dict[str, "Recipe"]:
        """All its merges in their order, by the stage's name; the last one is called ""."""
        return {**{stage.name: stage.recipe for stage in self.stages}, "": self}

    @property
    def methods(self) -> tuple[str, ...]:
        """The merge methods that it names, once each."""
        return tuple(dict.fromkeys([self.merge_method, *(m.merge_method for m in self.modules if m.merge_method)]))

    @property
    def tokenizer_giver(self) -> ModelRef:
        """The model that gives the tokenizer: `tokenizer_source`, else the one that gives the configuration."""
        return self.output.tokenizer_model or self.giver

    def require_stages(self) -> None:
        """Raises `RecipeError` for two stages of one name, one that nothing names, one named before it is there, and
        for more of them than `MOST_STAGES`, or that are merged over and over (`MOST_READS`)."""
        if len(self.stages) > MOST_STAGES:
            raise RecipeError(f"The recipe has {len(self.stages):,} stages; at most {MOST_STAGES} are merged at once.")
        made: list[ModelRef] = []
        used: set[ModelRef] = set()
        read: dict[ModelRef, int] = {}
        for name, merge in [*((stage.name, stage.recipe) for stage in self.stages), (None, self)]:
            stages = {ref: ref.whole_stage for ref in merge.named if ref.stage}
            for ref in stages.values():
                if ref not in made:
                    hint = f"it may name: {', '.join(map(str, made))}." if made else "no stage comes before it."
                    raise RecipeError(f"{f'The stage {name}' if name else 'The recipe'} names {ref}, but {hint}")
                used.add(ref)
            times = sum(read.get(stages.get(ref, ref), 1) for ref in merge.named)
            if self.stages and times > MOST_READS:
                raise RecipeError(
                    f"{f'The stage {name}' if name else 'The recipe'} is made of stages that are made of each other so "
                    f"often that models are read more than {MOST_READS:,} times; merge some of it on its own first."
                )
            if name is not None:
                if (ref := ModelRef(name, stage=True)) in made:
                    raise RecipeError(f"Two stages are called {name}; give each a name of its own.")
                made.append(ref)
                read[ref] = times
        if unused := [ref for ref in made if ref not in used]:
            plain = any(not ref.stage and ref.repo_id == unused[0].repo_id for ref in self.references)
            hint = f"write {unused[0]} where you mean it" if plain else "name it as a model, or leave the stage out"
            raise RecipeError(f"Nothing names {unused[0]}; {hint}.")

    def with_pins(self, pinned: Mapping[ModelRef, ModelRef]) -> "Recipe":
        """The same recipe with each model at its commit, as `pinned` has it; others stay as they are."""

        def pin(ref: ModelRef) -> ModelRef:
            return pinned.get(ref, ref)

        return replace(
            self,
            stages=tuple(replace(stage, recipe=stage.recipe.with_pins(pinned)) for stage in self.stages),
            models=_pinned_models(self.models, pin),
            slices=_pinned_slices(self.slices, pin),
            modules=tuple(
                replace(
                    module,
                    models=_pinned_models(module.models, pin),
                    slices=_pinned_slices(module.slices, pin),
                    base_model=pin(module.base_model) if module.base_model else None,
                    copied=pin(module.copied) if module.copied else None,
                )
                for module in self.modules
            ),
            base_model=pin(self.base_model) if self.base_model else None,
            output=self.output.with_pins(pinned),
        )

    def with_calibrations(self, change: Callable[[Calibration], Calibration]) -> "Recipe":
        """The same recipe with each calibration as `change` makes it."""

        def changed(given: Calibration | None) -> Calibration | None:
            return None if given is None else change(given)

        return replace(
            self,
            stages=tuple(replace(one, recipe=one.recipe.with_calibrations(change)) for one in self.stages),
            models=tuple(replace(entry, calibration=changed(entry.calibration)) for entry in self.models),
            calibration=changed(self.calibration),
        )

    @classmethod
    def from_yaml(cls, source: str | Path, strict: bool = False) -> "Recipe":
        """Reads a recipe from YAML text, or from a file (a `Path`, or its name as text).

        Several documents, of which later ones name earlier ones, become stages. What a recipe in mergekit's format
        holds that nothing reads is left out and stands in `remarks`; `strict` raises for it.
        """
        return cls.as_written(RECIPE.source(source), strict).require_read()

    @classmethod
    def from_text(cls, text: str, strict: bool = False) -> "Recipe":
        """Reads a recipe from YAML text that somebody else wrote: whatever it holds, it is no path."""
        return cls.as_written(text, strict).require_read()

    @classmethod
    def as_written(cls, source: str | Path, strict: bool = False) -> "Recipe":
        """Reads a recipe from YAML text or a `Path`, and leaves it to the caller to refuse what nothing reads."""
        from .several import read_documents

        recipe = read_documents(RECIPE.load_all(source), strict)
        recipe.require_stages()
        return recipe

    def require_read(self) -> "Recipe":
        """The recipe. Raises `RecipeError` for what it held that nothing reads, unless that is left out."""
        if self.remarks and not self.forgiving:
            raise RecipeError("\n".join(self.remarks))
        return self

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], strict: bool = False) -> "Recipe":
        """Reads a recipe from plain values, as YAML gives them."""
        from .reading import read_recipe

        RECIPE.require_plain(document)
        recipe = read_recipe(document, strict)
        recipe.require_stages()
        return recipe.require_read()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON; `Recipe.from_dict` reads them back to an equal recipe."""
        from .document import recipe_document

        return recipe_document(self)

    def __repr__(self) -> str:
        return f"Recipe:\n{self.to_yaml()}"

    def to_yaml(self) -> str:
        """The recipe as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _pinned_models(models: tuple[ModelEntry, ...], pin: Callable[[ModelRef], ModelRef]) -> tuple[ModelEntry, ...]:
    return tuple(replace(entry, model=pin(entry.model)) for entry in models)


def _pinned_slices(slices: tuple[Slice, ...], pin: Callable[[ModelRef], ModelRef]) -> tuple[Slice, ...]:
    return tuple(
        replace(
            piece,
            sources=tuple(replace(source, model=pin(source.model)) for source in piece.sources),
            base_model=pin(piece.base_model) if piece.base_model else None,
        )
        for piece in slices
    )


class FaultyRecipe(RecipeError):
    """What is wrong with a recipe as it is written; `rest`: what of it could be read, where that makes one."""

    def __init__(self, message: object, rest: Recipe | None = None) -> None:
        super().__init__(message)
        self.rest = rest
