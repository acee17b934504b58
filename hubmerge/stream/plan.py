"""The plan of a merge: every tensor, byte and finding of it, known from headers before a weight moves.

>>> plan = make_plan(Recipe.from_yaml(Path("recipe.yaml")))     # doctest: +SKIP
>>> plan.require(); plan.output_bytes, plan.peak_memory         # doctest: +SKIP
(269060552, 339738624)
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import __version__
from .. import recipe as recipes
from ..errors import RecipeError
from ..hub.licences import combine
from ..hub.source import Source, open_source
from ..methods import Method, find_method
from ..recipe import ModelEntry, Parameters, Recipe
from ..reference import ModelRef
from . import budget, settings, shards
from .agreement import check_configs
from .budget import Effort
from .by_token import ByToken
from .carried import Carried
from .compatibility import check_ends, check_source, check_tensors
from .component import ComponentPlan, sized
from .configuration import check_restacked, output_config, renumbered
from .dequantised import Dequantised
from .device import cores, find_devices
from .dtypes import DTYPES, RECIPE_DTYPES, widest
from .findings import Finding, raise_errors
from .laid import Laid, is_laid_out
from .layout import Layout, lay_out
from .lora import Adapted
from .modules import has_modules, plan_modules
from .shards import ShardPlan
from .stage import Merged, Stage
from .tensors import TensorPlan
from .tokenizer import check_tokenizer, check_tokens, common_template, with_endings
from .views import View, view_all
from .vocabulary import choose
from .weights import Part, Stored, Weights

__all__ = ["SHARD_SIZE", "Finding", "Plan", "ShardPlan", "TensorPlan", "make_plan"]

SHARD_SIZE = 5 * 10**9
"""Bytes of weights a file holds at most unless asked otherwise."""


@dataclass(frozen=True)
class Plan:
    """Everything about a merge that headers tell.

    `recipe` has its models pinned to commits. `sources` are all models it names, base first. `stages` are its merges in
    order, each over weights, which may be those of a stage before; the last makes what is written: the checkpoints of
    `components`, the whole result's own first. Sizes in bytes: `fetch_bytes` to download, `output_bytes` of weights to
    write, `disk_bytes` in the output folder, `spill_bytes` of them for results of stages that a method reads twice.
    `key` names the plan: the same key gives the same bytes. `shard_size` is the one asked for. `ranged`: weights that
    are not on this machine are read by range, not downloaded. `effort`: threads and memory; `devices`: where each
    thread computes.
    """

    recipe: Recipe
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
        return 0.0 if self.errors else budget.compute_seconds(self.stage, self.threads)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid the merge."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that do not."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def require(self) -> None:
        """Raises the errors, all in one: `RecipeError`, `ResourceError` or `PlanError`. Does nothing without any."""
        raise_errors(self.findings)


def make_plan(
    recipe: Recipe,
    *,
    token: str | None = None,
    shard_size: int = SHARD_SIZE,
    sources: Mapping[ModelRef, Source] | None = None,
    out: Path | None = None,
    pushing: bool = False,
    ranged: bool = False,
    threads: int | None = None,
    memory: int | None = None,
    device: str = "cpu",
) -> Plan:
    """Plans `recipe`, reading no weights.

    `sources` are models already open, by the recipe's references; the others are opened here. `shard_size` is in
    bytes. With `out`, the disk of that folder is checked too; `pushing`: shards leave it as they are finished, and are
    at most half that size, so that two of them fit into it. `ranged`: weights that are not on
    this machine are read from the Hub tensor by tensor, and no file of theirs is made. `threads`: tensors merged at a
    time, by default one a core; `memory`: bytes that the merge may take beside the bare process, to which threads and
    what is read ahead are fitted; `device`: as torch names it, where "cuda" is all GPUs, or "auto" - other than on the
    CPU, results may differ in their last bits from machine to machine. What is wrong with the recipe or between the
    models is listed in `findings`; a model that cannot be opened raises `SourceError` or `HubError`, an unknown merge
    method `RecipeError`.
    """
    if shard_size <= 0:
        raise RecipeError(f"The shard size must be a positive number of bytes, got {shard_size}.")
    if threads is not None and threads <= 0:
        raise RecipeError(f"The number of threads must be positive, got {threads}.")
    threads = threads or cores()
    opened = _open(recipe, sources or {}, token)
    used = tuple(opened.values())
    stages, findings = _check(recipe, opened)
    stage = stages[-1]
    recipe = _with_template(recipe, stage.tokenizer.template)

    # Pushing keeps two files on disk, one that goes up and one that is written: both are to fit into the size asked.
    components = sized(stage.components, max(1, shard_size // 2) if pushing else shard_size)
    files = [shard for component in components for shard in component.shards]
    fetch = (budget.range_bytes(stage) if ranged else budget.fetch_bytes(stage)) + budget.adapter_bytes(used)
    effort = budget.effort(stage, ranged, threads, memory)
    spill = budget.spill_bytes(stage, effort.threads)
    disk = budget.disk_bytes(files, pushing, shard_size) + spill
    findings += budget.check_memory(effort.memory, memory, ranged)
    if out is not None:
        findings += budget.check_disk(out, disk, 0 if ranged else fetch)
    devices = tuple(map(str, find_devices(device, budget.device_memory(stage), effort.threads)))
    effort = replace(effort, threads=len(devices))
    pinned = recipe.with_pins({ref: source.pinned for ref, source in opened.items()})
    return Plan(
        recipe=pinned,
        sources=used,
        stages=tuple(stages),
        components=components,
        findings=tuple(findings),
        fetch_bytes=fetch,
        disk_bytes=disk,
        spill_bytes=spill,
        key=_key(pinned, used, files, _joined(devices)),
        shard_size=shard_size,
        ranged=ranged,
        effort=effort,
        devices=devices,
    )


def _open(recipe: Recipe, sources: Mapping[ModelRef, Source], token: str | None) -> dict[ModelRef, Source]:
    """The models that a recipe names, once what it says of itself makes sense."""
    recipe.require_stages()
    for merge in recipe.merges.values():
        for method in merge.methods:
            find_method(method)
    return {ref: sources.get(ref) or open_source(ref, token=token) for ref in recipe.references}


def _check(recipe: Recipe, opened: Mapping[ModelRef, Source]) -> tuple[list[Stage], list[Finding]]:
    """The merges of a recipe in their order, and what is wrong with them; none after the first that cannot be."""
    made: dict[ModelRef, Weights] = {ref: weights_of(source) for ref, source in opened.items()}
    stages: list[Stage] = []
    findings: list[Finding] = []
    for name, merge in recipe.merges.items():
        stage, found = plan_merge(name, merge, made)
        stages.append(stage)
        if name:
            made[ModelRef(name, stage=True)] = Merged(stage)
        findings += [replace(one, message=f"In stage:{name}: {one.message}") for one in found] if name else found
        if any(finding.level == "error" for finding in found):
            break  # what comes after it would be said to lack everything
    return stages, findings + [Finding("warning", message) for message in combine(tuple(opened.values())).warnings]


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


def weights_of(source: Source) -> Weights:
    """What a reference stands for: a model, its tensors in order, or a part of one, with its LoRA."""
    stored = Stored(source)
    weights: Weights = Laid(stored) if is_laid_out(source) else stored
    if source.scales is not None:
        weights = Dequantised(weights, source.scales)
    if source.component is not None:
        weights = Part(weights, source.component)
    return weights if source.adapter is None else Adapted(weights, source.adapter)


def plan_merge(name: str, recipe: Recipe, made: Mapping[ModelRef, Weights]) -> tuple[Stage, list[Finding]]:
    """One merge of a recipe, of whole models or of parts, over weights that are `made`, and what is wrong with it."""
    if has_modules(recipe, made):
        return plan_modules(name, recipe, made, plan_stage)
    return plan_stage(name, recipe, made)


def plan_stage(
    name: str, recipe: Recipe, made: Mapping[ModelRef, Weights], outer: tuple[Parameters, ...] = ()
) -> tuple[Stage, list[Finding]]:
    """One merge of models; `outer`: parameters that count after the recipe's own."""
    method = find_method(recipe.merge_method)
    refs = recipe.named
    weights = [made[ref] for ref in refs]
    indices = {ref: index for index, ref in enumerate(refs)}
    tokenizer, giver = made[recipe.tokenizer_giver], made[recipe.giver]
    choice = choose(recipe, made)
    merged_refs = _merged(recipe, method)

    unfit = [
        finding for one in weights if not isinstance(one, Merged) for finding in check_source(one.tokenizer.source)
    ]
    findings = list(settings.check_settings(recipe, method))
    views = view_all({indices[ref]: made[ref] for ref in merged_refs})
    merged = [view.weights for view in views.views.values()]
    carried, template = choice.carried, recipe.output.chat_template
    if template == "auto":
        tuned = [made[ref] for ref in merged_refs if ref != recipe.base_model]
        taken = common_template(tokenizer, tuned or merged)
        template = taken.tokenizer.chat_template if taken else None
        recipe = _with_template(recipe, template)
        if taken is not None:
            carried, found = with_endings(carried, tokenizer, taken)
            findings += found
    unfit += check_configs(giver, [one for one in merged if one is not giver])
    unfit += choice.findings
    findings += [*unfit, *views.findings]
    if giver.speaks:
        findings += check_tokenizer(recipe, choice, tokenizer, giver, [one for one in merged if one is not tokenizer])

    tensors: tuple[TensorPlan, ...] = ()
    layout = Layout((), ())
    # Models of different kinds would differ in every tensor: one sentence about that is enough.
    if not any(finding.level == "error" for finding in unfit):
        seen: Mapping[int, View] = views.views
        if choice.vocabulary is not None:
            base = made[recipe.base_model] if recipe.base_model else None
            ends = [indices[ref] for ref in _ends(recipe, merged_refs)]
            seen, found = ByToken(choice.vocabulary, seen, base, made).views(ends)
            findings += found
            for index, view in seen.items():
                weights[index] = view.weights
        layout = lay_out(recipe, method, indices, seen, outer)
        tensors, found = _tensors(recipe, method, layout, weights)
        findings += [*layout.findings, *found]
        findings += check_restacked(giver, layout.layer_map, views.views)
        findings += check_tensors(tensors, weights, choice.advice)
        findings += check_tokens(carried, tensors) if giver.speaks else ()
        findings += check_ends(tensors, weights, choice.advice) if recipe.slices else ()
    if recipe.models:
        tensors = shards.in_stored_order(tensors, weights)
    config = output_config(giver, weights, tokenizer, tensors, layout.layer_map, views.tied)
    if choice.vocabulary is not None:
        ours, theirs = choice.vocabulary.numbering, giver.tokenizer.numbering
        config, found = renumbered(config, giver.name, theirs, ours, choice.vocabulary.new_rows(giver))
        findings += found
    carried = replace(carried, template=template or carried.template)
    components = (ComponentPlan("", config, tensors),)
    return Stage(name, method, tuple(weights), components, carried, is_restacked=bool(recipe.slices)), findings


def _with_template(recipe: Recipe, template: str | None) -> Recipe:
    """The recipe with the template that "auto" stands for in it."""
    if recipe.output.chat_template != "auto":
        return recipe
    return replace(recipe, output=replace(recipe.output, chat_template=template))


def _ends(recipe: Recipe, merged: Sequence[ModelRef]) -> Iterator[ModelRef]:
    """The merged models whose embedding or head goes into the result: all, or those of the first and last slice."""
    pieces = {source.model for piece in (recipe.slices[:1] + recipe.slices[-1:]) for source in piece.sources}
    yield from (ref for ref in merged if not recipe.slices or ref in pieces or ref == recipe.base_model)


def _merged(recipe: Recipe, method: Method) -> tuple[ModelRef, ...]:
    """The models whose weights are read, base first."""
    named = [recipe.base_model] if method.takes_base and recipe.base_model else []
    named += [entry.model for entry in recipe.models]
    named += [source.model for piece in recipe.slices for source in piece.sources]
    return tuple(dict.fromkeys(named))


def _tensors(
    recipe: Recipe, method: Method, layout: Layout, weights: Sequence[Weights]
) -> tuple[tuple[TensorPlan, ...], list[Finding]]:
    wanted = RECIPE_DTYPES.get(recipe.output.written or "")
    least = None if wanted else _least_dtype(layout, weights)
    resolver = settings.Resolver(method)
    tensors = []
    for origin in layout.origins:
        reads = [weights[index].tensors[name] for index, name in origin.reads]
        stored, is_float = reads[0], DTYPES[reads[0].dtype].is_float
        dtypes = [tensor.dtype for tensor in reads] + ([least] if least else [])
        per_model, shared = resolver.resolve(origin.models, origin.levels, origin.name, origin.depth)
        tensors.append(
            TensorPlan(
                name=origin.name,
                shape=stored.shape,
                dtype=(wanted or widest(dtypes)) if is_float else stored.dtype,
                inputs=origin.inputs,
                base=origin.base,
                per_model=per_model,
                shared=shared,
            )
        )
    return tuple(_placed(tensors) if method.placed else tensors), list(resolver.findings())


def _placed(tensors: Sequence[TensorPlan]) -> Iterator[TensorPlan]:
    """The same, each with the share of all elements that comes before it, and before its end."""
    total, before = sum(tensor.parameters for tensor in tensors) or 1, 0
    for tensor in tensors:
        after = before + tensor.parameters
        yield replace(tensor, shared={**tensor.shared, "begin": before / total, "end": after / total})
        before = after


def _least_dtype(layout: Layout, weights: Sequence[Weights]) -> str | None:
    """The widest of the dtypes that the models have most of their weights in; None where they all have the same.

    What is copied from one model alone is not narrower than what others bring: one dtype is computed in.
    """
    sizes: dict[int, Counter[str]] = {}
    for index, name in (one for origin in layout.origins for one in origin.reads):
        tensor = weights[index].tensors[name]
        if tensor.dtype in DTYPES and DTYPES[tensor.dtype].is_float:
            sizes.setdefault(index, Counter())[tensor.dtype] += tensor.parameters
    main = {size.most_common(1)[0][0] for size in sizes.values()}
    return widest(main) if len(main) > 1 else None


def _joined(devices: Sequence[str]) -> str:
    return "+".join(dict.fromkeys(devices))


def _key(recipe: Recipe, sources: Sequence[Source], files: Sequence[ShardPlan], device: str) -> str:
    content = {
        "hubmerge": __version__,
        "recipe": recipe.to_dict(),
        "sources": [source.identity for source in sources],
        "device": device,
        "shards": [[shard.file, *shard.names] for shard in files],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
