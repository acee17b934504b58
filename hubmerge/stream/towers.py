"""Whether what sees or hears in a model has the shapes that its own configuration says: else nobody can load it."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache

from ..errors import SourceError
from .architecture import read_architecture, transformers_errors
from .findings import Finding, error
from .weights import Weights

Shape = tuple[int, ...]


def check_towers(whole: Weights) -> Iterator[Finding]:
    """Compares the tensors of each part that has a configuration of its own, but no words, with what that says."""
    for part in whole.components.values():
        if part.folder or part.key in (None, "text_config") or not part.config.get("model_type"):
            continue
        expected = _shapes(json.dumps(dict(part.config), sort_keys=True, default=str))
        for name, stored in part.names.items():
            shape, says = tuple(whole.tensors[stored].shape), _named(expected, name)
            if says is not None and says != shape:
                yield error(
                    f"{stored} of {bare(whole)} is {list(shape)}, and by its own config.json {list(says)}, so the "
                    "model cannot be loaded; fetch it again, or name another."
                )
                break


def bare(weights: Weights) -> str:
    """A model's name without that of a part."""
    return weights.name.partition("#")[0]


def _named(expected: Mapping[str, Shape], name: str) -> Shape | None:
    """The shape of a tensor, with or without the first word of its name; None where it is not known."""
    return expected.get(name) or expected.get(name.partition(".")[2])


@lru_cache(maxsize=16)
def _shapes(config: str) -> Mapping[str, Shape]:
    """Every parameter's shape, by transformers' names; empty for what it cannot build. Takes no memory for them."""
    import torch
    from transformers import AutoModel

    try:
        with transformers_errors("transformers cannot build it"), torch.device("meta"):
            model = AutoModel.from_config(read_architecture(json.loads(config)))
    except SourceError:  # whoever uses the model will be told
        return {}
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
