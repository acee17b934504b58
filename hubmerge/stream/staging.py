"""How one merge of a recipe becomes a `Stage`: which tensors it makes, of what, and what is wrong with it.

What only some recipes ask for is imported where one does.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .. import layers
from ..errors import RecipeError
from ..methods import Method, find_method
from ..recipe import TEMPLATES, Parameters, Recipe
from ..reference import ModelRef
from . import settings, shards
from .agreement import check_configs, check_wholes
from .compatibility import check_ends, check_source, check_tensors
from .component import ComponentPlan
from .configuration import check_restacked, output_config, renumbered
from .dtypes import DTYPES, RECIPE_DTYPES, widest
from .effect import check_effect
from .findings import Finding, error, some, warning
from .layout import Layout, Origin, lay_out
from .roles import with_roles
from .stage import Merged, Stage
from .statistics import Statistics
from .tensors import TensorPlan
from .tokenizer import check_tokenizer, check_tokens, common_template, with_ending, with_endings
from .towers import check_towers
from .views import View, view_all
from .vocabulary import choose
from .weights import Weights

Measured = Mapping[tuple[str, ModelRef], Statistics]
"""What is measured of models, by the stage that it is for ("" for the last merge) and the model."""


def plan_merge(
    name: str, recipe: Recipe, made: Mapping[ModelRef, Weights], measured: Measured
) -> tuple[Stage, list[Finding]]:
    """One merge of a recipe, of whole models or of parts, over weights that are `made`, and what is wrong with it."""
    giver = made[recipe.giver]
    if recipe.modules or giver.whole is not None or giver.in_folders:
        from .modules import plan_modules

        return plan_modules(name, recipe, made, plan_stage)
    return plan_stage(name, recipe, made, (), measured)


def plan_stage(
    name: str,
    recipe: Recipe,
    made: Mapping[ModelRef, Weights],
    outer: tuple[Parameters, ...] = (),
    measured: Measured | None = None,
) -> tuple[Stage, list[Finding]]:
    """One merge of models; `outer`: parameters that count after the recipe's own; `measured`: what was of models."""
    written, asked = recipe, find_method(recipe.merge_method)
    measured = measured or {}
    recipe, method, findings = with_roles(written, asked)
    refs = recipe.named
    weights = [made[ref] for ref in refs]
    indices = {ref: index for index, ref in enumerate(refs)}
    tokenizer, giver = made[recipe.tokenizer_giver], made[recipe.giver]
    choice = choose(recipe, made)
    merged_refs = _merged(recipe, method)

    unfit = [
        finding for one in weights if not isinstance(one, Merged) for finding in check_source(one.tokenizer.source)
    ]
    findings += settings.check_settings(written, asked)
    findings += _check_measured(written, asked, [measured.get((name, ref)) for ref in merged_refs])
    views = view_all({indices[ref]: made[ref] for ref in merged_refs})
    for index, view in views.views.items():
        weights[index] = view.weights
    merged = [view.weights for view in views.views.values()]
    carried, template = choice.carried, recipe.output.template
    if (named := TEMPLATES.get(recipe.output.chat_template or "")) is not None:
        carried, found = with_ending(carried, str(recipe.output.chat_template), named.ends)
        findings += found
    elif template == "auto":
        tuned = [made[ref] for ref in merged_refs if ref != recipe.base_model]
        taken = common_template(tokenizer, tuned or merged)
        template = taken.tokenizer.chat_template if taken else None
        recipe = with_template(recipe, template)
        if taken is not None:
            carried, found = with_endings(carried, tokenizer, taken)
            findings += found
    unfit += check_configs(giver, [one for one in merged if one is not giver])
    unfit += check_wholes(merged)
    unfit += check_towers(giver)
    unfit += choice.findings
    findings += [*unfit, *views.findings]
    if giver.speaks:
        findings += check_tokenizer(recipe, choice, tokenizer, giver, [one for one in merged if one is not tokenizer])

    tensors: tuple[TensorPlan, ...] = ()
    layout = Layout((), ())
    # Models of different kinds would differ in every tensor: one sentence about that is enough.
    if not any(finding.level == "error" for finding in unfit):
        seen: Mapping[int, View] = views.views
        if choice.shortens:
            from .shortest import shortened

            seen = shortened(seen)
            for index, view in seen.items():
                weights[index] = view.weights
        if choice.vocabulary is not None:
            base = made[recipe.base_model] if recipe.base_model else None
            ends = [indices[ref] for ref in _ends(recipe, merged_refs)]
            if (block := recipe.output.vocabulary) is not None and block.transplant is not None:
                from .transplanted import transplant

                seen, found = transplant(choice.vocabulary, seen, ends, block.transplant)
            else:
                from .by_token import ByToken

                seen, found = ByToken(choice.vocabulary, seen, base, made).views(ends)
            findings += found
            for index, view in seen.items():
                weights[index] = view.weights
        layout = lay_out(recipe, method, indices, seen, outer)
        tensors, found = plan_tensors(recipe, method, layout, weights)
        findings += [*layout.findings, *found]
        if not any(finding.level == "error" for finding in findings):
            findings += check_effect(recipe, method, tensors)
        beside = {indices[ref]: one for ref in merged_refs if (one := measured.get((name, ref))) is not None}
        tensors = tuple(_with_statistics(tensors, beside, len(weights)))
        weights += beside.values()
        findings += _check_averaged(method, tensors)
        places = {one.words for one in layout.origins if one.words}
        of_all = {name for one in layout.origins for name in _names(one)}
        draws = re.search("UNet|Transformer", str(giver.config.get("_class_name", ""))) is not None
        findings += settings.check_filters(written, of_all, places, draws)
        findings += check_restacked(giver, layout.layer_map, views.views)
        findings += check_tensors(tensors, weights, choice.advice)
        findings += check_tokens(carried, tensors) if giver.speaks else ()
        findings += check_ends(tensors, weights, choice.advice) if recipe.slices else ()
    if recipe.models:
        tensors = shards.in_stored_order(tensors, weights)
    config = output_config(giver, weights, tokenizer, tensors, layout.layer_map, views.tied)
    if choice.shortens:
        from .shortest import rows_of

        config, _ = renumbered(config, giver.name, None, None, rows_of(tensors))
    if choice.vocabulary is not None:
        ours, theirs = choice.vocabulary.numbering, giver.tokenizer.numbering
        config, found = renumbered(config, giver.name, theirs, ours, choice.vocabulary.new_rows(giver))
        findings += found
    carried = replace(carried, template=template or carried.template)
    convention = giver.tokenizer.source.convention
    components = (ComponentPlan("", config, tensors, convention.stem, convention.settings),)
    return Stage(name, method, tuple(weights), components, carried, is_restacked=bool(recipe.slices)), findings


def _check_measured(recipe: Recipe, method: Method, measured: Sequence[Statistics | None]) -> Iterator[Finding]:
    """Whether a method that needs data has it, and no other is given any."""
    if method.statistic is None:
        if recipe.calibration is not None or any(entry.calibration for entry in recipe.models):
            yield error(f"{method.name} measures no model; leave `calibration` out.", RecipeError)
    elif not all(measured):
        yield error(
            f"{method.name} needs models measured on texts, as `hubmerge merge`, `hubmerge.merge` and the page do for "
            "a recipe with `calibration`.",
            RecipeError,
        )


def _check_averaged(method: Method, tensors: Sequence[TensorPlan]) -> Iterator[Finding]:
    """What of the layers is averaged, although the method would do better."""
    inside = [one.name for one in tensors if layers.parse(one.name).layer is not None and len(one.shape) > 1]
    measured = {one.name for one in tensors if one.statistics}
    if method.statistic and measured and (left := [name for name in inside if name not in measured]):
        yield warning(
            f"{len(left):,} tensors of layers are not measured by {method.name}, and averaged ({some(left)})."
        )


def _with_statistics(
    tensors: Sequence[TensorPlan], measured: Mapping[int, Statistics], first: int
) -> Iterator[TensorPlan]:
    """The same, each with what was measured of its inputs; the statistics of models stand among the weights from the
    place `first` on. A head that a model ties may be measured under the name that the result has of it."""
    places = {index: first + number for number, index in enumerate(measured)}
    for tensor in tensors:
        found = []
        for index, stored in tensor.inputs if not tensor.copied else ():
            names = (stored, tensor.name) if layers.parse(stored).layer is not None else (tensor.name, stored)
            known = measured[index].shapes if index in measured else {}
            found += [(places[index], one) for one in names if one in known][:1]
        shapes = {measured[list(measured)[place - first]].shapes[one] for place, one in found}
        fits = shapes == {tensor.shape} or shapes == {tensor.shape[-1:] * 2}
        yield replace(tensor, statistics=tuple(found)) if fits and len(found) == len(tensor.inputs) else tensor


def with_template(recipe: Recipe, template: str | None) -> Recipe:
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
    bases = [recipe.base_model, *(piece.base_model for piece in recipe.slices)] if method.takes_base else []
    named = [base for base in bases if base is not None]
    named += [entry.model for entry in recipe.models]
    named += [source.model for piece in recipe.slices for source in piece.sources]
    return tuple(dict.fromkeys(named))


def plan_tensors(
    recipe: Recipe, method: Method, layout: Layout, weights: Sequence[Weights]
) -> tuple[tuple[TensorPlan, ...], list[Finding]]:
    wanted = RECIPE_DTYPES.get(recipe.output.written or "")
    least = None if wanted else _least_dtype(layout, weights)
    resolver = settings.Resolver(method)
    everyone = {index for origin in layout.origins for index, _ in origin.reads}
    tensors = []
    for origin in layout.origins:
        is_shared = {index for index, _ in origin.reads} == everyone
        reads = [weights[index].tensors[name] for index, name in origin.reads]
        stored, is_float = reads[0], DTYPES[reads[0].dtype].is_float
        dtypes = [tensor.dtype for tensor in reads] + ([least] if least and not is_shared else [])
        per_model, shared = resolver.resolve(
            origin.models,
            origin.levels,
            origin.name,
            origin.depth,
            [_own(origin.name, name) for _, name in origin.inputs],
            origin.words,
        )
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


def _names(origin: Origin) -> Iterator[str]:
    """What a tensor is called in the result and in each model."""
    yield origin.name
    yield from (name for _, name in origin.reads)


def _own(name: str, inner: str) -> str:
    """What a model calls the tensor `name` of the result: `inner` in a layer; a head may be read from an embedding."""
    return name if layers.parse(name).layer is None else inner


def _placed(tensors: Sequence[TensorPlan]) -> Iterator[TensorPlan]:
    """The same, each with the share of all elements that comes before it, and before its end."""
    total, before = sum(tensor.parameters for tensor in tensors) or 1, 0
    for tensor in tensors:
        after = before + tensor.parameters
        yield replace(tensor, shared={**tensor.shared, "begin": before / total, "end": after / total})
        before = after


def _least_dtype(layout: Layout, weights: Sequence[Weights]) -> str | None:
    """The widest of the dtypes that the models have most of their weights in; None where they all have the same.

    What is copied from some of the models is not narrower than what others bring: one dtype is computed in.
    """
    sizes: dict[int, Counter[str]] = {}
    for index, name in (one for origin in layout.origins for one in origin.reads):
        tensor = weights[index].tensors[name]
        if tensor.dtype in DTYPES and DTYPES[tensor.dtype].is_float:
            sizes.setdefault(index, Counter())[tensor.dtype] += tensor.parameters
    main = {size.most_common(1)[0][0] for size in sizes.values()}
    return widest(main) if len(main) > 1 else None
