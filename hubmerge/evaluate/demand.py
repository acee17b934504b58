"""What answering takes beside the model: keys, values and activations, told from a checkpoint's config.json alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..amounts import size
from ..errors import ResourceError, SourceError
from ..stream.architecture import read_text_architecture
from .placement import execution_device

PROMPT_TOKENS = 256
"""Tokens of the longest prompt, where nobody counted them."""

NEW_TOKENS = 256
"""Tokens of an answer, where another program decides."""

_MASK = 13
"""Bytes that attention masks take for each pair of tokens: a number, a truth value and a float32."""


@dataclass(frozen=True)
class Demand:
    """Prompts that are answered at the same time, tokens of the longest of them, and new tokens of an answer.

    run: tokens of prompts that are read at a time; None: as many as are read the fastest.
    """

    prompts: int
    prompt_tokens: int
    new_tokens: int
    run: int | None = None

    def nbytes(self, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> int:
        """Bytes that `greedy.Decoder` takes at most on `device` with a model that has this config.json.

        dtype: what it computes in. Raises `SourceError` for an architecture that transformers does not know.
        """
        return self.nbytes_of(read_text_architecture(config), dtype, device)

    def within(self, memory: int | None, model: Any) -> "Demand":
        """The same within `memory` bytes of the device that `model` computes on: fewer prompts, in shorter runs.

        Raises `ResourceError` where not even one prompt can be answered.
        """
        if memory is None or (device := execution_device(model)).type != "cpu":
            return self
        return self.fitting(memory, model.config.get_text_config(), model.dtype, device)

    def fitting(self, memory: int, text: Any, dtype: torch.dtype, device: torch.device) -> "Demand":
        """As `within`, of transformers' configuration of a language model that computes in `dtype`."""
        from .greedy import run_tokens

        runs = [run_tokens(device)]
        while runs[-1] > max(self.prompt_tokens, 1):
            runs.append(runs[-1] // 2)
        prompts = self.prompts
        while True:
            for run in runs:
                found = replace(self, prompts=prompts, run=run)
                if (nbytes := found.nbytes_of(text, dtype, device)) <= memory:
                    return found
            if prompts == 1:
                break
            prompts = max(1, prompts // 2)
        raise ResourceError(
            f"Answering one prompt of {self.prompt_tokens} tokens takes {size(nbytes)} of memory beside the model, and "
            f"the limit leaves {size(max(0, memory))}; allow {size(nbytes - memory)} more."
        )

    def nbytes_of(self, text: Any, dtype: torch.dtype, device: torch.device) -> int:
        """As `nbytes`, of transformers' configuration of a language model."""
        from .greedy import run_tokens

        vocabulary = _most(text, "vocab_size")
        heads, stored_heads, each = _heads(text)
        limit = _most(text, "max_position_embeddings", self.prompt_tokens + self.new_tokens)
        longest = max(1, min(self.prompt_tokens, limit - self.new_tokens))
        # Prompts that wait take the places of others: as many steps again before the memory is put in order.
        columns = longest + 2 * self.new_tokens - 1
        held = self.prompts * columns
        kept = held * _most(text, "num_hidden_layers") * 2 * stored_heads * each * dtype.itemsize
        # A layer at a time: keys and values for every head, and the masks.
        layer = held * (2 * heads * each * dtype.itemsize + _MASK)
        # Prompts are read in runs.
        read = max(self.run or run_tokens(device), longest)
        run = reading_bytes(text, read, longest, dtype)
        logits = self.prompts * vocabulary * (dtype.itemsize + 4)
        # Twice: what is given back in small pieces stays with the process, and the next may not fit into its gaps.
        return kept + 2 * (layer + run + logits)


def reading_bytes(text: Any, tokens: int, width: int, dtype: torch.dtype) -> int:
    """Bytes that a layer takes to read tokens at the same time, in rows of `width`: the residual stream and its norms
    (in float32), the projections and the MLP."""
    heads, stored_heads, each = _heads(text)
    hidden = _most(text, "hidden_size")
    wide = 4 * hidden + 2 * (heads + 2 * stored_heads) * each + 3 * _most(text, "intermediate_size", 4 * hidden)
    return tokens * (wide * dtype.itemsize + 3 * hidden * 4 + width * _MASK)


def _heads(text: Any) -> tuple[int, int, int]:
    """Heads of attention, those with keys and values of their own, and the size of each; one where there are none."""
    heads = _most(text, "num_attention_heads") if hasattr(text, "num_attention_heads") else 1
    each = _most(text, "head_dim", _most(text, "hidden_size") // heads)
    return heads, _most(text, "num_key_value_heads", heads), each


def _most(text: Any, key: str, otherwise: int | None = None) -> int:
    """A setting of transformers' configuration, the largest where it has one a layer; `otherwise` where it has none."""
    found = getattr(text, key, None) or otherwise
    values = found if isinstance(found, (list, tuple)) and found else [found]
    if not all(type(value) is int and value > 0 for value in values):
        raise SourceError(
            f"config.json should say how large {key} is, and says {str(found)[:60]!r}; save the model again."
        )
    return max(values)
