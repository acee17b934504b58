"""The models of Akiba et al. 2024, https://arxiv.org/abs/2403.13187, as they are published: shapes of Mistral-7B."""

import json
from dataclasses import dataclass, replace

from .llama import LlamaShape, llama
from .model import SHARD_SIZE, GeneratedModel

_SHAPE = LlamaShape(4096, 14336, 32, 32, 8, 32000)


@dataclass(frozen=True)
class _Layout:
    """`added`: tokens beyond those of the base; `pickled`: in files of torch.save's."""

    dtype: str = "BF16"
    shard_size: int = SHARD_SIZE
    pickled: bool = False
    added: tuple[str, ...] = ()


_LAYOUTS = {
    "mistralai/Mistral-7B-v0.1": _Layout(),
    "augmxnt/shisa-gamma-7b-v1": _Layout(),
    "WizardLMTeam/WizardMath-7B-V1.1": _Layout("BF16", 10**10, True, ("[PAD]",)),
    "GAIR/Abel-7B-002": _Layout("F32", 10**10, True, ("[PAD]", "<sep>")),
}


def paper_models() -> dict[str, GeneratedModel]:
    """By Hub ID: the base and the Japanese model in safetensors with 32,000 tokens; a math model in two files of
    torch.save's with 32,001; one in float32 and in three such files, with 32,002. Weights and tokens are made up."""
    made = {}
    for seed, (repo_id, layout) in enumerate(_LAYOUTS.items()):
        shape = replace(_SHAPE, vocab=_SHAPE.vocab + len(layout.added))
        model = llama(shape, seed, 0 if seed else None, layout.dtype, layout.shard_size)
        config = {
            **model.config,
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "sliding_window": 4096,
            "rope_theta": 10000.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        files = {"tokenizer.json": _tokenizer(layout.added), "tokenizer_config.json": _tokenizer_config()}
        made[repo_id] = replace(model, config=config, files=files, pickled=layout.pickled)
    return made


def _tokenizer(added: tuple[str, ...]) -> bytes:
    """A tokenizer of this many tokens that has bytes alone for words: the other tokens are only there."""
    special = ("<unk>", "<s>", "</s>")
    words = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    words += [f"\u2581token{number}" for number in range(len(words), _SHAPE.vocab)]
    tokens = [*enumerate(special), *enumerate(added, _SHAPE.vocab)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": content, **flags} for number, content in tokens],
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": [],
            "unk_token": "<unk>",
            "byte_fallback": True,
        },
        "decoder": {"type": "ByteFallback"},
    }
    return json.dumps(document).encode()


def _tokenizer_config() -> bytes:
    return json.dumps(
        {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    ).encode()
