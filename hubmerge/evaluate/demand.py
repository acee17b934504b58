"""What answering takes beside the model: keys, values and activations, told from a checkpoint's config.json alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import SourceError
from ..stream.architecture import read_text_architecture

PROMPT_TOKENS = 256
"""Tokens of the longest prompt, where nobody counted them."""

_MASK = 13
"""Bytes that attention masks take for each pair of tokens: a number, a truth value and a float32."""


@dataclass(frozen=True)
class Demand:
    """Prompts that are answered at the same time, tokens of the longest of them, and new tokens of an answer."""

    prompts: int
    prompt_tokens: int
    new_tokens: int

    def nbytes(self, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> int:
        """Bytes that `greedy.Decoder` takes at most on `device` with a model that has this config.json.

        dtype: what it computes in. Raises `SourceError` for an architecture that transformers does not know.
        """
        from .greedy import run_tokens

        text = read_text_architecture(config)
        heads, hidden, vocabulary = (_most(text, key) for key in ("num_attention_heads", "hidden_size", "vocab_size"))
        stored_heads = _most(text, "num_key_value_heads", heads)
        size = _most(text, "head_dim", hidden // heads)
        inner = _most(text, "intermediate_size", 4 * hidden)
        limit = _most(text, "max_position_embeddings", self.prompt_tokens + self.new_tokens)
        longest = max(1, min(self.prompt_tokens, limit - self.new_tokens))
        # Prompts that wait take the places of others: as many steps again before the memory is put in order.
        columns = longest + 2 * self.new_tokens - 1
        held = self.prompts * columns
        kept = held * _most(text, "num_hidden_layers") * 2 * stored_heads * size * dtype.itemsize
        # A layer at a time: keys and values for every head, and the masks.
        layer = held * (2 * heads * size * dtype.itemsize + _MASK)
        # Prompts are read in runs: the residual stream and its norms (in float32), the projections and the MLP.
        read = max(run_tokens(device), longest)
        wide = 4 * hidden + 2 * (heads + 2 * stored_heads) * size + 3 * inner
        run = read * (wide * dtype.itemsize + 3 * hidden * 4 + longest * _MASK)
        logits = self.prompts * vocabulary * (dtype.itemsize + 4)
        # Twice: what is given back in small pieces stays with the process, and the next may not fit into its gaps.
        return kept + 2 * (layer + run + logits)


def _most(text: Any, key: str, otherwise: int | None = None) -> int:
    """A setting of transformers' configuration, the largest where it has one a layer; `otherwise` where it has none."""
    found = getattr(text, key, None) or otherwise
    values = found if isinstance(found, (list, tuple)) and found else [found]
    if not all(type(value) is int and value > 0 for value in values):
        raise SourceError(
            f"config.json should say how large {key} is, and says {str(found)[:60]!r}; save the model again."
        )
    return max(values)
