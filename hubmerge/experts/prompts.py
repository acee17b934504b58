"""What a model sees in prompts: at each layer the mean over a prompt's tokens of what a router there would be given.

One prompt is run at a time, and of it one vector a layer is kept.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import SourceError
from ..evaluate.models import best_device, load_model, load_tokenizer
from ..hub.source import Source
from ..layers import parse
from ..methods import find_method
from ..progress import Event, Progress
from ..stream.component import ComponentPlan
from ..stream.device import free_memory
from ..stream.reader import Reader
from ..stream.stage import Stage
from ..stream.tensors import TensorPlan
from ..stream.views import embedding_of
from ..stream.weights import Weights

LONGEST = 4096
"""Tokens of a prompt that are read."""

_BEFORE_MLP = re.compile(r"post_attention_layernorm$")


def hidden(
    source: Source, prompts: Sequence[str], *, token: str | None, device: str, memory: int | None, progress: Progress
) -> Tensor:
    """(prompts, layers, width), float64: what the model's own MLPs are given, by hooks on the norms before them.

    Computed in float32 on `device`, as torch names it or "auto", however little memory there is, so that the same
    prompts give the same bytes; to be called with torch on `one_thread`.
    """
    place = best_device() if device == "auto" else device
    room = free_memory() if memory is None else memory
    model, tokenizer = load_model(source, token=token, dtype="float32", device=place, memory=room, progress=progress)
    norms = [(name, module) for name, module in model.named_modules() if _BEFORE_MLP.search(name)]
    if not norms or [parse(f"{name}.weight").layer for name, _ in norms] != list(range(len(norms))):
        raise SourceError(
            f"{source.name} has no norm before each MLP that its gates could be made of; use cheap_embed."
        )
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        seen.append(output[0].double().mean(0).cpu())

    handles = [module.register_forward_hook(keep) for _, module in norms]
    found = []
    try:
        for number, prompt in enumerate(prompts):
            progress(Event("gates", number, len(prompts), "prompts"))
            ids = torch.tensor([_ids(tokenizer, prompt, source.name)])
            seen.clear()
            with torch.inference_mode():
                model.base_model(input_ids=ids.to(model.device), use_cache=False)
            found.append(torch.stack(seen))
    finally:
        for handle in handles:
            handle.remove()
    progress(Event("gates", len(prompts), len(prompts), "prompts"))
    return torch.stack(found)


def embedded(source: Source, weights: Weights, prompts: Sequence[str], layers: int) -> Tensor:
    """The same of the tokens' embeddings alone, which are read row by row; every layer is given the same."""
    tokenizer = load_tokenizer(weights.tokenizer)
    embedding = embedding_of(weights.tensors.values())
    if embedding is None:
        raise SourceError(f"{source.name} has no token embedding that gates could be made of.")
    width = embedding.shape[1]
    plan = TensorPlan(embedding.name, embedding.shape, embedding.dtype, ((0, embedding.name),), carried=True)
    stage = Stage("", find_method("passthrough"), (weights,), (ComponentPlan("", {}, (plan,)),), weights.tokenizer)
    reader, found = Reader(stage, stage.tensors), []
    try:
        with reader.reading(plan) as read:
            for prompt in prompts:
                rows = [
                    read(0, embedding.name, row * width, (row + 1) * width).double()
                    for row in _ids(tokenizer, prompt, source.name)
                ]
                found.append(torch.stack(rows).mean(0).expand(layers, width))
    finally:
        reader.close()
    return torch.stack(found)


def _ids(tokenizer: Any, prompt: str, name: str) -> list[int]:
    ids: list[int] = tokenizer(prompt)["input_ids"][:LONGEST]
    if not ids:
        raise SourceError(f"The tokenizer of {name} makes no token of the prompt {prompt[:60]!r}; write another.")
    return ids
