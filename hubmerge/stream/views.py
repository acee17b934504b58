"""What the merge sees of a model: its weights under the names the output uses, tied heads made visible."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import layers
from ..hub.config import setting
from ..hub.headers import TensorHeader
from .alignment import align
from .experts import with_experts_of_first
from .findings import Finding, error, some, warning
from .weights import Described, Weights

# Computed from the configuration when a model is built; old checkpoints still store them.
_BUFFERS = re.compile(r"(?:rotary_emb\.inv_freq|attn\.masked_bias|attention\.masked_bias)$")

# Constants of the architecture that some checkpoints store and some do not: positions 0, 1, 2, ..., causal masks.
_CONSTANTS = re.compile(
    r"(?:^|\.)(?:(?:position|token_type)_ids|(?:attn|attention)\.bias|rope\.freqs|mask)$|\.relative_position_index$"
)


@dataclass(frozen=True)
class View:
    """What a merge sees of some weights. `tensors`: output name to tensor, whose own name may differ (a tied head)."""

    weights: Weights
    tensors: Mapping[str, Described]

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.weights.name

    @property
    def stacks(self) -> dict[str, int]:
        """Number of layers of each stack of layers, by the prefix of its tensor names."""
        counts: dict[str, int] = {}
        for tensor in map(layers.parse, self.tensors):
            if tensor.layer is not None:
                counts[tensor.prefix] = max(counts.get(tensor.prefix, 0), tensor.layer + 1)
        return counts


@dataclass(frozen=True)
class Views:
    """The views of all merged models by the index of their weights.

    `tied`: what the result's configuration says of its head (None: as its giver's does); `findings`: what was found.
    """

    views: Mapping[int, View]
    tied: bool | None
    findings: tuple[Finding, ...]


def view_all(weights: Mapping[int, Weights]) -> Views:
    """The views of the `weights` that are merged.

    Every stored weight is seen. A tied head is absent on disk: where another model stores one, the embedding of a
    model that ties stands for it. (A head that a model stores although its configuration ties it is the one that
    transformers computes with, so that it is a weight like all others.) Where only some models tie, the result does
    not. Constants of the architecture are left out unless all models store them.
    """
    findings: list[Finding]
    weights, findings = with_experts_of_first(weights)
    stored: dict[int, dict[str, Described]] = {}
    for index, one in weights.items():
        stored[index] = {name: tensor for name, tensor in one.tensors.items() if not _BUFFERS.search(name)}
        if left := [name for name in one.tensors if name not in stored[index]]:
            findings.append(warning(f"{one.name} stores {some(left, 1)}: not weights, so they are left out."))
    findings += align(weights, stored)
    findings += _drop_constants(weights, stored)
    _drop_second_names(weights, stored)
    embeddings = {index: embedding_of(tensors.values()) for index, tensors in stored.items()}
    heads = sorted(
        {name for index, tensors in stored.items() for name in tensors if _repeats(tensors[name], embeddings[index])}
    )
    ties = {index: _is_tied(weights[index].config, stored[index], heads) for index in weights}
    for index in (index for index, is_tied in ties.items() if is_tied):
        missing = [head for head in heads if head not in stored[index]]
        if missing and (embedding := embeddings[index]) is not None:
            stored[index] |= dict.fromkeys(missing, embedding)
            findings.append(
                warning(
                    f"{weights[index].name} ties its head to its embedding, but not all models do: the result has "
                    f"{some(missing)} of its own."
                )
            )
    views = {index: View(one, stored[index]) for index, one in weights.items()}
    mixed = len(set(ties.values())) > 1
    if mixed:
        findings += _check_scaling(weights.values())
    return Views(views, False if mixed else None, tuple(findings))


def _drop_constants(weights: Mapping[int, Weights], stored: Mapping[int, dict[str, Described]]) -> Iterator[Finding]:
    """Takes constants out of `stored` that not all models have; a value that a model computes anyway."""
    constants = {name for tensors in stored.values() for name in tensors if _CONSTANTS.search(name)}
    for name in sorted(constants):
        holders = [index for index, tensors in stored.items() if name in tensors]
        if len(holders) < len(stored):
            for index in holders:
                del stored[index][name]
            yield warning(f"{weights[holders[0]].name} stores {name}, which the architecture computes: it is left out.")


def _drop_second_names(weights: Mapping[int, Weights], stored: dict[int, dict[str, Described]]) -> None:
    """Takes second names of one weight out of `stored`, as transformers does where it saves safetensors.

    What torch.save wrote may have a weight under several names, in one place of the file: a head that is the embedding.
    A name that not all models have is not needed either, where they all have the first.
    """
    for index, tensors in stored.items():
        embedding = embedding_of(tensors.values())
        tie = setting(weights[index].config, "tie_word_embeddings")
        first: dict[object, str] = {}
        for name, tensor in sorted(tensors.items(), key=lambda item: embedding is None or item[1] is not embedding):
            if not isinstance(tensor, TensorHeader) or not tensor.nbytes or not weights[index].is_stored(tensor.name):
                continue
            one = first.setdefault((tensor.file, tensor.start, tensor.shape), name)
            tied = _repeats(tensor, embedding) and not (tie is False and layers.is_head(name))
            rare = not all(name in others for others in stored.values())
            if one != name and (tied or (rare and all(one in others for others in stored.values()))):
                del tensors[name]


def _check_scaling(weights: Iterable[Weights]) -> Iterator[Finding]:
    # T5 and its kin multiply by d_model^-.5 before a head that is tied, and do not before one that is not.
    scaled = next((one for one in weights if setting(one.config, "d_model") and _is_t5(one)), None)
    if scaled is not None:
        yield error(
            f"{scaled.name} and the other models do not agree on tie_word_embeddings, by which models of the kind "
            f"{scaled.config.get('model_type')} scale what enters the head; choose models that all tie or none."
        )


def _is_t5(weights: Weights) -> bool:
    return "t5" in str(weights.config.get("model_type"))


def _repeats(tensor: Described, embedding: Described | None) -> bool:
    """Whether a tensor can be tied to the token embedding: a head, or an encoder's or decoder's own embedding."""
    if embedding is None or tensor.name == embedding.name or tensor.shape != embedding.shape:
        return False
    parsed = layers.parse(tensor.name)
    return parsed.layer is None and (
        layers.is_head(tensor.name) or (layers.is_vocabulary(tensor.name) and parsed.opens)
    )


def _is_tied(config: Mapping[str, Any], tensors: Mapping[str, Described], heads: Sequence[str]) -> bool:
    # A configuration leaves out what its class has by default, so that silence means "tied" only without a head.
    tie = setting(config, "tie_word_embeddings")
    return bool(tie) if tie is not None else bool(heads) and not any(name in tensors for name in heads)


def embedding_of(tensors: Iterable[Described]) -> Described | None:
    """The token embedding: of several (an encoder's, a decoder's and the one that they share), the shared one."""
    found = [tensor for tensor in tensors if layers.is_vocabulary(tensor.name) and layers.parse(tensor.name).opens]
    return max(found, key=lambda tensor: (tensor.shape[0], -tensor.name.count(".")), default=None)
