"""What LoRAs add that a merge does not read: a recipe may name one for what it does not change."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..hub.component import ALIASES
from ..hub.source import Source
from ..recipe import Recipe
from ..reference import ModelRef
from .findings import Finding, some, warning
from .stage import Stage
from .tensors import TensorPlan


def check_added(recipe: Recipe, stages: Sequence[Stage], opened: Mapping[ModelRef, Source]) -> Iterator[Finding]:
    """LoRAs that change nothing of what the recipe makes of their models, or of a part of it, or more than that.

    `stages`: all of the recipe's merges; `opened`: the models that it names.
    """
    adapted = {ref: _changed(source) for ref, source in opened.items() if source.adapter is not None}
    if not adapted:
        return

    def used(stage: Stage, tensors: Iterable[TensorPlan]) -> dict[ModelRef, set[str]]:
        """The parts of each model of which something that its LoRA changes is read for `tensors` of a stage."""
        extents = (one for tensor in tensors for one in stage.needs(tensor, 0, tensor.parameters))
        read = {(id(one.source), one.tensor.name) for one in extents}
        return {
            ref: {part for name, part in of.items() if (id(opened[ref]), name) in read} for ref, of in adapted.items()
        }

    in_all = used(stages[-1], stages[-1].tensors)
    for ref, changed in adapted.items():
        parts, model = list(dict.fromkeys(changed.values())), opened[ref].listing.name
        if not in_all[ref]:
            # Of a model without parts its tensors say more.
            what = some(parts) if all(parts) else some(changed, 1)
            yield warning(
                f"{ref.lora} changes nothing of what is made of {model} here: it changes {what}; merge that, too, or "
                "leave the LoRA out."
            )
        elif left := [part for part in parts if part and part not in in_all[ref]]:
            yield warning(
                f"{ref.lora} also changes {some(left)} of {model}, which does not come into the result: name {ref} for "
                "that, too, to have it."
            )
    by_name = {stage.name: stage for stage in stages}
    for name, merge in recipe.merges.items():
        stage = by_name[name]
        for module in merge.modules:
            named = [module.copied, *(entry.model for entry in module.models)]
            named += [source.model for piece in module.slices for source in piece.sources]
            if not (few := [ref for ref in dict.fromkeys(named) if ref is not None and in_all.get(ref)]):
                continue
            part = ALIASES.get(module.name, module.name)
            made = dict(stage.modules).get(part)
            copied = [one for one in stage.tensors if one.name.startswith(f"{part}/")]
            here = used(stage, copied) if made is None else used(made, made.tensors)
            for ref in (ref for ref in few if not here[ref]):
                yield warning(
                    f"In the module {module.name}: {ref.lora} changes nothing of it, but "
                    f"{some(dict.fromkeys(adapted[ref].values()))}; leave the LoRA out there."
                )


def _changed(source: Source) -> dict[str, str]:
    """The stored tensors that the LoRA of a model changes, each with the part that it is in, "" where it is in none."""
    assert source.adapter is not None
    part, packed = source.component, source.quantised.by_name if source.quantised else {}
    parts = {name: one.name for one in source.components.values() for name in one.names.values()}
    names = (part.names[name] if part else name for name in source.adapter.changes)
    return {packed[name].first.name if name in packed else name: parts.get(name, "") for name in names}
