"""The shapes of models that are wide: many tensors, most of them of experts. DeepSeek-V3 is stored in 8 bits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .llama import LlamaShape

BLOCK = 128
"""Rows and columns that share a factor where numbers are stored in 8 bits."""

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> dtype, shape, in the order in which the published files have them."""


@dataclass(frozen=True)
class QwenMoeShape:
    """A Qwen3 mixture of experts; `attention` gives what is no expert's its shape."""

    attention: LlamaShape
    head: int
    experts: int
    chosen: int
    width: int

    @property
    def tensors(self) -> Tensors:
        """All that it stores."""
        one = self.attention
        queries, keys = one.heads * self.head, one.kv_heads * self.head
        block: dict[str, tuple[int, ...]] = {
            "input_layernorm": (one.hidden,),
            "post_attention_layernorm": (one.hidden,),
            "self_attn.q_proj": (queries, one.hidden),
            "self_attn.k_proj": (keys, one.hidden),
            "self_attn.v_proj": (keys, one.hidden),
            "self_attn.o_proj": (one.hidden, queries),
            "self_attn.q_norm": (self.head,),
            "self_attn.k_norm": (self.head,),
            "mlp.gate": (self.experts, one.hidden),
        }
        for expert in range(self.experts):
            block |= _network(f"mlp.experts.{expert}", one.hidden, self.width)
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (one.vocab, one.hidden)}
        for layer in range(one.layers):
            shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
        shapes |= {"model.norm.weight": (one.hidden,), "lm_head.weight": (one.vocab, one.hidden)}
        return {name: ("BF16", shape) for name, shape in shapes.items()}

    @property
    def config(self) -> dict[str, Any]:
        """What its config.json says."""
        return self.attention.config | {
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "head_dim": self.head,
            "moe_intermediate_size": self.width,
            "num_experts": self.experts,
            "num_experts_per_tok": self.chosen,
            "decoder_sparse_step": 1,
            "norm_topk_prob": True,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0,
            "max_position_embeddings": 40960,
            "dtype": "bfloat16",
        }


@dataclass(frozen=True)
class DeepSeekShape:
    """A DeepSeek-V3 without the layer that predicts a second token: `dense` layers first, then mixtures of experts."""

    hidden: int = 7168
    intermediate: int = 18432
    layers: int = 61
    dense: int = 3
    experts: int = 256
    width: int = 2048
    heads: int = 128
    query_rank: int = 1536
    key_rank: int = 512
    plain_head: int = 128
    turned_head: int = 64
    vocab: int = 129280

    @property
    def tensors(self) -> Tensors:
        """All that it stores: each matrix of a layer in 8 bits, with a factor for each `BLOCK` x `BLOCK` numbers."""
        made: Tensors = {"model.embed_tokens.weight": ("BF16", (self.vocab, self.hidden))}
        for layer in range(self.layers):
            made |= {f"model.layers.{layer}.{name}": one for name, one in self._layer(layer)}
        made["model.norm.weight"] = ("BF16", (self.hidden,))
        made["lm_head.weight"] = ("BF16", (self.vocab, self.hidden))
        return made

    def _layer(self, layer: int) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
        head = self.plain_head + self.turned_head
        matrices = {
            "self_attn.q_a_proj": (self.query_rank, self.hidden),
            "self_attn.q_b_proj": (self.heads * head, self.query_rank),
            "self_attn.kv_a_proj_with_mqa": (self.key_rank + self.turned_head, self.hidden),
            "self_attn.kv_b_proj": (self.heads * 2 * self.plain_head, self.key_rank),
            "self_attn.o_proj": (self.hidden, self.heads * self.plain_head),
        }
        if layer < self.dense:
            matrices |= _network("mlp", self.hidden, self.intermediate)
        else:
            yield "mlp.gate.weight", ("BF16", (self.experts, self.hidden))
            yield "mlp.gate.e_score_correction_bias", ("F32", (self.experts,))
            matrices |= _network("mlp.shared_experts", self.hidden, self.width)
            for expert in range(self.experts):
                matrices |= _network(f"mlp.experts.{expert}", self.hidden, self.width)
        for name, (rows, columns) in matrices.items():
            yield f"{name}.weight", ("F8_E4M3", (rows, columns))
            yield f"{name}.weight_scale_inv", ("F32", (-(-rows // BLOCK), -(-columns // BLOCK)))
        for name, size in (
            ("self_attn.q_a_layernorm", self.query_rank),
            ("self_attn.kv_a_layernorm", self.key_rank),
            ("input_layernorm", self.hidden),
            ("post_attention_layernorm", self.hidden),
        ):
            yield f"{name}.weight", ("BF16", (size,))

    @property
    def config(self) -> dict[str, Any]:
        """What its config.json says."""
        return {
            "architectures": ["DeepseekV3ForCausalLM"],
            "model_type": "deepseek_v3",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "moe_intermediate_size": self.width,
            "num_hidden_layers": self.layers,
            "first_k_dense_replace": self.dense,
            "n_routed_experts": self.experts,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "n_group": 8,
            "topk_group": 4,
            "routed_scaling_factor": 2.5,
            "norm_topk_prob": True,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "q_lora_rank": self.query_rank,
            "kv_lora_rank": self.key_rank,
            "qk_nope_head_dim": self.plain_head,
            "qk_rope_head_dim": self.turned_head,
            "v_head_dim": self.plain_head,
            "vocab_size": self.vocab,
            "tie_word_embeddings": False,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "max_position_embeddings": 4096,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "dtype": "bfloat16",
            "quantization_config": {
                "quant_method": "fp8",
                "fmt": "e4m3",
                "activation_scheme": "dynamic",
                "weight_block_size": [BLOCK, BLOCK],
            },
        }


def _network(name: str, hidden: int, width: int) -> dict[str, tuple[int, int]]:
    wide, narrow = (width, hidden), (hidden, width)
    return {f"{name}.gate_proj": wide, f"{name}.up_proj": wide, f"{name}.down_proj": narrow}


WIDE: dict[str, QwenMoeShape | DeepSeekShape] = {
    "235B": QwenMoeShape(LlamaShape(4096, 12288, 94, 64, 4, 151936), head=128, experts=128, chosen=8, width=1536),
    "671B": DeepSeekShape(),
}
"""Qwen3-235B-A22B and DeepSeek-V3, by their sizes."""
