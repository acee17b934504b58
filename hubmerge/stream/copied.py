"""A part in a folder of its own that is taken from another model as it is, and not merged."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RecipeError
from ..hub.component import Component, lacks_part
from ..recipe import Recipe
from ..reference import ModelRef
from .carried import Carried
from .component import ComponentPlan
from .configuration import kept
from .findings import Finding, warning
from .tensors import TensorPlan
from .weights import Part, Weights

_BETWEEN = (
    "latent_channels",
    "in_channels",
    "out_channels",
    "cross_attention_dim",
    "joint_attention_dim",
    "pooled_projection_dim",
    "caption_channels",
    "cap_feat_dim",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
    "hidden_size",
    "d_model",
)
"""Settings by which a part of a pipeline fits to the others: how wide what they give each other is."""


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
        copy = Copy(component, giver)
        before, entry = _as_list(whole.config.get(component.folder)), _as_list(copy.entry)
        if before and entry and before[0] != entry[0] and {before[0], entry[0]} == {"diffusers", "transformers"}:
            raise RecipeError(
                f"{module.copied} is of the class {entry[1]} ({entry[0]}), and the {component.name} of {whole.name} of "
                f"{before[1]} ({before[0]}); name a model whose part that is."
            )
        yield copy


def check_copies(whole: Weights, taken: Iterable[Copy]) -> Iterator[Finding]:
    """Warns of what is copied from another model and does not fit to the others parts' numbers."""
    for one in taken:
        before, given = Part(whole, one.component).config, one.giver.config
        for key in _BETWEEN:
            if key in before and key in given and before[key] != given[key]:
                yield warning(
                    f"{one.giver.name}, taken as the {one.component.name} of {whole.name}, has {key} "
                    f"{str(given[key])[:40]} where that has {str(before[key])[:40]}; other parts are made for it, so "
                    "the pipeline may not draw."
                )
                break


def _as_list(entry: Any) -> list[str]:
    """What model_index.json says of a part: its library and its class; nothing where it is something else."""
    return entry if isinstance(entry, list) and len(entry) == 2 and all(isinstance(one, str) for one in entry) else []
