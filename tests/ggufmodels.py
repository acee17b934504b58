"""Tiny models of each architecture that is written as GGUF, with tokenizers of the kinds that llama.cpp has."""

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from hubmerge.gguf.texts import TEXTS
from hubmerge.hub.gguf.splits import SPLITS, Split, pre_tokenizer
from hubmerge.hub.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, merges_of

TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}<|im_start|>"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|pad|>"]
ROWS = 520
_SIZES: dict[str, Any] = {
    "vocab_size": ROWS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
}
_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32}
_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + place / 10 for place in range(8)],
    "long_factor": [1.0 + place for place in range(8)],
}
_ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_TIED = {"tie_word_embeddings": True, "head_dim": 32}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3": ("llama", {"max_position_embeddings": 16384, "rope_parameters": _LLAMA_3}),
    "llama, linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}, "tie_word_embeddings": True},
    ),
    "mistral": ("mistral", {"head_dim": 32, "sliding_window": None}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2, yarn": ("qwen2", {"rope_parameters": _YARN}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen2_moe": ("qwen2_moe", {**_ROUTED, "shared_expert_intermediate_size": 64}),
    "qwen3_moe": ("qwen3_moe", {**_ROUTED, "head_dim": 32, "norm_topk_prob": True}),
    "gemma": ("gemma", _TIED),
    "gemma2": ("gemma2", {**_TIED, "query_pre_attn_scalar": 32, "sliding_window": 8}),
    "gemma3": ("gemma3_text", {**_TIED, "query_pre_attn_scalar": 32, "sliding_window": 8, "num_hidden_layers": 7}),
    "phi3": ("phi3", {}),
    "phi3, long": (
        "phi3",
        {"max_position_embeddings": 1024, "original_max_position_embeddings": 256, "rope_parameters": _LONG},
    ),
    "starcoder2": ("starcoder2", {"use_bias": True, "sliding_window": None}),
}
"""The kind of model, and settings beside `_SIZES`."""


@cache
def bytewise(split: str | Split = "gpt-2", **how: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE that cuts text by one of llama.cpp's ways."""
    cuts = SPLITS[split] if isinstance(split, str) else split
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=ROWS - 5, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    core.train_from_iterator(TEXTS, trainer)
    document = json.loads(core.to_str())
    document["pre_tokenizer"] = pre_tokenizer(cuts)
    document["model"]["ignore_merges"] = cuts.whole
    return _whole(Tokenizer.from_str(json.dumps(document)), bos_token=SPECIAL[0], eos_token=SPECIAL[1], **how)


@cache
def pieces(begins: bool = True, **how: Any) -> PreTrainedTokenizerFast:
    """SentencePiece's BPE, as transformers converts it: spaces are pieces of words, and what is unknown is bytes."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = normalizers.Replace(" ", "▁")
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if begins else spaces
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=ROWS - 5,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        limit_alphabet=90,
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    document = json.loads(core.to_str())
    tokens = sorted(document["model"]["vocab"], key=document["model"]["vocab"].__getitem__)
    kinds = [CONTROL if n < 3 else BYTE if n < 259 else NORMAL for n in range(len(tokens))]
    ranks = {"".join(pair): -float(rank) for rank, pair in reversed([*enumerate(document["model"]["merges"])])}
    document["model"]["merges"] = merges_of(tokens, kinds, [ranks.get(token, -1e4) for token in tokens])
    document["added_tokens"] = [one for one in document["added_tokens"] if one["content"] in special]
    core = Tokenizer.from_str(json.dumps(document))
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if begins else []),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
    )
    return _whole(core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **how)


def sentencepiece(tokenizer: PreTrainedTokenizerFast, begins: bool = True, kind: int = 2, **normal: Any) -> bytes:
    """The file that SentencePiece has of `pieces`: messages of numbered fields. `kind`: 2 for BPE."""

    def number(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)

    def field(place: int, value: bytes | int | float) -> bytes:
        if isinstance(value, float):
            return number(place << 3 | 5) + struct.pack("<f", value)
        return (
            number(place << 3 | 2) + number(len(value)) + value
            if isinstance(value, bytes)
            else number(place << 3) + number(value)
        )

    document = json.loads(tokenizer.backend_tokenizer.to_str())
    ranks: dict[str, int] = {}
    for pair in document["model"]["merges"]:
        ranks.setdefault("".join(pair), len(ranks))
    content = b""
    for text, place in sorted(document["model"]["vocab"].items(), key=lambda one: one[1]):
        told = UNKNOWN if place == 0 else CONTROL if place < 3 else BYTE if place < 259 else NORMAL
        piece = field(1, text.encode()) + field(2, -float(ranks.get(text, len(ranks))))
        content += field(1, piece + (b"" if told == NORMAL else field(3, told)))
    spec = {"charsmap": b"", "begins": int(begins), "extra": 0, **normal}
    return content + field(2, field(3, kind)) + field(3, b"".join(map(field, (2, 3, 4), spec.values())))


def _whole(core: Tokenizer, **special: Any) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **special)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build(folder: Path, name: str, tokenizer: PreTrainedTokenizerFast | None = None, **more: Any) -> tuple[Path, Any]:
    """Saves a model of `MODELS` with all its weights drawn; gives it too."""
    kind, settings = MODELS[name]
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**_SIZES, **settings, **more}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3 if weight.dim() < 2 else 0.05)
    model.eval().save_pretrained(folder)
    (tokenizer or bytewise()).save_pretrained(folder)
    return folder, model
