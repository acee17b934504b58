"""The plan of a merge: every tensor, byte and finding of it, known from headers before a weight moves.

>>> plan = make_plan(Recipe.from_yaml(Path("recipe.yaml")))     # doctest: +SKIP
>>> plan.require(); plan.output_bytes, plan.peak_memory         # doctest: +SKIP
(269060552, 339738624)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from .. import __version__
from .. import recipe as recipes
from ..amounts import size
from ..documents import uncollected
from ..errors import RecipeError
from ..hub.component import ALIASES, lacks_part
from ..hub.licences import combine
from ..hub.source import Source, open_source
from ..methods import find_method
from ..recipe import ModelEntry, Recipe
from ..reference import ModelRef
from ..shown import Shown, Table
from . import budget
from .added import check_added
from .budget import Effort
from .carried import Carried
from .component import ComponentPlan, check_names, sized
from .device import cores, find_devices
from .findings import Finding, raise_errors, warning
from .laid import Laid, is_laid_out
from .shards import ShardPlan
from .stage import Merged, Stage
from .staging import Measured, plan_merge, with_template
from .statistics import Statistics
from .tensors import TensorPlan
from .trial import compute_seconds
from .weights import Part, Stored, Weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SHARD_SIZE", "Finding", "Plan", "Settings", "ShardPlan", "TensorPlan", "make_plan"]

SHARD_SIZE = 5 * 10**9
"""Bytes of weights a file holds at most unless asked otherwise."""


class Wanted(Protocol):
    """What says what to make of which models: a recipe, or another document that this is planned from."""

    @property
    def merge_method(self) -> str:
        """What is done, in a word."""

    @property
    def base_model(self) -> ModelRef | None:
        """The model that the result builds on."""

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model that is named, once each."""

    @property
    def merges(self) -> Mapping[str, "Wanted"]:
        """All that is done in its order, by the stage's name; the last is called ""."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which the same can be planned again."""

    def to_yaml(self) -> str:
        """The same as YAML text."""


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """Everything about a merge that headers tell.

    `recipe` has its models pinned to commits. `sources` are all models it names, base first. `stages` are its merges in
    order, each over weights, which may be those of a stage before; the last makes what is written: the checkpoints of
    `components`, the whole result's own first. Sizes in bytes: `fetch_bytes` to download, `output_bytes` of weights to
    write, `disk_bytes` in the output folder, `spill_bytes` of them for results of stages that a method reads twice.
    `key` names the plan: the same key gives the same bytes. `shard_size` is the one asked for. `ranged`: weights that
    are not on this machine are read by range, not downloaded. `effort`: threads and memory; `devices`: where each
    thread computes.
    """

    recipe: Wanted
    sources: tuple[Source, ...]
    stages: tuple[Stage, ...]
    components: tuple[ComponentPlan, ...]
    findings: tuple[Finding, ...]
    fetch_bytes: int
    disk_bytes: int
    spill_bytes: int
    key: str
    shard_size: int
    ranged: bool
    effort: Effort
    devices: tuple[str, ...]

    @property
    def stage(self) -> Stage:
        """The merge whose result is written."""
        return self.stages[-1]

    @property
    def shards(self) -> tuple[ShardPlan, ...]:
        """The weight files to write."""
        return tuple(shard for component in self.components for shard in component.shards)

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods of the last merge, once each."""
        return self.stage.methods

    @property
    def tensors(self) -> tuple[TensorPlan, ...]:
        """The tensors to write."""
        return self.stage.tensors

    @property
    def config(self) -> Mapping[str, Any]:
        """The result's config.json."""
        return self.stage.config

    @property
    def tokenizer(self) -> Carried:
        """The tokenizer and other small files to write."""
        return self.stage.tokenizer

    @property
    def device(self) -> str:
        """The devices that blocks are computed on, each once: "cpu", "cuda:0+cuda:1"."""
        return _joined(self.devices)

    @property
    def threads(self) -> int:
        """How many tensors are merged at a time."""
        return self.effort.threads

    @property
    def peak_memory(self) -> int:
        """Bytes of memory that the merge takes beside the bare process."""
        return self.effort.memory

    @property
    def output_bytes(self) -> int:
        """Size of the weights to write."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def parameters(self) -> int:
        """Number of elements of all output tensors."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def compute_seconds(self) -> float:
        """Seconds of computing that the merge takes on this machine, by a short trial; fetching and writing apart.

        0 for a plan with errors, which cannot be tried.
        """
        return 0.0 if self.errors else compute_seconds(self.stage, self.threads)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid the merge."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that do not."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def told(self) -> Table:
        """What is merged, what it costs, and what there is to say about it."""
        before = "".join(f"{stage.methods[0]} (stage:{stage.name}), then " for stage in self.stages[:-1])
        dtypes = ", ".join(sorted({tensor.dtype for tensor in self.tensors}))
        rows = [
            ("models", ", ".join(source.name for source in self.sources)),
            ("result", f"{self.parameters:,} parameters, {dtypes}, {len(self.tensors):,} tensors"),
            ("files", f"{size(self.output_bytes)} in {len(self.shards)}"),
            ("to fetch", size(self.fetch_bytes)),
            ("peak memory", f"{size(self.peak_memory)}, {self.threads} at a time on {self.device}"),
            ("disk", size(self.disk_bytes)),
            *(("measured", one.told) for one in self.statistics),
            *((finding.level, finding.message) for finding in self.findings),
        ]
        return f"Plan: {before}{', '.join(self.methods)}", rows

    @property
    def statistics(self) -> tuple[Statistics, ...]:
        """What is, or is to be, measured of models on texts before they are merged."""
        return tuple(one for stage in self.stages for one in stage.weights if isinstance(one, Statistics))

    def require(self) -> None:
        """Raises the errors, all in one: `RecipeError`, `ResourceError` or `PlanError`. Does nothing without any."""
        raise_errors(self.findings)


class Settings(TypedDict, total=False):
    """How something planned is to be made; none of it changes a byte of the result but `device`.

    `shard_size`: bytes of weights a file holds at most. With `out`, the disk of that folder is checked too; `pushing`:
    shards leave it as they are finished, and are at most half that size, so that two of them fit into it. `ranged`:
    weights that are not on this machine are read from the Hub tensor by tensor, and no file of theirs is made.
    `threads`: tensors made at a time, by default one a core; `memory`: bytes that it may take beside the bare process,
    to which threads and what is read ahead are fitted; `device`: as torch names it, where "cuda" is all GPUs, or
    "auto" - other than on the CPU, results may differ in their last bits from machine to machine.
    """

    shard_size: int
    out: Path | None
    pushing: bool
    ranged: bool
    threads: int | None
    memory: int | None
    device: str


def make_plan(
    recipe: Recipe,
    *,
    token: str | None = None,
    sources: Mapping[ModelRef, Source] | None = None,
    measured: Measured | None = None,
    **settings: "Unpack[Settings]",
) -> Plan:
    """Plans `recipe`, reading no weights; `settings`: see `Settings`.

    `sources` are models already open, by the recipe's references; the others are opened here. `measured`: what methods
    that need data know of the models (`calibration.plan_recipe` gives it). What is wrong with the
    recipe or between the models is listed in `findings`; a model that cannot be opened raises `SourceError` or
    `HubError`, an unknown merge method or an amount that is none `RecipeError`.
    """
    require_amounts(settings)
    with uncollected():
        opened = _open(recipe, sources or {}, token)
        stages, findings = _check(recipe, opened, measured or {})
        recipe = with_template(recipe, stages[-1].tokenizer.template).with_pins(pins_by(opened))
        return assess(recipe, tuple(opened.values()), stages, findings, **settings)


def rekeyed(plan: Plan) -> Plan:
    """The same plan once what it needs is measured: by that its key tells its bytes."""
    return replace(plan, key=_key(plan.recipe, plan.sources, plan.stages, plan.shards, plan.device))


def require_amounts(settings: Settings) -> None:
    """Raises `RecipeError` for amounts that are none, before a model is opened."""
    if (shard_size := settings.get("shard_size", SHARD_SIZE)) <= 0:
        raise RecipeError(f"The shard size must be a positive number of bytes, got {shard_size}.")
    if (threads := settings.get("threads")) is not None and threads <= 0:
        raise RecipeError(f"The number of threads must be positive, got {threads}.")


def pins_by(opened: Mapping[ModelRef, Source]) -> dict[ModelRef, ModelRef]:
    """Each reference at the commit that was opened."""
    return {ref: source.pinned for ref, source in opened.items()}


def assess(
    recipe: Wanted,
    sources: tuple[Source, ...],
    stages: Sequence[Stage],
    findings: Sequence[Finding],
    **settings: "Unpack[Settings]",
) -> Plan:
    """The plan of `stages`, whatever they were planned from: what they cost, and whether this machine has it; `recipe`
    has its models pinned already."""
    require_amounts(settings)
    shard_size, out = settings.get("shard_size", SHARD_SIZE), settings.get("out")
    pushing, ranged = settings.get("pushing", False), settings.get("ranged", False)
    threads, memory = settings.get("threads"), settings.get("memory")
    stage = stages[-1]
    # Pushing keeps two files on disk, one that goes up and one that is written: both are to fit into the size asked.
    components = sized(stage.components, max(1, shard_size // 2) if pushing else shard_size)
    files = [shard for component in components for shard in component.shards]
    fetch = (budget.range_bytes(stage) if ranged else budget.fetch_bytes(stage)) + budget.adapter_bytes(sources)
    effort = budget.effort(stage, ranged, threads or cores(), memory)
    if threads is None and memory is None and effort.memory > (free := budget.free_memory()):
        effort = budget.effort(stage, ranged, cores(), free)
    spill = budget.spill_bytes(stage, effort.threads)
    disk = budget.disk_bytes(files, pushing, shard_size) + spill
    found = [
        *findings,
        *check_names(components),
        *budget.check_memory(effort.memory, memory, ranged, effort.threads),
    ]
    if out is not None:
        found += budget.check_disk(out, disk, 0 if ranged else fetch)
    devices = find_devices(settings.get("device", "cpu"), budget.device_memory(stage), effort.threads)
    effort = replace(effort, threads=len(devices))
    return Plan(
        recipe=recipe,
        sources=sources,
        stages=tuple(stages),
        components=components,
        findings=tuple(found),
        fetch_bytes=fetch,
        disk_bytes=disk,
        spill_bytes=spill,
        key=_key(recipe, sources, stages, files, _joined(devices)),
        shard_size=shard_size,
        ranged=ranged,
        effort=effort,
        devices=devices,
    )


def _open(recipe: Recipe, sources: Mapping[ModelRef, Source], token: str | None) -> dict[ModelRef, Source]:
    """The models that a recipe names, once what it says of itself makes sense."""
    recipe.require_stages()
    for method in (method for merge in recipe.merges.values() for method in merge.methods):
        find_method(method)
    return {ref: sources.get(ref) or open_source(ref, token=token) for ref in recipe.references}


def _check(recipe: Recipe, opened: Mapping[ModelRef, Source], measured: Measured) -> tuple[list[Stage], list[Finding]]:
    """The merges of a recipe in their order, and what is wrong with them; none after the first that cannot be."""
    made: dict[ModelRef, Weights] = {ref: weights_of(source) for ref, source in opened.items()}
    stages: list[Stage] = []
    findings: list[Finding] = []
    for name, merge in recipe.merges.items():
        made |= {ref: _part_of(made[ref.whole_stage], ref) for ref in merge.named if ref.stage and ref.component}
        stage, found = plan_merge(name, merge, made, measured)
        found = [*map(warning, merge.remarks), *found]
        stages.append(stage)
        if name:
            made[ModelRef(name, stage=True)] = Merged(stage)
        findings += [replace(one, message=f"In stage:{name}: {one.message}") for one in found] if name else found
        if any(finding.level == "error" for finding in found):
            break  # what comes after it would be said to lack everything
    else:
        findings += check_added(recipe, stages, opened)
    return stages, [*findings, *map(warning, combine(tuple(opened.values())).warnings)]


def made_by(
    stages: Sequence[recipes.Stage], sources: Mapping[ModelRef, Source], token: str | None = None
) -> dict[ModelRef, Merged]:
    """What the stages of a recipe make of `sources`, by how it names them; all but the last of them must be named.

    Raises what `make_plan` and `Plan.require` do.
    """
    if not stages:
        return {}
    last = Recipe("passthrough", models=(ModelEntry(stages[-1].ref),), stages=tuple(stages))
    plan = make_plan(last, sources=sources, token=token)
    plan.require()
    return {ModelRef(stage.name, stage=True): Merged(stage) for stage in plan.stages[:-1]}


def _part_of(stage: Weights, ref: ModelRef) -> Part:
    """A part of what a stage makes."""
    if (part := stage.components.get(name := ALIASES.get(str(ref.component), str(ref.component)))) is None:
        raise RecipeError(f"{ref}: {lacks_part(stage.name, name, stage.components)}")
    return Part(stage, part)


def named_weights(ref: ModelRef, sources: Mapping[ModelRef, Source], stages: Mapping[ModelRef, Weights]) -> Weights:
    """What a reference stands for: one of the `sources`, or what one of the `stages` makes, or a part of that."""
    if not ref.stage:
        return weights_of(sources[ref])
    return stages[ref] if ref.component is None else _part_of(stages[ref.whole_stage], ref)


def weights_of(source: Source) -> Weights:
    """What a reference stands for: a model, its tensors in order, or a part of one, with its LoRA."""
    weights: Weights = Laid(Stored(source)) if is_laid_out(source) else Stored(source)
    if source.quantised is not None:  # most models ask for nothing of this
        from .dequantised import Dequantised

        weights = Dequantised(weights, source.quantised)
    if source.component is not None:
        weights = Part(weights, source.component)
    if source.adapter is not None:
        from .lora import Adapted

        weights = Adapted(weights, source.adapter)
    return weights


def _joined(devices: Sequence[str]) -> str:
    return "+".join(dict.fromkeys(devices))


def _key(
    recipe: Wanted, sources: Sequence[Source], stages: Sequence[Stage], files: Sequence[ShardPlan], device: str
) -> str:
    content: dict[str, Any] = {
        "hubmerge": __version__,
        "recipe": recipe.to_dict(),
        "sources": [source.identity for source in sources],
        "device": device,
        "shards": [[shard.file, *shard.names] for shard in files],
    }
    if measured := [one.digest for stage in stages for one in stage.weights if isinstance(one, Statistics)]:
        content["statistics"] = measured
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
