"""What is asked of an extraction, of which tensors, and what that takes: from headers, before anything is factored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import RecipeError
from ..hub.source import Source, open_source
from ..layers import depth
from ..recipe import Recipe
from ..reference import ModelRef
from ..stream.findings import Finding, error, raise_errors
from ..stream.plan import weights_of
from ..stream.weights import Weights
from . import EXTRACT
from .candidates import Candidates, find_candidates
from .factoring import Wish
from .lowrank import memory as memory_of

HIGHEST = 2**20
"""The highest rank that can be asked for: no matrix of a model has as many rows and columns."""
_SETTINGS = ("rank", "energy", "whole")


class Prepared(NamedTuple):
    """What is to be factored: what is asked for, whether norms are saved, the models, and which of their tensors."""

    wish: Wish
    saves: bool
    opened: Mapping[ModelRef, Source]
    base: Weights
    model: Weights
    candidates: Candidates


def prepare(recipe: Recipe, token: str | None, sources: Mapping[ModelRef, Source] | None = None) -> Prepared:
    """What `recipe` asks for, from headers; raises what `extract` does."""
    wish, saves = read_wish(recipe)
    opened = {ref: (sources or {}).get(ref) or open_source(ref, token=token) for ref in recipe.references}
    assert recipe.base_model is not None
    base, model = weights_of(opened[recipe.base_model]), weights_of(opened[recipe.models[0].model])
    raise_errors(_kinds(base, model))
    candidates = find_candidates(base, model)
    raise_errors(candidates.findings)
    return Prepared(wish, saves, opened, base, model, candidates)


def memory_of_largest(candidates: Candidates, wish: Wish) -> int:
    """Bytes that factoring the largest difference takes."""
    return max(memory_of(one.shape, None if wish.energy is not None else wish.rank) for one in candidates.found)


@dataclass(frozen=True)
class Estimate:
    """At most what it takes: `parameters` of the LoRA, `output` its bytes, `disk` with what is kept until then,
    `memory` for one tensor at a time; `modules`: how many it may change."""

    sources: tuple[Source, ...]
    modules: int
    parameters: int
    output: int
    disk: int
    memory: int


def estimate(recipe: Recipe, *, token: str | None = None) -> Estimate:
    """What extracting `recipe` takes; raises what `extract` does for models that do not belong together."""
    wish, _, opened, _, _, candidates = prepare(recipe, token)
    parameters = 0
    for one in candidates.found:
        rank = min(one.shape) if wish.rank is None else min(wish.rank, *one.shape)
        parameters += rank * sum(one.shape)
    output = parameters * (8 if recipe.output.written == "float64" else 4)
    memory = memory_of_largest(candidates, wish)
    return Estimate(tuple(opened.values()), len(candidates.found), parameters, output, output + 4 * parameters, memory)


def read_wish(recipe: Recipe) -> tuple[Wish, bool]:
    """How near the LoRA of a recipe is to come, and whether norms are saved. Raises `RecipeError` where it is none of
    an extraction."""
    given = recipe.parameters
    if unknown := [key for key in given if key not in _SETTINGS]:
        raise RecipeError(f"{EXTRACT} has no parameter {unknown[0]!r}; it takes: {', '.join(_SETTINGS)}.")
    if recipe.base_model is None or len(recipe.models) != 1 or recipe.stages or recipe.models[0].parameters:
        raise RecipeError(f"{EXTRACT} takes a `base_model` and one model, and its parameters in `parameters`.")
    rank, energy = given.get("rank"), given.get("energy")
    if rank is None and energy is None:
        raise RecipeError(
            "Say how near the LoRA is to come: by its rank, such as 16, or by energy, the share of the change that it "
            "holds, such as .9."
        )
    if rank is not None and not (type(rank) is int and 1 <= rank <= HIGHEST):
        raise RecipeError(f"rank must be a whole number from 1 to {HIGHEST:,}, got {repr(rank)[:24]}.")
    if energy is not None and not (type(energy) in (int, float) and 0 < energy <= 1):  # type: ignore[operator]
        raise RecipeError(f"energy must be a share above 0 and up to 1, got {energy!r}.")
    return Wish(rank, None if energy is None else float(energy)), bool(given.get("whole"))  # type: ignore[arg-type]


def _kinds(base: Weights, model: Weights) -> Iterator[Finding]:
    """Whether one can have been tuned from the other."""
    kinds = base.config.get("model_type"), model.config.get("model_type")
    if kinds[0] != kinds[1]:
        yield error(
            f"{model.name} is a {kinds[1]} model and {base.name} a {kinds[0]} model; name the base that it was tuned "
            "from."
        )
    ours, theirs = (depth(one.tensors) for one in (base, model))
    if ours != theirs:
        yield error(
            f"{model.name} has {theirs} layers and {base.name} has {ours}; name the base that it was tuned from."
        )
