"""Tiny models that mergekit's own tests merge, of random weights."""

from pathlib import Path
from typing import Any


def make_model(folder: Path, kind: str, **config: Any) -> str:
    """A tiny model with random weights, saved in float32."""
    import transformers

    made = getattr(transformers, f"{kind}Config")(**config)
    transformers.AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    return str(folder)


LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 8,
}


def make_picollama(folder: Any, vocab_size: int = 64) -> str:
    return make_model(Path(folder), "Llama", vocab_size=vocab_size, **LLAMA)


def make_gpt2size(folder: Any, vocab_size: int = 64) -> str:
    return make_model(Path(folder), "GPT2", vocab_size=vocab_size, n_ctx=32, n_embd=32, n_head=4, n_layer=12)


def make_picogranite(folder: Any, vocab_size: int = 64) -> str:
    return make_model(Path(folder), "Granite", vocab_size=vocab_size, **LLAMA)


def make_picollava(folder: Any) -> str:
    import transformers

    text = transformers.LlamaConfig(vocab_size=64, **LLAMA)
    vision = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_attention_heads=4, num_hidden_layers=2, image_size=32, patch_size=16
    )
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=63)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)
