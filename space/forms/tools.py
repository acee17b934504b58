"""What the Tools form says, as the document of a job."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hubmerge.documents import load_mapping
from hubmerge.errors import HubmergeError, RecipeError
from hubmerge.experts.document import Moe
from hubmerge.extract.adapter import recipe_of
from hubmerge.extract.asked import read_wish
from hubmerge.gguf.formats import find_format
from hubmerge.recipe import ModelEntry, Recipe
from hubmerge.recipe.output import Output
from hubmerge.recipe.tokenizer import TokenizerBlock
from hubmerge.reference import ModelRef

from ..settings import Settings
from ..visitors.access import require_hub_id
from ..visitors.stranger import require_mixture
from ..wording import short

ROWS = 64
"""Rows of shared tokens that each new row of a transplant is made of, at most."""


class Asked(NamedTuple):
    """A job of one of the tools: its kind, what it is called, and the document that says what to make."""

    kind: str
    title: str
    document: Mapping[str, Any]


class Made(NamedTuple):
    """A model that a job of this page has made, and no Hub has: where it lies, and what the job is called."""

    folder: Path
    title: str


Named = str | Made | None
"""A model: by its Hub ID, or made here; or none."""


@dataclass(frozen=True)
class ToolForm:
    """What the form says, a field for each of its components; each tool reads its own of them.

    `other`: the base that `model` was tuned from, or the model whose tokens it is to have. `energy`: a share of the
    change to hold. `type`: a format of GGUF. `mixture`: YAML. `asked` finds `model` where it was made here.
    """

    kind: str
    model: str | None
    other: str | None
    rank: float | None
    energy: float | None
    type: str
    mixture: str

    def asked(self, settings: Settings, made: Callable[[str | None], Named] = lambda model: model) -> Asked:
        """The job. Raises `HubmergeError` for what cannot be, or may not be named on this page."""
        if self.kind == "moe":
            return mixture(settings, self.mixture)
        if self.kind == "gguf":
            return gguf(settings, made(self.model), self.type)
        if self.kind == "transplant":
            return transplant(settings, made(self.model), self.other)
        if self.kind == "extract":
            return extract(settings, made(self.model), self.other, self.rank, self.energy)
        raise HubmergeError("Choose what to make.")


def extract(settings: Settings, model: Named, base: str | None, rank: float | None, energy: float | None) -> Asked:
    """A LoRA of what `model` learnt on top of `base`; a `rank`, a share of the change to hold, or both; 0 is none."""
    tuned, title = _named(settings, model, "the model")
    origin, _ = _named(settings, base, "the base that it was tuned from")
    if rank and rank != int(rank):
        raise RecipeError(f"rank must be a whole number, got {rank:g}.")
    recipe = recipe_of(tuned, origin, rank=int(rank or 0) or None, energy=energy or None)
    read_wish(recipe)
    return Asked("extract", f"LoRA of {title}", recipe.to_dict())


def transplant(settings: Settings, model: Named, donor: str | None) -> Asked:
    """`model` with the tokenizer of `donor`."""
    ref, title = _named(settings, model, "the model")
    tokens, donors = _named(settings, donor, "the model whose tokens it is to have")
    block = TokenizerBlock(str(tokens), transplant=ROWS)
    recipe = Recipe("passthrough", (ModelEntry(ref),), output=Output(tokenizer=block))
    return Asked("transplant", f"{title} with tokens of {donors}", recipe.to_dict())


def gguf(settings: Settings, model: Named, type: str) -> Asked:
    """`model` as one GGUF file of a format."""
    (ref, title), kind = _named(settings, model, "the model"), find_format(type).name
    return Asked("gguf", f"{kind} of {title}", {"model": str(ref), "type": kind})


def mixture(settings: Settings, text: str) -> Asked:
    """A mixture of experts, from YAML text as mergekit-moe has it."""
    document = load_mapping(text, "mixture", RecipeError)
    if settings.on_space:
        require_mixture(document)
    moe = Moe.from_dict(document)
    for ref in moe.references:
        require_hub_id(settings, ref)
    names = " + ".join(dict.fromkeys(short(expert.source_model.bare) for expert in moe.experts))
    return Asked("moe", f"experts of {names}", moe.to_dict())


def suggested_mixture(models: Sequence[str], base: str | None) -> str:
    """A mixture of the models that were picked, each for what its name says; empty without two."""
    named = list(dict.fromkeys(models))
    if len(named) < 2:
        return ""
    experts = [
        {"source_model": name, "positive_prompts": [short(name).replace("-", " ").replace("_", " ")]} for name in named
    ]
    document = {"base_model": base or named[0], "gate_mode": "hidden", "experts": experts}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _named(settings: Settings, name: Named, what: str) -> tuple[ModelRef, str]:
    """The model, and what it is called."""
    if isinstance(name, Made):
        return ModelRef(str(name.folder)), name.title
    if not (name or "").strip():
        raise RecipeError(f"Name {what}, as org/name.")
    ref = ModelRef.parse(str(name).strip())
    if ref.stage:
        raise RecipeError(f"{ref} is a stage of a recipe, and no model yet; name {what}, as org/name.")
    return require_hub_id(settings, ref), short(ref.bare)
