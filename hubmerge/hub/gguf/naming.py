"""llama.cpp's architectures: what it calls the tensors and settings of transformers' models, and how their rows lie.

llama.cpp stores the rows of Llama's queries and keys in pairs, Gemma's norms with one added, and all experts of a layer
in one tensor. Source: https://github.com/ggml-org/llama.cpp, conversion/; gguf-py's tensor_mapping.py
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
}
_NORMED = _ATTENTION | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_GATED = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_ROUTED = {"ffn_gate_inp": "mlp.gate"}
_SHARED = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_SETTINGS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
_SILU = {"hidden_act": "silu"}
_QWEN = {**_SILU, "use_sliding_window": False}
_ALL_ROUTED = {"decoder_sparse_step": 1, "mlp_only_layers": []}
_IN_LAYER = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")
_OLD_EXPERT = re.compile(r"blk\.(\d{1,5})\.ffn_(gate|up|down)\.(\d{1,5})\.weight")
_ALL_EXPERTS = re.compile(r"blk\.(\d{1,5})\.ffn_(gate|up|down)_exps\.weight")
_AT_TOP = re.compile(r"(\w+)\.(weight|bias)")
_OURS = re.compile(r"model\.layers\.(\d{1,5})\.(.+)\.(weight|bias)")
_OUR_EXPERT = re.compile(
    r"model\.layers\.(\d{1,5})\.(?:mlp|block_sparse_moe)\.experts\.(\d{1,5})\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight"
)
_KINDS = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}


@dataclass(frozen=True)
class Experts:
    """Where the experts of a layer are in transformers' files, and what their matrices are called there."""

    place: str = "mlp.experts"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


@dataclass(frozen=True)
class Architecture:
    """One kind of model. `name`: llama.cpp's for it; `model_class`: that of transformers; `layer`: what the tensors of
    a layer are called in both.

    `settings`: keys of a header and of config.json that say the same. `fixed`: settings that no header tells, as
    llama.cpp computes with them. `paired`: whether rows of queries and keys lie in pairs. `norms`: what its norms lack.
    `period`: of so many layers the last sees all positions and the others a window; 0: all see all. `headless`: whether
    llama.cpp knows no head but the embedding. `wide`: `ffn_up` holds gate and up one after another.
    """

    name: str
    model_class: str
    layer: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=lambda: _SETTINGS)
    fixed: Mapping[str, Any] = field(default_factory=lambda: _SILU)
    paired: bool = False
    norms: float = 0.0
    experts: Experts | None = None
    period: int = 0
    headless: bool = False
    wide: bool = False

    def names(self, stored: str, experts: int = 0) -> Sequence[str] | None:
        """What transformers calls a tensor, or each of the `experts` that lie in it one after another; None where it
        has none of that kind."""
        if (found := _IN_LAYER.fullmatch(stored)) and found[2] in self.layer:
            return [f"model.layers.{int(found[1])}.{self.layer[found[2]]}.{found[3]}"]
        if self.experts and (found := _ALL_EXPERTS.fullmatch(stored)):
            return [self._expert(found[1], number, found[2]) for number in range(experts)]
        if self.experts and (found := _OLD_EXPERT.fullmatch(stored)):
            return [self._expert(found[1], int(found[3]), found[2])]
        if (found := _AT_TOP.fullmatch(stored)) and found[1] in _TOP:
            return [f"{_TOP[found[1]]}.{found[2]}"]
        return None

    def _expert(self, layer: str, number: int, kind: str) -> str:
        assert self.experts is not None
        return f"model.layers.{int(layer)}.{self.experts.place}.{number}.{getattr(self.experts, kind)}.weight"

    def stored(self, name: str) -> tuple[str, int] | None:
        """What llama.cpp calls a tensor of transformers', and which expert of that it is, else 0; None where it has
        none of that kind."""
        if found := _OUR_EXPERT.fullmatch(name):
            return (f"blk.{int(found[1])}.ffn_{_KINDS[found[3]]}_exps.weight", int(found[2])) if self.experts else None
        if (found := _OURS.fullmatch(name)) and found[2] in self._leaves:
            return f"blk.{int(found[1])}.{self._leaves[found[2]]}.{found[3]}", 0
        stem, _, last = name.rpartition(".")
        return next(((f"{theirs}.{last}", 0) for theirs, ours in _TOP.items() if ours == stem), None)

    @cached_property
    def _leaves(self) -> Mapping[str, str]:
        # In memory transformers calls Mixtral's router as it does others'.
        routers = {"mlp.gate": "ffn_gate_inp"} if self.experts else {}
        return {ours: theirs for theirs, ours in self.layer.items()} | routers

    def heads(self, stored: str) -> str | None:
        """What tells how many heads lie in pairs in a tensor: a key of the header; None where none do."""
        found = _IN_LAYER.fullmatch(stored)
        if not self.paired or found is None:
            return None
        return {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}.get(found[2])


_LLAMA = Architecture("llama", "LlamaForCausalLM", _ATTENTION | _GATED, paired=True)
ARCHITECTURES = {
    "llama": _LLAMA,
    "mistral": Architecture("llama", "MistralForCausalLM", _ATTENTION | _GATED, paired=True),
    "mixtral": Architecture(
        "llama",
        "MixtralForCausalLM",
        _ATTENTION | {"ffn_gate_inp": "block_sparse_moe.gate"},
        {**_SETTINGS, "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        paired=True,
        experts=Experts("block_sparse_moe.experts", "w1", "w3", "w2"),
    ),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _ATTENTION | _GATED, fixed=_QWEN),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", _NORMED | _GATED, fixed={**_QWEN, "attention_bias": False}),
    "qwen2_moe": Architecture(
        "qwen2moe",
        "Qwen2MoeForCausalLM",
        _ATTENTION | _ROUTED | _SHARED,
        {**_SETTINGS, **_EXPERTS, "expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        {**_QWEN, **_ALL_ROUTED, "norm_topk_prob": False},
        experts=Experts(),
    ),
    "qwen3_moe": Architecture(
        "qwen3moe",
        "Qwen3MoeForCausalLM",
        _NORMED | _ROUTED,
        {**_SETTINGS, **_EXPERTS},
        {**_QWEN, **_ALL_ROUTED, "norm_topk_prob": True, "attention_bias": False},
        experts=Experts(),
    ),
    "gemma": Architecture(
        "gemma",
        "GemmaForCausalLM",
        _ATTENTION | _GATED,
        fixed={"hidden_act": "gelu_pytorch_tanh", "attention_bias": False},
        norms=-1.0,
        headless=True,
    ),
    "gemma2": Architecture(
        "gemma2",
        "Gemma2ForCausalLM",
        _ATTENTION | _GATED | _SANDWICH,
        {
            **_SETTINGS,
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            "attention.sliding_window": "sliding_window",
        },
        {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False},
        norms=-1.0,
        period=2,
        headless=True,
    ),
    "gemma3_text": Architecture(
        "gemma3",
        "Gemma3ForCausalLM",
        _NORMED | _GATED | _SANDWICH,
        {**_SETTINGS, "attention.sliding_window": "sliding_window"},
        {
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "use_bidirectional_attention": False,
        },
        norms=-1.0,
        period=6,
    ),
    "phi3": Architecture(
        "phi3",
        "Phi3ForCausalLM",
        {
            "attn_norm": "input_layernorm",
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
        wide=True,
    ),
    "starcoder2": Architecture(
        "starcoder2",
        "Starcoder2ForCausalLM",
        _ATTENTION | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        {
            **{theirs: ours for theirs, ours in _SETTINGS.items() if ours != "rms_norm_eps"},
            "attention.layer_norm_epsilon": "norm_epsilon",
        },
        {"hidden_act": "gelu_pytorch_tanh", "use_bias": True},
    ),
}
"""By what transformers calls the kind of model (`model_type`)."""


def kind_of(name: str, experts: bool) -> str | None:
    """The `model_type` of a file of an architecture, by llama.cpp's name for it; None where there is none."""
    return next(
        (kind for kind, one in ARCHITECTURES.items() if one.name == name and bool(one.experts) == experts), None
    )


COMPUTED = re.compile(
    r"rope_(?:freqs|factors_\w+)\.weight|blk\.\d+\.attn_rot_embd\.weight|blk\.\d+\.rope_freqs\.weight"
)
"""Tensors that transformers computes from the configuration."""
