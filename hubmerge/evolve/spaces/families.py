"""What the blocks of a family look like: which of their tensors a scale of the residual stream can be moved into.

In a block h -> h + A(n1(h)) -> + M(n2(.)) the norms undo any scale of h. So a path whose layer k reads its input times
w_k is the path without scales whose layer k writes 1/s_k of what it wrote, s_k = w_1...w_k; where s_k is negative, the
norms that the layer reads through change their sign, and after the last layer the final norm does. The norms' eps makes
the two forms differ a little where the stream is small; the second is the one that is meant, in memory as on disk.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...errors import PlanError
from ...recipe import Conditional, Parameters


@dataclass(frozen=True)
class Family:
    """The blocks of a family of models, by pieces of their tensors' names.

    `outputs` are all that a block adds to the residual stream with: the last matrices of attention and MLP with their
    biases, or, where a norm follows these, its weight (`output_norms`). `input_norms` are the weights of the norms that
    it reads the stream through, `final_norm` that of the one after the last block. `plus_one`: norms multiply by 1 +
    their stored weight. `modules`: what gives these outputs in memory, where it is not called as in files.
    """

    outputs: tuple[str, ...]
    input_norms: tuple[str, ...]
    final_norm: str
    output_norms: bool = False
    plus_one: bool = False
    modules: tuple[str, ...] = ()

    @property
    def writers(self) -> tuple[str, ...]:
        """The modules of a block, by their names in it, whose results are `outputs`' doing and linear in them."""
        return self.modules or tuple(map(module_of, self.outputs))

    def absorb(self, factor: float, *, last: bool = False) -> Parameters:
        """The parameters of `passthrough` that give a layer which reads its input `factor` times too small.

        factor: s_k, any number but 0; `last`: no layer follows, so that the final norm belongs to it.
        """
        flipped = [*self.input_norms, *([self.final_norm] if last else [])] if factor < 0 else []
        outputs = self.outputs if factor != 1 else ()
        scales = dict.fromkeys(outputs, 1 / factor) | dict.fromkeys(flipped, -1.0)
        if not scales:
            return {}
        parameters = {"scale": tuple(Conditional(name, scale) for name, scale in scales.items())}
        norms = [*(outputs if self.output_norms else ()), *flipped]
        if self.plus_one and norms:
            # 1 + w' = c (1 + w), so w' = c w + (c - 1).
            parameters["shift"] = tuple(Conditional(name, scales[name] - 1) for name in norms)
        return parameters

    def check(self, tensor_names: Iterable[str]) -> None:
        """Raises `PlanError` unless each of the names is found among the tensors of a model."""
        names = list(tensor_names)
        for piece in (*self.outputs, *self.input_norms, self.final_norm):
            if not any(piece in name for name in names):
                raise PlanError(
                    f"No tensor is called {piece!r}, which a path's scales go into; take models whose files have "
                    "the names that transformers gives them."
                )


def module_of(tensor: str) -> str:
    """The module that a piece of a tensor's name belongs to: `self_attn.o_proj.` -> `self_attn.o_proj`."""
    return tensor.removesuffix(".weight").removesuffix(".")


_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_LLAMA = Family(("self_attn.o_proj.", "mlp.down_proj."), _NORMS, "model.norm.weight")
_GEMMA = Family(
    outputs=("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
    input_norms=("input_layernorm.weight", "pre_feedforward_layernorm.weight"),
    final_norm="model.norm.weight",
    output_norms=True,
    plus_one=True,
)
_MIXED = replace(_LLAMA, outputs=("self_attn.o_proj.", ".down_proj."), modules=("self_attn.o_proj", "mlp"))
_SAME = (
    *("arcee", "ernie4_5", "glm", "granite", "helium", "hunyuan_v1_dense", "llama", "ministral", "ministral3"),
    *("mistral", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3", "stablelm"),
)

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(_SAME, _LLAMA),
    **dict.fromkeys(("olmoe", "qwen3_moe"), _MIXED),
    "apertus": replace(_LLAMA, input_norms=("attention_layernorm.weight", "feedforward_layernorm.weight")),
    "cohere": replace(_LLAMA, input_norms=_NORMS[:1]),
    "gemma": replace(_LLAMA, plus_one=True),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "glm4": replace(
        _GEMMA,
        outputs=("post_self_attn_layernorm.weight", "post_mlp_layernorm.weight"),
        input_norms=_NORMS,
        plus_one=False,
    ),
    "gpt2": Family(("attn.c_proj.", "mlp.c_proj."), ("ln_1.weight", "ln_2.weight"), "ln_f.weight"),
    "gpt_neox": Family(("attention.dense.", "mlp.dense_4h_to_h."), _NORMS, "final_layer_norm.weight"),
    "gpt_oss": replace(_MIXED, outputs=("self_attn.o_proj.", "mlp.experts.down_proj")),
    "mixtral": replace(_LLAMA, outputs=("self_attn.o_proj.", ".w2."), modules=("self_attn.o_proj", "mlp.experts")),
    "nemotron": replace(_LLAMA, plus_one=True),
    "phi": Family(("self_attn.dense.", "mlp.fc2."), _NORMS[:1], "final_layernorm.weight"),
    "starcoder2": replace(_LLAMA, outputs=("self_attn.o_proj.", "mlp.c_proj.")),
}
"""By model_type; each is tested against its live path."""

_UNNORMED = "its blocks read the residual stream without a norm, so scaling their input changes what they compute"
_UNLIKE = "its layers are of several kinds ({}), and a path may put any layer in any place"
_BY_NUMBER = "its layers take inputs, or keys and values, that belong to their numbers"

REFUSED = {
    **dict.fromkeys(("exaone4", "olmo2", "olmo3"), _UNNORMED),
    **dict.fromkeys(("gemma3n_text", "gemma4_text"), _BY_NUMBER),
    **dict.fromkeys(("deepseek_v3", "llama4_text"), _UNLIKE.format("dense, and mixtures of experts")),
    **dict.fromkeys(("qwen3_5_text", "qwen3_next"), _UNLIKE.format("attention, and states that are carried on")),
    "gemma3": "it is the multi-modal wrapper: take the text model (gemma3_text)",
    "granitemoehybrid": _UNLIKE.format("attention, and states that are carried on"),
    "lfm2": _UNLIKE.format("attention, and convolutions"),
    "t5": "it has an encoder and a decoder, and a path runs through one stack of layers",
}
"""Families that paths cannot run through, with the reason."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a model with this config.json. Raises `PlanError` with the reason where paths cannot run through
    its layers, or could not be written as an ordinary checkpoint."""
    kind = str(config.get("model_type"))
    if config.get("scale_attn_by_inverse_layer_idx"):
        raise PlanError(
            f"Layers of this {kind} model cannot be moved: its attention depends on the layer's number "
            "(scale_attn_by_inverse_layer_idx)."
        )
    if kind not in FAMILIES:
        reason = REFUSED.get(kind, "how its blocks write into the residual stream is not known here")
        raise PlanError(f"Paths through {kind} models are not supported: {reason}; known: {', '.join(FAMILIES)}.")
    return FAMILIES[kind]
