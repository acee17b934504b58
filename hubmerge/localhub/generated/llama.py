"""The shapes of Llama models, for generated repositories: `hub.generate("lab/a", llama("70B", seed=1))`."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import HubError
from .model import SHARD_SIZE, GeneratedModel


@dataclass(frozen=True)
class LlamaShape:
    """The numbers that give every tensor of a Llama its shape."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool = False  # whether lm_head is the embedding and is not stored

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order in which transformers saves them."""
        head = self.hidden // self.heads
        block = {
            "self_attn.q_proj": (self.heads * head, self.hidden),
            "self_attn.k_proj": (self.kv_heads * head, self.hidden),
            "self_attn.v_proj": (self.kv_heads * head, self.hidden),
            "self_attn.o_proj": (self.hidden, self.heads * head),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
            "input_layernorm": (self.hidden,),
            "post_attention_layernorm": (self.hidden,),
        }
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab, self.hidden)}
        for layer in range(self.layers):
            shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
        shapes["model.norm.weight"] = (self.hidden,)
        return shapes if self.tied else {**shapes, "lm_head.weight": (self.vocab, self.hidden)}

    @property
    def parameters(self) -> int:
        """How many numbers all tensors hold."""
        return sum(map(math.prod, self.tensors.values()))

    @property
    def config(self) -> dict[str, Any]:
        """What its config.json says, but for the dtype."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.hidden // self.heads,
            "vocab_size": self.vocab,
            "tie_word_embeddings": self.tied,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "max_position_embeddings": 8192,
            "initializer_range": 0.02,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }


# The sizes of Llama 3, under the names of their repositories.
LLAMAS = {
    "1B": LlamaShape(2048, 8192, 16, 32, 8, 128256, tied=True),
    "3B": LlamaShape(3072, 8192, 28, 24, 8, 128256, tied=True),
    "8B": LlamaShape(4096, 14336, 32, 32, 8, 128256),
    "70B": LlamaShape(8192, 28672, 80, 64, 8, 128256),
    "405B": LlamaShape(16384, 53248, 126, 128, 8, 128256),
}
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def llama(
    shape: LlamaShape | str,
    seed: int,
    base_seed: int | None = None,
    dtype: str = "BF16",
    shard_size: int = SHARD_SIZE,
) -> GeneratedModel:
    """A Llama of this shape, or of this size of `LLAMAS`, to generate; everything else as in `GeneratedModel`.

    Raises:
        HubError: a size or dtype that is not known.
    """
    if isinstance(shape, str):
        if shape not in LLAMAS:
            raise HubError(f"There is no Llama of size {shape}: choose one of {', '.join(LLAMAS)}.")
        shape = LLAMAS[shape]
    tensors = {name: (dtype, lengths) for name, lengths in shape.tensors.items()}
    config = {**shape.config, "dtype": _DTYPES.get(dtype)}
    return GeneratedModel(config, tensors, seed, base_seed, shard_size)
