"""Whether the sources fit together, as far as headers tell."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from ..hub.checkpoint import CONSOLIDATED, INDEX, WEIGHTS
from ..hub.config import setting
from ..hub.conversion import PULL_REQUEST
from ..hub.source import Source
from ..layers import depth, is_vocabulary, parse
from .dtypes import DTYPES
from .findings import Finding, error, some, warning
from .tensors import TensorPlan
from .views import View
from .weights import Weights

_WRAPPERS = ("module.", "_orig_mod.")
"""What distributed training and torch.compile put before each name."""


def check_source(source: Source) -> Iterator[Finding]:
    """Finds what cannot be merged in one source alone: odd dtypes, code of its own."""
    odd = [one for one in source.weights.values() if one.dtype not in DTYPES]
    if odd:
        yield error(
            f"{source.name} stores {odd[0].name} as {odd[0].dtype}, which cannot be merged; "
            "use the repository with weights in float32, float16 or bfloat16."
        )
    if (quantised := source.quantised) is not None:
        yield warning(
            f"{source.name} stores {len(quantised.by_name):,} of its tensors in {quantised.kind}; they are unpacked as "
            "they are read, and what was lost when they were packed is lost in the result, too."
        )
    if any(tensor.dtype == "F64" for tensor in source.tensors.values()):
        yield warning(f"{source.name} stores float64; merges are computed in float32.")
    lora, model = source.adapter, source.listing.name
    if lora is not None and lora.base_model not in (None, model):
        yield warning(f"{lora.name} was trained on {lora.base_model}, not on {model}.")
    if lora is not None and lora.left_out:
        yield warning(
            f"{lora.name} also changes {', '.join(lora.left_out)}, which {source.name} is not: that is left out; to "
            "have it, name the whole pipeline with it under `components`."
        )
    shards = [name for name in source.files if name.endswith(".safetensors") and "/" not in name and name != WEIGHTS]
    if WEIGHTS in source.files and INDEX in source.files and shards:
        yield warning(f"{source.name} holds {WEIGHTS} and {INDEX}; the first is read, as transformers does.")
    if copies := sorted(name for name in source.files if CONSOLIDATED.fullmatch(name)):
        yield warning(
            f"{source.name} holds the same weights once more for other programs: {some(copies, 1)} is not read."
        )
    revision = source.listing.ref.revision
    if source.ref.revision is None and revision is not None and PULL_REQUEST.fullmatch(revision):
        yield warning(
            f"{source.name} has only PyTorch files; the Hub's own safetensors copy of them, {revision}, is read."
        )
    wrapper = next((one for one in _WRAPPERS if all(name.startswith(one) for name in source.tensors)), None)
    if wrapper is not None:
        yield error(
            f"The names of all tensors of {source.name} begin with {wrapper!r}, as they are called in training; save "
            "the model that is wrapped there."
        )
    yield from _check_whole(source)
    for part in source.parts:
        if part.remark is not None:
            yield warning(part.remark)
    if source.config.get("auto_map"):
        yield warning(f"{source.name} comes with code of its own (auto_map); hubmerge neither runs nor copies it.")


def _check_whole(source: Source) -> Iterator[Finding]:
    """Whether layers lack what most have: whoever loads the result would put random numbers there."""
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in source.weights:
        one = parse(name)
        if one.layer is not None:
            stacks.setdefault(one.prefix, {}).setdefault(one.layer, set()).add(one.suffix)
    told = setting(source.config, "num_hidden_layers")
    if len(stacks) == 1 and type(told) is int and (held := depth(source.weights)) < told:
        yield warning(f"{source.name} stores {held} layers and tells of {told}: it is not whole.")
    for prefix, layers in stacks.items():
        holders = Counter(suffix for held in layers.values() for suffix in held)
        usual = {suffix for suffix, count in holders.items() if 2 * count > len(layers)}
        for number, suffixes in layers.items():
            # A layer of another kind has something in place of what it has not.
            if suffixes < usual and (lost := sorted(usual - suffixes)):
                yield warning(
                    f"{source.name} lacks {some([f'{prefix}{number}.{one}' for one in lost], 1)}: most layers have it."
                )


def check_layers(first: View, others: Sequence[View]) -> Iterator[Finding]:
    """Compares the numbers of layers, for recipes that merge whole models."""
    for other in others:
        ours, theirs = first.stacks, other.stacks
        unlike = [prefix for prefix in ours if theirs.get(prefix, ours[prefix]) != ours[prefix]]
        if unlike:
            prefix = unlike[0]
            advice = "can only be stacked, with `slices`" if len(ours) == 1 else "cannot be merged; choose one depth"
            yield error(
                f"{other.name} has {theirs[prefix]} layers and {first.name} has {ours[prefix]} ({prefix}*): "
                f"models with different depths {advice}."
            )


def check_names(first: str, names: Collection[str], other: str, other_names: Collection[str]) -> Iterator[Finding]:
    """Compares the tensor names of the model called `other` with those of the one called `first`."""
    missing = [name for name in names if name not in other_names]
    extra = [name for name in other_names if name not in names]
    if missing:
        yield error(f"{other} lacks tensors of {first}: {some(missing)}; choose models of one family.")
    if extra:
        yield error(f"{other} has tensors that are not in {first}: {some(extra)}; choose models of one family.")


def check_tensors(tensors: Sequence[TensorPlan], weights: Sequence[Weights], advice: str) -> Iterator[Finding]:
    """Compares shapes and kinds of dtype of all that goes into each output tensor, one error a pair of models.

    `advice`: what to do where vocabularies differ in size.
    """
    rows: dict[tuple[int, int], list[str]] = {}
    shapes: dict[tuple[int, int], list[str]] = {}
    kinds: dict[tuple[int, int], list[str]] = {}
    for tensor in tensors:
        (reference, ours), *others = ((index, weights[index].tensors[name]) for index, name in tensor.reads)
        for index, theirs in others:
            if theirs.shape != ours.shape:
                is_longer = is_vocabulary(tensor.name) and theirs.shape[1:] == ours.shape[1:]
                found = (rows if is_longer else shapes).setdefault((reference, index), [])
                found.append(f"{tensor.name} is {list(theirs.shape)}, not {list(ours.shape)}")
            elif DTYPES[theirs.dtype].is_float != DTYPES[ours.dtype].is_float:
                kinds.setdefault((reference, index), []).append(tensor.name)
    for (reference, index), found in rows.items():
        yield error(
            f"The vocabularies of {weights[index].name} and {weights[reference].name} differ in size "
            f"({found[0]}); {advice}."
        )
    for (reference, index), found in shapes.items():
        differ = "one tensor differs" if len(found) == 1 else f"{len(found):,} tensors differ"
        yield error(
            f"{weights[index].name} does not fit {weights[reference].name}: {differ} in shape ({found[0]}); choose "
            "models of one size."
        )
    for (reference, index), found in kinds.items():
        yield error(
            f"{weights[index].name} and {weights[reference].name} store {some(found)} as different kinds of number "
            "(integer and float), which cannot be merged."
        )


def check_ends(tensors: Sequence[TensorPlan], weights: Sequence[Weights], advice: str) -> Iterator[Finding]:
    """Compares the vocabularies of models whose layers are stacked: embedding and head may come from different ones.

    `advice`: what to do where they differ in size.
    """
    ends = [tensor for tensor in tensors if is_vocabulary(tensor.name) and not tensor.carried]
    givers = sorted({index for tensor in ends for index, _ in tensor.reads})
    for tensor in ends:
        # The same tensor in each: two of one model may differ in rows, where one of them is no vocabulary.
        rows = {weights[i].tensors[tensor.key].shape[0]: i for i in givers if tensor.key in weights[i].tensors}
        if len(rows) > 1:
            found = " and ".join(f"{count:,} in {weights[index].name}" for count, index in rows.items())
            yield error(f"The slices differ in vocabulary: rows of {tensor.name} are {found}; {advice}.")
            return
