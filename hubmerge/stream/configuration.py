"""config.json of the result: that of the base or the first model, with what the merge changes."""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .. import layers
from ..hub.config import setting, text_config
from .dtypes import DTYPES, config_name
from .findings import Finding, error, some
from .numbering import Numbering
from .tensors import TensorPlan
from .tokenizer import SPECIAL_IDS
from .views import View
from .weights import Weights

# The same number by the names of several families.
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers")
# Families whose older files do not list the kind of each layer: attention is full in every so-manieth layer, or in so
# many first ones, unless they say otherwise.
_FULL_EVERY = {"cohere2": 4, "gemma2": 2, "gemma3_text": 6}
_FULL_FIRST = {"qwen2": 28, "qwen3": 28}
# Lists of the layers that are of a kind, by number.
_LAYERS_OF_A_KIND = (
    "mlp_only_layers",
    "moe_layers",
    "full_attn_idxs",
    "full_attention_idxs",
    "attn_layer_indices",
    "cross_attention_layers",
    "hybrid_layer_ids",
)
# The number of the last layer that is of a kind.
_LAST_OF_A_KIND = ("moe_layer_end_index",)
# Weights of one layer that all others use, too.
_SHARED = "shared_transformer."
# Families whose first layer lacks a norm, whatever their lists say of it.
_FIRST_UNLIKE = ("modernbert", "modernbert-decoder")
# Tensors outside the stack whose shape depends on the number of layers.
_BY_DEPTH = re.compile(r"contact_head\.regression|(?:^|\.)layer_weights$|per_layer|mid_position_embeddings")
# Lists that may be as long as the stack by chance.
_NOT_BY_LAYER = re.compile(
    r"architectures|token|_ids?$|languages|image|patch|^conv_|depths|stage|^out_|keys|labels|section|factor|scale|"
    r"hidden_sizes|^downsample|kernel|stride|^tdnn"
)
# What names a token by its number.
_TOKEN = re.compile(r"_token_(id|index)$")
_DROPPED = ("_name_or_path", "auto_map")

DTYPE_KEYS = ("dtype", "torch_dtype")
"""Where a configuration says the dtype: transformers 5 writes the first, and reads the second from older files."""
TIED = "tie_word_embeddings"


def output_config(
    first: Weights,
    weights: Sequence[Weights],
    tokenizer: Weights,
    tensors: Iterable[TensorPlan],
    layer_map: Sequence[tuple[int, int]],
    tied: bool | None,
) -> dict[str, Any]:
    """The result's configuration, from that of `first`.

    It tells the result's dtype where all its weights share one, the special tokens of `tokenizer`, whether the head
    is `tied` (None: as `first` says), and for slices the number of layers and what is listed layer by layer.
    """
    changes = dtype_changes(first.config, tensors)
    if tied is not None:
        changes[TIED] = tied
    if tokenizer is not first:
        ids = {key: setting(tokenizer.config, key) for key in SPECIAL_IDS}
        changes |= {key: value for key, value in ids.items() if value is not None}
    if layer_map:
        changes |= _restacked(first, weights, layer_map)
    return changed(kept(first.config), changes)


def kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a model's configuration without what is not true of a merge."""
    return {key: value for key, value in copy.deepcopy(dict(config)).items() if key not in _DROPPED}


def dtype_changes(config: Mapping[str, Any], tensors: Iterable[TensorPlan]) -> dict[str, Any]:
    """What a configuration says of the dtype of these, where they share one; those of diffusers say none."""
    dtypes = {tensor.dtype for tensor in tensors if DTYPES[tensor.dtype].is_float}
    said = DTYPE_KEYS if "model_type" in config else [key for key in DTYPE_KEYS if key in config]
    return dict.fromkeys(said, config_name(dtypes.pop())) if len(dtypes) == 1 else {}


def changed(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with `changes` of the language model's settings, wherever it keeps each."""
    text = text_config(config)
    parts = [config] if text is config else [config, dict(text)]
    if len(parts) > 1:
        config["text_config"] = parts[1]
    for part in parts:
        part |= {key: value for key, value in changes.items() if key in part}
    missing = {key: value for key, value in changes.items() if not any(key in part for part in parts)}
    if "dtype" in missing and "torch_dtype" in config:
        del missing["dtype"]
    missing.pop("torch_dtype", None)
    for key, value in missing.items():
        # What holds for the whole stands there; the rest is the language model's own.
        (config if key in (TIED, *DTYPE_KEYS, *SPECIAL_IDS) else parts[-1])[key] = value
    return config


def renumbered(
    config: Mapping[str, Any], name: str, theirs: Numbering | None, ours: Numbering | None, rows: int | None = None
) -> tuple[dict[str, Any], list[Finding]]:
    """A configuration of the model `name`, whose tokens have the numbers `theirs`, with those that they have in `ours`.

    `rows`: how many the embedding has now; None: as many as before.
    """
    config, found = dict(config), []
    text = text_config(config)
    parts = [config] if text is config else [config, dict(text)]
    if len(parts) > 1:
        config["text_config"] = parts[1]
    for part in parts:
        if rows is not None and "vocab_size" in part:
            part["vocab_size"] = rows
        if theirs is None or ours is None or ours.same(theirs):
            continue
        for key, value in part.items():
            if _TOKEN.search(key) and key not in SPECIAL_IDS and type(value) is int and value in theirs.texts:
                if (number := ours.ids.get(theirs.texts[value])) is None:
                    message = f"{key} of {name} is the token {theirs.texts[value]!r}, which the result has not"
                    found.append(error(f"{message}; choose a `tokenizer_source` that has it."))
                else:
                    part[key] = number
    return config, found


def _restacked(first: Weights, weights: Sequence[Weights], layer_map: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The settings that depend on the stack of layers: their number, and what is listed layer by layer."""
    counts = [key for key in _LAYER_COUNTS if setting(first.config, key) is not None]
    # A configuration may leave out what its class has by default.
    changes: dict[str, Any] = dict.fromkeys(counts or _LAYER_COUNTS[:1], len(layer_map))
    ours = _listed(first)
    theirs = [ours | _listed(one) for one in weights]
    for key in ours:
        changes[key] = [_at(theirs[index][key], layer) for index, layer in layer_map]
    for key in _LAYERS_OF_A_KIND:
        if isinstance(setting(first.config, key), list):
            given = [setting(one.config, key) for one in weights]
            chosen = [layers if isinstance(layers, list) else [] for layers in given]
            changes[key] = [at for at, (index, layer) in enumerate(layer_map) if layer in chosen[index]]
    for key in _LAST_OF_A_KIND:
        if (count := _told_count(first)) is not None and setting(first.config, key) == count - 1:
            changes[key] = len(layer_map) - 1
    if isinstance(setting(first.config, "attention_types"), list) and "attention_layers" in changes:
        changes["attention_types"] = [[[kind], 1] for kind in changes["attention_layers"]]  # GPT-Neo counts by it
    return changes


def _told_count(weights: Weights) -> int | None:
    """How many layers a model's configuration says that it has."""
    return next((n for key in _LAYER_COUNTS if type(n := setting(weights.config, key)) is int), None)


def _listed(weights: Weights) -> dict[str, list[Any]]:
    """The lists with an entry a layer that a configuration gives, or implies where its layers differ in attention."""
    config, told = weights.config, _told_count(weights)
    # Where nothing says how many there are (Nemotron-H), a list of kinds does; one of widths is of something else.
    count = layers.depth(weights.tensors) if told is None else told
    text = text_config(config)
    found = {
        key: v
        for key, v in text.items()
        if isinstance(v, list)
        and v
        and len(v) == count
        and (told is not None or all(isinstance(one, str) for one in v))
        and not _NOT_BY_LAYER.search(key)
        and key not in _LAYERS_OF_A_KIND
    }
    kind = str(text.get("model_type"))
    if "layer_types" in found:
        return found
    if kind in _FULL_EVERY:
        every = setting(config, "sliding_window_pattern")
        # Other families write it as text, such as LLLG.
        every = every if type(every) is int and every > 0 else _FULL_EVERY[kind]
        full = [(layer + 1) % every == 0 for layer in range(count)]
    elif kind in _FULL_FIRST and setting(config, "use_sliding_window"):
        until = setting(config, "max_window_layers")
        full = [layer < (_FULL_FIRST[kind] if until is None else until) for layer in range(count)]
    else:
        return found
    return found | {"layer_types": ["full_attention" if one else "sliding_attention" for one in full]}


def check_restacked(
    first: Weights, layer_map: Sequence[tuple[int, int]], views: Mapping[int, View]
) -> Iterator[Finding]:
    """Whether each layer of a stack has the tensors that the architecture gives a layer at that place.

    Where a rule says which layers are of which kind ("every second one has experts", "the first has no norm"), a stack
    may put a layer where the rule expects another. What the configuration lists layer by layer moves with the layers.
    """
    own = next((view for view in views.values() if view.weights is first), None)
    if not layer_map or own is None:
        return
    count = max(own.stacks.values())
    deep = [name for name in own.tensors if _BY_DEPTH.search(name)]
    if deep and len(layer_map) != count:
        yield error(
            f"{deep[0]} of {first.name} has a part for each of {count} layers; the result would have another depth."
        )
        return
    kinds = {index: _kinds(view) for index, view in views.items()}
    shared = [
        at
        for at, (index, layer) in enumerate(layer_map)
        if any(name.startswith(_SHARED) for name, _ in kinds[index].get(layer, ()))
    ]
    if len(shared) > 1:
        yield error(
            f"Layers {some(map(str, shared))} of the result would each bring weights that all layers of a "
            f"{first.config.get('model_type')} model share; choose layer ranges with one of them."
        )
        return
    unlike = first.config.get("model_type") in _FIRST_UNLIKE
    told = {index: _told(first, view.weights) for index, view in views.items()}
    (index_of_own,) = (index for index, view in views.items() if view is own)
    expected, ours = kinds[index_of_own], list(map(told[index_of_own], range(count)))
    behind = _continued([expected.get(layer) for layer in range(count)])
    for at, (index, layer) in enumerate(layer_map):
        place = at if at < count else behind(at)
        # Of the layers that are told to be of this kind, the one whose place is nearest tells what a rule adds.
        alike = [one for one in range(count) if unlike or ours[one] == told[index](layer)]
        nearest = min(alike, key=lambda one: (abs(one - place), -one), default=None)
        has = kinds[index].get(layer, frozenset())
        if nearest is not None and (odd := has ^ expected.get(nearest, frozenset())):
            yield error(
                f"Layer {layer} of {views[index].name} would be layer {at} of the result, where a "
                f"{first.config.get('model_type')} model has a layer with other tensors "
                f"({some(sorted({name for name, _ in odd}), 1)}); choose layer ranges that keep such layers in their "
                "place."
            )
            return


def _told(first: Weights, weights: Weights) -> Callable[[int], tuple[Any, ...]]:
    """What configurations list of a layer, which moves with it: `first` says which lists there are."""
    ours = _listed(first)
    theirs = ours | _listed(weights)
    chosen = [setting(weights.config, key) for key in _LAYERS_OF_A_KIND if isinstance(setting(first.config, key), list)]
    chosen = [numbers if isinstance(numbers, list) else [] for numbers in chosen]
    return lambda layer: (*(_at(theirs[key], layer) for key in ours), *(layer in numbers for numbers in chosen))


def _continued(kinds: Sequence[object]) -> Callable[[int], int]:
    """Which layer of a stack one behind it is like: by the order that comes again, or else the last.

    >>> [_continued(["mamba", "attention"] * 2)(at) for at in (4, 5, 6)], _continued(["dense", "experts", "experts"])(3)
    ([2, 3, 2], 2)
    """
    count = len(kinds)
    period = next((p for p in range(1, count // 2 + 1) if kinds[p:] == kinds[: count - p]), 1)
    return lambda at: count - period + (at - count) % period


def _kinds(view: View) -> dict[int, frozenset[tuple[str, tuple[int, ...]]]]:
    """By layer: its tensors' names in it, with their shapes."""
    found: dict[int, set[tuple[str, tuple[int, ...]]]] = {}
    for name, tensor in view.tensors.items():
        parsed = layers.parse(name)
        if parsed.layer is not None:
            found.setdefault(parsed.layer, set()).add((parsed.suffix, tuple(tensor.shape)))
    return {layer: frozenset(names) for layer, names in found.items()}


def _at(listed: Sequence[Any], layer: int) -> Any:
    return listed[min(layer, len(listed) - 1)]
