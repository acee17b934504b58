"""What the merge sees of a source: its weights under the names the output uses, tied heads made visible."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import layers
from ..hub.headers import TensorHeader
from ..hub.source import Source
from .problems import Problem, error, some, warning

# Computed from the configuration when a model is built; old checkpoints still store them.
_BUFFERS = re.compile(r"(?:rotary_emb\.inv_freq|attn\.masked_bias|attention\.masked_bias)$")

# Embeddings whose rows are something else than tokens.
_NOT_TOKENS = re.compile(r"position|wpe|type|per_layer|patch|vision|visual|image")


@dataclass(frozen=True)
class View:
    """The weights of one source. `tensors`: output name to stored tensor, whose own name may differ (a tied head)."""

    source: Source
    tensors: Mapping[str, TensorHeader]

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.source.name

    @property
    def stacks(self) -> dict[str, int]:
        """Number of layers of each stack of layers, by the prefix of its tensor names."""
        counts: dict[str, int] = {}
        for tensor in map(layers.parse, self.tensors):
            if tensor.layer is not None:
                counts[tensor.prefix] = max(counts.get(tensor.prefix, 0), tensor.layer + 1)
        return counts


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model: itself, or a multi-modal model's inner one."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def setting(config: Mapping[str, Any], key: str) -> Any:
    """A language model's setting, wherever the configuration keeps it; None where it is not given."""
    value = text_config(config).get(key)
    return config.get(key) if value is None else value


@dataclass(frozen=True)
class Views:
    """The views of all merged models by the index of their source.

    `tied`: whether the result ties its head to its embedding (None: no model has a head); `problems`: what was found.
    """

    views: Mapping[int, View]
    tied: bool | None
    problems: tuple[Problem, ...]


def view_all(sources: Mapping[int, Source]) -> Views:
    """The views of the `sources` that are merged.

    A tied head (`lm_head`) is absent on disk. Where every model ties, so does the result. Where only some do, the
    head is a tensor of its own: a model that ties gives its embedding for it.
    """
    problems: list[Problem] = []
    stored: dict[int, dict[str, TensorHeader]] = {}
    for index, source in sources.items():
        stored[index] = {name: tensor for name, tensor in source.tensors.items() if not _BUFFERS.search(name)}
        if left := [name for name in source.tensors if name not in stored[index]]:
            problems.append(warning(f"{source.name} stores {some(left, 1)}: not weights, so they are left out."))
    heads = sorted({name for tensors in stored.values() for name in tensors if _is_head(name)})
    ties = {index: _is_tied(sources[index].config, stored[index], heads) for index in sources}
    tied = all(ties.values())
    for index in (index for index, is_tied in ties.items() if is_tied):
        name, tensors = sources[index].name, stored[index]
        if own := [head for head in heads if tensors.pop(head, None)]:
            problems.append(warning(f"{name} ties its head to its embedding, so its own {own[0]} is not read."))
        if heads and not tied:
            if (embedding := _embedding(tensors.values())) is None:
                problems.append(error(f"{name} ties its head to an embedding that cannot be found among its tensors."))
            else:
                tensors |= dict.fromkeys(heads, embedding)
                problems.append(
                    warning(f"{name} ties its head to its embedding, but not all models do: the result does not.")
                )
    views = {index: View(source, stored[index]) for index, source in sources.items()}
    return Views(views, tied if tied or heads else None, tuple(problems))


def _is_head(name: str) -> bool:
    parsed = layers.parse(name)
    return parsed.layer is None and parsed.group == "head" and name.endswith(".weight")


def _is_tied(config: Mapping[str, Any], tensors: Mapping[str, TensorHeader], heads: Sequence[str]) -> bool:
    # A configuration leaves out what its class has by default, so that silence means "tied" only without a head.
    tie = setting(config, "tie_word_embeddings")
    return bool(tie) if tie is not None else bool(heads) and not any(name in tensors for name in heads)


def _embedding(tensors: Iterable[TensorHeader]) -> TensorHeader | None:
    found = [tensor for tensor in tensors if is_vocabulary(tensor.name) and not _is_head(tensor.name)]
    return max(found, key=lambda tensor: tensor.shape[0], default=None)


def is_vocabulary(name: str) -> bool:
    """Whether a tensor has one row a token: the token embedding or the head."""
    parsed = layers.parse(name)
    token = parsed.group == "embedding" and not re.search(
        r"position|wpe|type|per_layer|patch|vision|visual|image", name
    )
    return parsed.layer is None and name.endswith(".weight") and (token or parsed.group == "head")
