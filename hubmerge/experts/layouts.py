"""How families call the tensors of a mixture of experts, and what their configurations say of it.

Each takes all but the MLPs as a dense family has it, so that equal experts compute what the dense model does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PARTS = ("gate_proj", "up_proj", "down_proj")
"""The weights of a dense MLP, after `mlp.`"""


@dataclass(frozen=True)
class Needs:
    """What a configuration says: the dense one with its defaults, how many experts there are and how many of them a
    token gets, the width of a shared one (None: there is none)."""

    dense: Mapping[str, Any]
    experts: int
    per_token: int
    shared: int | None


@dataclass(frozen=True)
class Layout:
    """A family of mixtures, for dense models of the kinds `takes`.

    `expert` is where the weights of expert {0} lie in a layer, each called as `parts` says; `gate` the router's.
    `shared`: where those of a shared expert lie, None where the family has none; `shared_gate`: what lets it through by
    what comes. `needs_shared`: whether there is always one. `biases`: whether attention may have them. `zeros`: more
    tensors of each layer, a number an expert, and their dtypes. `remote`: whose code reads it, where transformers has
    none. `changes`: its configuration, from that of the dense model.
    """

    model_type: str
    architecture: str
    takes: tuple[str, ...]
    changes: Callable[[Needs], dict[str, Any]]
    expert: str = "mlp.experts.{0}"
    parts: Sequence[str] = PARTS
    gate: str = "mlp.gate.weight"
    shared: str | None = None
    shared_gate: str | None = None
    needs_shared: bool = False
    biases: bool = False
    zeros: Mapping[str, str] = field(default_factory=dict)
    remote: str | None = None


# What only dense families say of themselves.
_DENSE = ("attention_bias", "mlp_bias", "pretraining_tp", "use_sliding_window", "max_window_layers", "layer_types")


def _mixtral(needs: Needs) -> dict[str, Any]:
    config = {key: value for key, value in needs.dense.items() if key not in _DENSE}
    return config | {
        "num_local_experts": needs.experts,
        "num_experts_per_tok": needs.per_token,
        "sliding_window": needs.dense.get("sliding_window"),
        "output_router_logits": False,
        "router_jitter_noise": 0.0,
    }


def _qwen2(needs: Needs) -> dict[str, Any]:
    config = {
        key: value for key, value in needs.dense.items() if key not in ("attention_bias", "mlp_bias", "pretraining_tp")
    }
    config |= _routed(needs) | {
        "shared_expert_intermediate_size": needs.shared or NO_SHARED_WIDTH,
        "qkv_bias": needs.dense["model_type"] == "qwen2",
    }
    if needs.dense["model_type"] != "qwen2":
        window, layers = needs.dense.get("sliding_window"), needs.dense["num_hidden_layers"]
        config |= {
            "use_sliding_window": bool(window),
            "sliding_window": window,
            "max_window_layers": 0 if window else layers,
            "layer_types": ["sliding_attention" if window else "full_attention"] * layers,
        }
    return config


NO_SHARED_WIDTH = 8
"""Of a shared expert that has to be there and does nothing: its weights are zeros."""


def _qwen3(needs: Needs) -> dict[str, Any]:
    return dict(needs.dense) | _routed(needs)


def _routed(needs: Needs) -> dict[str, Any]:
    return {
        "num_experts": needs.experts,
        "num_experts_per_tok": needs.per_token,
        "moe_intermediate_size": needs.dense["intermediate_size"],
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "output_router_logits": False,
    }


def _deepseek(needs: Needs) -> dict[str, Any]:
    dense = {key: value for key, value in needs.dense.items() if key not in _DENSE}
    return dense | _deepseek_routed(needs) | {"moe_layer_freq": 1, "scoring_func": "softmax", "attention_bias": False}


def _deepseek_v3(needs: Needs) -> dict[str, Any]:
    # One group of experts, and what they add as it is.
    return dict(needs.dense) | _deepseek_routed(needs) | {"n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0}


def _deepseek_routed(needs: Needs) -> dict[str, Any]:
    width = needs.dense["intermediate_size"]
    return {
        "n_routed_experts": needs.experts,
        "n_shared_experts": None if needs.shared is None else 1,
        "num_experts_per_tok": needs.per_token,
        "moe_intermediate_size": width,
        "first_k_dense_replace": 0,
        "norm_topk_prob": True,
    }


LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "mixtral": (
        Layout(
            "mixtral",
            "MixtralForCausalLM",
            ("llama", "mistral"),
            _mixtral,
            expert="block_sparse_moe.experts.{0}",
            parts=("w1", "w3", "w2"),
            gate="block_sparse_moe.gate.weight",
        ),
    ),
    "qwen": (
        Layout(
            "qwen2_moe",
            "Qwen2MoeForCausalLM",
            ("qwen2", "llama", "mistral"),
            _qwen2,
            shared="mlp.shared_expert",
            shared_gate="mlp.shared_expert_gate.weight",
            needs_shared=True,
            biases=True,
        ),
    ),
    "qwen3": (Layout("qwen3_moe", "Qwen3MoeForCausalLM", ("qwen3",), _qwen3, biases=True),),
    "deepseek": (
        Layout(
            "deepseek",
            "DeepseekForCausalLM",
            ("llama",),
            _deepseek,
            shared="mlp.shared_experts",
            remote="deepseek-ai/deepseek-moe-16b-base",
        ),
        Layout(
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            ("deepseek_v3",),
            _deepseek_v3,
            shared="mlp.shared_experts",
            needs_shared=True,
            biases=True,
            zeros={"mlp.gate.e_score_correction_bias": "F32"},
        ),
    ),
}
"""By the name that mergekit-moe has for the architecture. `deepseek` of Llamas is the first generation, which
transformers reads with code of its makers; that of dense models of the third, transformers reads itself."""


def fitting(model_type: str, shared: bool) -> str | None:
    """The architecture for dense models of a kind, with or without a shared expert; None where there is none."""
    for name, layouts in LAYOUTS.items():
        for layout in layouts:
            if model_type in layout.takes and (layout.shared is not None or not shared) and layout.remote is None:
                return name
    return None
