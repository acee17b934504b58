"""Tiny models for benchmarks/parity_beside.py: tokenizers of every kind, LoRAs, models that see.

They are the same on every machine, so that what mergekit once made of them can be compared with: their numbers are of
numpy's frozen generator, and no tokenizer is trained.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hubmerge.localhub import LlamaShape

KINDS = ("bytes", "bpe", "unigram", "wordpiece")
"""BPE over bytes, BPE of SentencePiece with bytes to fall back on, Unigram, WordPiece."""

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
FIRST = ("the", "cat", "sat", "on", "mat", "merge", "of", "models")
SECOND = ("der", "hund", "sitzt", "auf", "the", "cat", "ein", "model", "models")
LETTERS = "abcdefghijklmnopqrstuvwxyz"

TEMPLATES = {
    "first": "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
    "second": "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}",
}
EYE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def numbers(name: str, shape: Sequence[int], seed: int, size: float = 0.1) -> torch.Tensor:
    """The random numbers of a tensor, in float32."""
    drawn = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32).standard_normal(tuple(shape))
    return torch.from_numpy((drawn * size).astype(np.float32))


def make_models(root: Path) -> dict[str, Path]:
    """The folders of all models and LoRAs, by name."""
    made: dict[str, Path] = {}
    for kind in KINDS:
        one = tokenizer(kind, FIRST, ["<|im_start|>", "<extra>"])
        two = tokenizer(kind, SECOND, ["<|im_end|>"])
        both = tokenizer(kind, (*SECOND, *FIRST), ["<|im_start|>", "<|im_end|>"])
        for seed, (name, spoken) in enumerate((("first", one), ("second", two), ("third", both))):
            template = TEMPLATES.get(name, TEMPLATES["second"])
            made[f"{kind}-{name}"] = llama(root / f"{kind}-{name}", spoken, seed, template)
    first = tokenizer("bytes", FIRST, ["<|im_start|>", "<extra>"])
    made["sibling"] = llama(root / "sibling", first, 5, TEMPLATES["first"])
    made["padded"] = llama(root / "padded", first, 6, TEMPLATES["first"], rows=len(first) + 7)
    made["turned"] = llama(
        root / "turned", tokenizer("bytes", FIRST[::-1], ["<extra>", "<|im_start|>"]), 7, TEMPLATES["first"]
    )
    for seed, name in enumerate(("tied", "tied-too")):
        spoken = tokenizer("bytes", (FIRST, SECOND)[seed], ["<|im_start|>"])
        made[name] = llama(root / name, spoken, 10 + seed, TEMPLATES["first"], tied=True)
    made |= {name: lora(root / name, **given) for name, given in LORAS.items()}
    made |= {name: sees(root / name, seed, first) for seed, name in enumerate(("sees", "sees-too", "sees-three"))}
    made |= {f"newer-{name}": sees(root / f"newer-{name}", seed, first, newer=True) for seed, name in enumerate("ab")}
    return made


LORAS: Mapping[str, dict[str, Any]] = {
    "lora": {"seed": 1},
    "lora-mlp": {"seed": 2, "parts": ("mlp.gate_proj", "mlp.down_proj"), "rank": 4},
    "lora-rs": {"seed": 3, "use_rslora": True},
    "lora-patterns": {
        "seed": 4,
        "rank_pattern": {"layers.1.self_attn.q_proj": 5},
        "alpha_pattern": {"layers.0.self_attn.v_proj": 9},
    },
    "lora-rows": {"seed": 5, "parts": ("embed_tokens", "lm_head", "self_attn.k_proj")},
}
"""LoRAs on top of any model with the tokens of `bytes-first`."""


def shape(rows: int, tied: bool = False) -> LlamaShape:
    """The shape of all models here."""
    return LlamaShape(hidden=16, intermediate=24, layers=2, heads=2, kv_heads=1, vocab=rows, tied=tied)


def llama(
    folder: Path, spoken: PreTrainedTokenizerFast, seed: int, template: str, rows: int | None = None, tied: bool = False
) -> Path:
    """A model that speaks it, with `rows` of its vocabulary (default: one a token)."""
    made = shape(rows or len(spoken), tied)
    save(
        folder, made.config | special(spoken), {name: numbers(name, size, seed) for name, size in made.tensors.items()}
    )
    spoken.chat_template = template
    spoken.save_pretrained(folder)
    return folder


def special(spoken: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What config.json says of the special tokens, and of the dtype."""
    ids = {f"{name}_token_id": getattr(spoken, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {**ids, "dtype": "float32", "transformers_version": "5.0.0"}


def save(folder: Path, config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_file(dict(state), folder / "model.safetensors", {"format": "pt"})


def lora(folder: Path, seed: int, parts: Sequence[str] = ("self_attn.q_proj", "self_attn.v_proj"), rank: int = 3,
         **settings: Any) -> Path:  # fmt: skip
    """A LoRA on `parts` of a model with the tokens of `bytes-first`, as PEFT saves it."""
    rows = len(tokenizer("bytes", FIRST, ["<|im_start|>", "<extra>"]))
    state = {}
    for name, size in shape(rows).tensors.items():
        module = name.removesuffix(".weight")
        if not module.endswith(tuple(parts)):
            continue
        own = next((r for key, r in settings.get("rank_pattern", {}).items() if module.endswith(key)), rank)
        embedding = module.endswith("embed_tokens")
        inside, outside = (size[0], size[1]) if embedding else (size[1], size[0])
        names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
        for part, dims in zip(names, ((own, inside), (outside, own)), strict=True):
            key = f"base_model.model.{module}.{part}"
            state[key] = numbers(key, dims, seed, 0.2)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 7, "bias": "none",
        "target_modules": [part.split(".")[-1] for part in parts], "base_model_name_or_path": None, **settings,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def sees(folder: Path, seed: int, spoken: PreTrainedTokenizerFast, newer: bool = False) -> Path:
    """A Mistral 3 with pictures; `newer`: under the names that transformers has had since 4.52."""
    text = shape(len(spoken))
    shapes: dict[str, tuple[int, ...]] = {f"language_model.{name}": size for name, size in text.tensors.items()}
    wide, middle = EYE["hidden_size"], EYE["intermediate_size"]
    shapes |= {"vision_tower.ln_pre.weight": (wide,), "vision_tower.patch_conv.weight": (wide, 3, 4, 4)}
    for layer in range(EYE["num_hidden_layers"]):
        at = f"vision_tower.transformer.layers.{layer}."
        shapes |= {f"{at}attention.{part}_proj.weight": (wide, wide) for part in "qkvo"}
        shapes |= {f"{at}feed_forward.{part}_proj.weight": (middle, wide) for part in ("gate", "up")}
        shapes |= {f"{at}feed_forward.down_proj.weight": (wide, middle)}
        shapes |= {f"{at}{norm}.weight": (wide,) for norm in ("attention_norm", "ffn_norm")}
    projector = {"norm": (wide,), "patch_merger.merging_layer": (wide, 4 * wide)}
    projector |= {"linear_1": (text.hidden, wide), "linear_2": (text.hidden, text.hidden)}
    shapes |= {f"multi_modal_projector.{name}.weight": size for name, size in projector.items()}
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "image_token_index": 4,
        "text_config": text.config | special(spoken) | {"model_type": "mistral"}, "vision_feature_layer": -1,
        "vision_config": {**EYE, "model_type": "pixtral", "image_size": 16, "patch_size": 4, "head_dim": 8},
        "spatial_merge_size": 2, "multimodal_projector_bias": False, "tie_word_embeddings": False,
        "dtype": "float32", "transformers_version": "5.0.0",
    }  # fmt: skip
    state = {name: numbers(name, size, 20 + seed) for name, size in shapes.items()}
    save(folder, config, {_newer(name) if newer else name: one for name, one in state.items()})
    spoken.save_pretrained(folder)
    return folder


def _newer(name: str) -> str:
    name = name.replace("language_model.model.", "language_model.").removeprefix("language_model.lm_")
    return "lm_" + name if name == "head.weight" else f"model.{name}"


def tokenizer(kind: str, words: Sequence[str], more: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that has each of `words` as one token, and `more` as added ones behind all others."""
    if kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        made = Tokenizer(models.BPE(*pairs([*SPECIAL, *alphabet], [f"Ġ{word}" for word in words])))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    elif kind == "bpe":
        few = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
        known = pairs(few, [f"▁{word}" for word in words])
        made = Tokenizer(models.BPE(*known, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    elif kind == "unigram":
        pieces = [*SPECIAL, "▁", *LETTERS, *(f"▁{word}" for word in words)]
        scores = [0.0 if piece in SPECIAL else -12.0 + len(piece) for piece in pieces]
        made = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=0))
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
    else:
        pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *(w for w in words if len(w) > 1)]
        made = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="<unk>"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
    made.add_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    made.add_tokens([AddedToken(text, special=text.startswith("<|"), normalized=False) for text in more])
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **named)


def pairs(first: Sequence[str], words: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE that begins with `first` and puts each word together from its left."""
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        merges |= {(word[:end], word[end]): None for end in range(1, len(word))}
    listed = [*first, *dict.fromkeys(left + right for left, right in merges)]
    return {piece: at for at, piece in enumerate(dict.fromkeys(listed))}, list(merges)
