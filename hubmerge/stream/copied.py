"""A part in a folder of its own that is taken from another model as it is, and not merged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RecipeError
from ..hub.component import Component, lacks_part
from ..recipe import Recipe
from ..reference import ModelRef
from .carried import Carried
from .component import ComponentPlan
from .configuration import kept
from .tensors import TensorPlan
from .weights import Part, Weights


@dataclass(frozen=True, eq=False)
class Copy:
    """`component`: the place in the whole that it takes; `giver`: what it is, a part of a model or one of its own."""

    component: Component
    giver: Weights

    @property
    def folder(self) -> str:
        """The folder in the whole, which is empty of all else."""
        return self.component.folder

    @property
    def entry(self) -> Any:
        """What the settings of the whole are to say of it; None where nobody can tell."""
        part = self.giver.whole
        return self.giver.tokenizer.source.entry if part is None else part.inner.config.get(part.component.folder)

    @property
    def files(self) -> tuple[Carried, str] | None:
        """Where its small files come from: what a model of its own has beside its weights is not of a part's kind."""
        part = self.giver.whole
        return None if part is None else (part.inner.tokenizer, part.component.folder)

    def planned(self, tensors: Sequence[TensorPlan]) -> ComponentPlan:
        """The checkpoint that it is in the result."""
        part = self.giver.whole
        stem = self.giver.tokenizer.source.convention.stem if part is None else part.component.stem
        return ComponentPlan(self.folder, kept(self.giver.config), tuple(tensors), stem)


def copies(
    recipe: Recipe, whole: Weights, made: Mapping[ModelRef, Weights], part_of: Mapping[str, str]
) -> Iterator[Copy]:
    """The parts that a recipe takes as they are, into `whole`; `part_of`: what models call each module.

    Raises `RecipeError` for what has no folder of its own, and for a model that does not have it.
    """
    for module in recipe.modules:
        if module.copied is None:
            continue
        component, giver = whole.components[part_of[module.name]], made[module.copied]
        if not component.folder:
            raise RecipeError(
                f"{module.name} of {whole.name} has no folder of its own to be copied into; write "
                f"`{module.name}: {{merge_method: passthrough, models: [{{model: {module.copied}}}]}}`."
            )
        if giver.whole is None and (parts := giver.components):
            if component.name not in parts:
                raise RecipeError(lacks_part(giver.name, component.name, parts))
            giver = Part(giver, parts[component.name])
        if bool(giver.tensors) != bool(component.names):
            what = "weights" if component.names else "no weights"
            raise RecipeError(
                f"{module.copied} cannot be the {component.name} of {whole.name}, which has {what}; name a model "
                "whose part that is."
            )
        yield Copy(component, giver)
