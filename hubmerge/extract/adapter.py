"""What is written of an extraction: the factors by peft's names, adapter_config.json, and the plan of it.

The plan is one of a merge that only copies, so that writing, pushing, resuming and verifying are those of a merge. Its
recipe has the method `extract_lora`:

>>> print(recipe_of(ModelRef.parse("org/tuned"), ModelRef.parse("org/base"), rank=16).to_yaml(), end="")
merge_method: extract_lora
base_model: org/base
models:
- model: org/tuned
parameters:
  rank: 16
dtype: float32
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from .. import __version__
from ..amounts import size
from ..errors import RecipeError, ResourceError
from ..hub.lora import CONFIG, PREFIX
from ..hub.source import Source
from ..methods import find_method
from ..places import folder_name
from ..progress import Progress, silent
from ..recipe import ModelEntry, Recipe
from ..recipe.output import Output
from ..reference import ModelRef
from ..stream.carried import Carried
from ..stream.component import ComponentPlan
from ..stream.device import cores, find_devices
from ..stream.dtypes import DTYPES, RECIPE_DTYPES
from ..stream.findings import Finding, some, warning
from ..stream.plan import Plan, Settings, assess, pins_by, require_amounts
from ..stream.stage import Stage
from ..stream.tensors import TensorPlan
from ..stream.weights import Extent, Reads, Weights
from . import EXTRACT
from .asked import memory_of_largest, prepare
from .candidates import Candidate, Rest, targets
from .factoring import factor_all
from .kept import Facts, Kept

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LIBRARY_BYTES = 80 * 2**20
"""What LAPACK, threads and reading take beside the matrices."""

# Kinds of models whose linear layers store their weights the other way round.
_TURNED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")


def recipe_of(
    model: ModelRef,
    base: ModelRef,
    *,
    rank: int | None = None,
    energy: float | None = None,
    dtype: str = "float32",
    whole: bool = False,
) -> Recipe:
    """The recipe of an extraction: see `Wish`. `whole`: norms that have changed are saved whole beside the factors."""
    given: dict[str, Any] = {"rank": rank, "energy": energy, "whole": whole or None}
    parameters = {key: value for key, value in given.items() if value is not None}
    return Recipe(EXTRACT, (ModelEntry(model),), base_model=base, parameters=parameters, output=Output(dtype=dtype))


@dataclass(frozen=True)
class Module:
    """A module that the LoRA changes, and what is known of that: its rank, and which share of the change it holds."""

    candidate: Candidate
    facts: Facts


@dataclass(frozen=True)
class Extraction:
    """What was factored, and the plan that writes it. `modules`: those that have changed; `unchanged`: how many others;
    `factor_memory`: bytes that factoring took."""

    plan: Plan
    modules: tuple[Module, ...]
    unchanged: int
    kept: Kept

    @property
    def energy(self) -> float:
        """Which share of the square of all that changed in these modules the LoRA holds."""
        total = sum(one.facts.norm**2 for one in self.modules)
        return sum(one.facts.norm**2 * one.facts.energy for one in self.modules) / total if total else 1.0


def extract(
    recipe: Recipe,
    *,
    token: str | None = None,
    sources: Mapping[ModelRef, Source] | None = None,
    work: Path | None = None,
    progress: Progress = silent,
    **settings: "Unpack[Settings]",
) -> Extraction:
    """Factors what `recipe` asks for, and plans what is to be written of it.

    `work`: a folder where what is factored is kept until it is written, so that a run that broke goes on there; without
    one it lasts as long as the result. `settings`: as of `make_plan`; the LoRA is one file whatever size is asked for.
    Raises `RecipeError`, `SourceError`, `HubError` or `ResourceError`.
    """
    require_amounts(settings)
    wish, saves, opened, base, model, candidates = prepare(recipe, token, sources)
    assert recipe.base_model is not None
    each = memory_of_largest(candidates, wish)
    at_a_time = _threads(each, settings.get("threads") or cores(), settings.get("memory"))
    devices = find_devices(settings.get("device", "cpu"), each, at_a_time)
    kept = Kept(work and work / _key(recipe, opened.values()))
    try:
        factor_all(
            base,
            model,
            candidates,
            wish,
            kept,
            threads=len(devices),
            ranged=settings.get("ranged", False),
            device=devices[0],
            progress=progress,
        )
    except BaseException:
        kept.close()
        raise
    facts = [kept.facts(number) or _gone(kept) for number in range(len(candidates.found) + len(candidates.rest))]
    modules = [Module(one, known) for one, known in zip(candidates.found, facts, strict=False)]
    changed = tuple(one for one in modules if one.facts.rank)
    rest, moved = candidates.rest, [one.norm > 0 for one in facts[len(modules) :]]
    if not changed:
        others = f" ({sum(moved)} other tensors do, which a LoRA alone cannot say)" if any(moved) else ""
        raise RecipeError(
            f"No matrix of {model.name} differs from that of {base.name}{others}: there is nothing to extract."
        )
    whole = [one.name.rpartition(".")[0] for one, is_moved in zip(rest, moved, strict=True) if is_moved and not one.why]
    factors = Factors(model, kept, modules, RECIPE_DTYPES[recipe.output.written or "float32"])
    stage = _stage(factors, opened[recipe.base_model], rest, list(dict.fromkeys(whole)) if saves else [])
    left = _left_out(base, model, rest, moved, saves)
    plan = assess(
        recipe.with_pins(pins_by(opened)),
        tuple(opened.values()),
        [stage],
        [*candidates.findings, *left, *_vocabularies(base, model)],
        **_to_write(settings, sum(one.nbytes for one in stage.tensors)),
    )
    return Extraction(plan, changed, len(modules) - len(changed), kept)


def _to_write(settings: Settings, nbytes: int) -> Settings:
    """How so many bytes of factors, which are read no more, are written: peft reads one file."""
    return {**settings, "shard_size": max(1, 4 * nbytes), "ranged": False, "device": "cpu"}


def _gone(kept: Kept) -> Facts:
    raise ResourceError(f"What was kept in {kept.folder} is gone; run the same again.")


def _threads(each: int, most: int, memory: int | None) -> int:
    """Tensors at a time of which each takes so many bytes."""
    if memory is None:
        return most
    if each + _LIBRARY_BYTES > memory:
        raise RecipeError(
            f"Factoring the largest tensor takes {size(each + _LIBRARY_BYTES)}, more than may be "
            "held; raise that (--memory, of the page: HUBMERGE_SPACE_MAX_MEMORY_GB)."
        )
    return min(most, (memory - _LIBRARY_BYTES) // each)


def _key(recipe: Recipe, sources: Iterable[Source]) -> str:
    """Names what is kept: the same name is the same factors."""
    content = [__version__, recipe.to_dict(), *(source.identity for source in sources)]
    return f"extract-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}"


def _left_out(
    base: Weights, model: Weights, rest: Sequence[Rest], moved: Sequence[bool], whole: bool
) -> Iterator[Finding]:
    """What is said of tensors that have changed, or may have, and that are not in the LoRA."""
    why: dict[str, list[str]] = {}
    for one, is_moved in zip(rest, moved, strict=True):
        if is_moved and not (whole and one.why is None):
            why.setdefault(one.why or "of norms", []).append(one.name)
    for what, names in why.items():
        advice = "; extract-lora --whole, not the page, saves them beside it" if what == "of norms" else ""
        yield warning(
            f"{len(names):,} tensor(s) {what} differ between {model.name} and {base.name} and are not in the LoRA "
            f"({some(names)}){advice}."
        )


def _vocabularies(base: Weights, model: Weights) -> Iterator[Finding]:
    ours, theirs = base.tokenizer.numbering, model.tokenizer.numbering
    if ours is not None and theirs is not None and not ours.same(theirs):
        yield warning(
            f"The tokenizers of {model.name} and {base.name} differ; that of {model.name} goes with the LoRA."
        )


class _Place(NamedTuple):
    """A factor: a side of what was kept under a number, whether turned round, and the tensor that peft has of it."""

    number: int
    side: str
    turned: bool
    tensor: TensorPlan


@dataclass(frozen=True, eq=False)
class Factors(Weights):
    """The factors of an extraction as weights, by peft's names; what `model` they are of gives them its small files."""

    model: Weights
    kept: Kept
    modules: Sequence[Module]
    dtype: str

    @property
    def name(self) -> str:
        """As the recipe has the model."""
        return self.model.name

    @property
    def config(self) -> Mapping[str, Any]:
        """They are no model."""
        return {}

    @property
    def tokenizer(self) -> Carried:
        """The model's."""
        return self.model.tokenizer

    @cached_property
    def tensors(self) -> Mapping[str, TensorPlan]:
        """Two a module that has changed."""
        return {name: place.tensor for name, place in self._places.items()}

    @cached_property
    def _places(self) -> dict[str, "_Place"]:
        found: dict[str, _Place] = {}
        for number, module in enumerate(self.modules):
            rank, (rows, columns), embedding = (
                module.facts.rank,
                module.candidate.shape,
                module.candidate.kind == "embedding",
            )
            # Peft's B times A is the change of a weight (out, in); an embedding's is stored the other way round.
            turned = embedding or self.turned
            sides = ("left", "right") if turned else ("right", "left")
            shapes = ((rank, rows), (columns, rank)) if turned else ((rank, columns), (rows, rank))
            start, end = (".lora_embedding_", "") if embedding else (".lora_", ".weight")
            for letter, side, shape in zip("AB", sides, shapes, strict=True):
                if rank:
                    name = f"{PREFIX}{module.candidate.module}{start}{letter}{end}"
                    tensor = TensorPlan(name, shape, self.dtype, ((0, name),), carried=True)
                    found[name] = _Place(number, side, turned, tensor)
        return found

    @property
    def turned(self) -> bool:
        """Whether linear layers store their weights as (in, out)."""
        return str(self.model.config.get("model_type")) in _TURNED

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Nothing of the models any more."""
        yield from ()

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements of a factor, in the dtype that is written."""
        if (self, name) not in reads.kept:
            place = self._places[name]
            factor = self.kept.factor(place.number, place.side)
            factor = factor.T if place.turned else factor
            reads.kept[self, name] = factor.reshape(-1).to(DTYPES[self.dtype].torch)
        kept: Tensor = reads.kept[self, name]
        return kept[start:stop]

    @property
    def memory(self) -> int:
        """One factor, as it was kept and as it is written."""
        return max((12 * tensor.parameters for tensor in self.tensors.values()), default=0)


def _stage(factors: Factors, base: Source, rest: Sequence[Rest], whole: Sequence[str]) -> Stage:
    """What is written: the factors, and norms that are saved whole."""
    saved = [one for one in rest if one.why is None and one.name.rpartition(".")[0] in whole]
    tensors = (*factors.tensors.values(), *(_saved(one, factors.model) for one in saved))
    config = _config(factors, base, whole, [one.candidate.module for one in factors.modules])
    component = ComponentPlan("", config, tensors, stem="adapter_model", settings=CONFIG)
    return Stage("", find_method("passthrough"), (factors, factors.model), (component,), factors.tokenizer)


def _saved(one: Rest, model: Weights) -> TensorPlan:
    """A tensor of the model as it is; what is not stored so is made of what is."""
    name, stored = one.stored[1], one.tensor
    as_is = {"scale": 1.0, "shift": 0.0}
    carried = model.is_stored(name)
    return TensorPlan(PREFIX + one.name, stored.shape, stored.dtype, ((1, name),), None, (as_is,), carried=carried)


def _config(factors: Factors, base: Source, whole: Sequence[str], everything: Sequence[str]) -> dict[str, Any]:
    """adapter_config.json: what is added is the product alone, for each alpha is its rank."""
    changed = [one for one in factors.modules if one.facts.rank]
    ranks = Counter(one.facts.rank for one in changed)
    rank = max(ranks, key=lambda one: (ranks[one], one))
    pattern = {one.candidate.module: one.facts.rank for one in changed if one.facts.rank != rank}
    architectures = base.config.get("architectures") or ()
    writes = any(str(name).endswith("ForCausalLM") for name in architectures)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if writes else None,
        "base_model_name_or_path": folder_name(base.listing.name) if base.is_folder else base.listing.name,
        "revision": base.commit,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": targets([one.candidate.module for one in changed], everything),
        "modules_to_save": list(whole) or None,
        "fan_in_fan_out": factors.turned,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
