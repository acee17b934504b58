"""What transformers calls llama.cpp's tensors, and how their rows lie.

llama.cpp stores the rows of Llama's queries and keys in pairs, and Gemma's norms with one added.
Source: https://github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py; gguf-py's tensor_mapping.py
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORMED = _LAYER | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GEMMA = _NORMED | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_IN_LAYER = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")
_AT_TOP = re.compile(r"(\w+)\.(weight|bias)")


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures: its kind in transformers, what its layers' tensors are called, whether queries
    and keys lie in pairs, and what its norms lack. `told`: whether its header tells the whole configuration."""

    model_type: str
    model_class: str
    layer: Mapping[str, str]
    paired: bool = False
    norms: float = 0.0
    told: bool = True

    def name(self, stored: str) -> str | None:
        """What transformers calls a tensor; None where it has none of that kind."""
        if (found := _IN_LAYER.fullmatch(stored)) and found[2] in self.layer:
            return f"model.layers.{int(found[1])}.{self.layer[found[2]]}.{found[3]}"
        if (found := _AT_TOP.fullmatch(stored)) and found[1] in _TOP:
            return f"{_TOP[found[1]]}.{found[2]}"
        return None

    def heads(self, stored: str) -> str | None:
        """What tells how many heads lie in pairs in a tensor: a key of the header; None where none do."""
        found = _IN_LAYER.fullmatch(stored)
        if not self.paired or found is None:
            return None
        return {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}.get(found[2])


ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", _LAYER, paired=True),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _LAYER),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", _NORMED),
    "gemma": Architecture("gemma", "GemmaForCausalLM", _LAYER, norms=-1.0, told=False),
    "gemma2": Architecture("gemma2", "Gemma2ForCausalLM", _GEMMA, norms=-1.0, told=False),
    "gemma3": Architecture("gemma3_text", "Gemma3ForCausalLM", _GEMMA, norms=-1.0, told=False),
}
"""By llama.cpp's names."""

COMPUTED = re.compile(
    r"rope_(?:freqs|factors_\w+)\.weight|blk\.\d+\.attn_rot_embd\.weight|blk\.\d+\.rope_freqs\.weight"
)
"""Tensors that transformers computes from the configuration."""
