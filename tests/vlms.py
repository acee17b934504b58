"""Tiny models of every family that sees or hears, made with transformers' own classes, and plain siblings of theirs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = 32
"""Tokens of a plain sibling; a model that sees has eight more."""
ROWS = WORDS + 8
MARK = WORDS
MARKS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
"""The token that a picture, or a sound, is put in the place of."""

_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": ROWS,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EYE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_SQUARE = {**_EYE, "image_size": 16, "patch_size": 8}
_QWEN_EYE = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 4,
    "out_hidden_size": 16,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_QWEN_MARKS = {"video_token_id": MARK + 1, "vision_start_token_id": MARK + 2, "vision_end_token_id": MARK + 3}
_GRID = {"image_grid_thw": torch.tensor([[1, 4, 4]])}


def _pixels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


@dataclass(frozen=True)
class Family:
    """`whole`: the class that sees; `plain`: that of a text model of its shapes; `text`: what its language model has
    beyond the usual; `eyes`: all else of its configuration. `shown`: what it is given of a picture, `marks`: how many
    tokens that is."""

    whole: str
    plain: str
    text: Mapping[str, Any]
    eyes: Mapping[str, Any]
    shown: Callable[[], Mapping[str, torch.Tensor]]
    marks: int
    sees: str = "image_token_id"
    around: tuple[list[int], list[int]] = ([], [])

    @property
    def question(self) -> dict[str, torch.Tensor]:
        """A picture, or a sound, and some words, as its processor would give them."""
        before, after = self.around
        ids = torch.tensor([[1, *before, *[MARK] * self.marks, *after, 5, 7, 9]])
        kinds = {"mm_token_type_ids": (ids == MARK).long()} if before else {}
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **kinds, **self.shown()}


def _llava() -> dict[str, torch.Tensor]:
    return {"pixel_values": _pixels(1, 3, 16, 16)}


def _qwen(depth: int, patch: int) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {"pixel_values": _pixels(16, 3 * depth * patch * patch), **_GRID}


FAMILIES: dict[str, Family] = {
    "llava": Family(
        "LlavaForConditionalGeneration",
        "LlamaForCausalLM",
        {"model_type": "llama"},
        {"vision_config": {"model_type": "clip_vision_model", **_SQUARE}, "vision_feature_layer": -1},
        _llava,
        4,
        "image_token_index",
    ),
    "llava_next": Family(
        "LlavaNextForConditionalGeneration",
        "MistralForCausalLM",
        {"model_type": "mistral"},
        {
            "vision_config": {"model_type": "clip_vision_model", **_SQUARE},
            "vision_feature_layer": -1,
            "image_grid_pinpoints": [[16, 16]],
        },
        lambda: {"pixel_values": _pixels(1, 2, 3, 16, 16), "image_sizes": torch.tensor([[16, 16]])},
        10,
        "image_token_index",
    ),
    "qwen2_vl": Family(
        "Qwen2VLForConditionalGeneration",
        "Qwen2ForCausalLM",
        {"model_type": "qwen2_vl_text", "rope_parameters": _ROPE, "max_window_layers": 2},
        {
            "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4},
            **_QWEN_MARKS,
        },
        _qwen(2, 4),
        4,
        around=([MARK + 2], [MARK + 3]),
    ),
    "qwen2_5_vl": Family(
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2ForCausalLM",
        {"model_type": "qwen2_5_vl_text", "rope_parameters": _ROPE, "max_window_layers": 2},
        {
            "vision_config": {**_QWEN_EYE, "window_size": 16, "fullatt_block_indexes": [1]},
            **_QWEN_MARKS,
        },
        _qwen(2, 4),
        4,
        around=([MARK + 2], [MARK + 3]),
    ),
    "qwen3_vl": Family(
        "Qwen3VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        {"model_type": "qwen3_vl_text", "rope_parameters": {**_ROPE, "mrope_interleaved": True}},
        {
            "vision_config": {**_QWEN_EYE, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
            **_QWEN_MARKS,
        },
        _qwen(2, 4),
        4,
        around=([MARK + 2], [MARK + 3]),
    ),
    "gemma3": Family(
        "Gemma3ForConditionalGeneration",
        "Gemma3ForCausalLM",
        {
            "model_type": "gemma3_text",
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        {"vision_config": {"model_type": "siglip_vision_model", **_SQUARE}, "mm_tokens_per_image": 4},
        _llava,
        4,
        "image_token_index",
    ),
    "smolvlm": Family(
        "SmolVLMForConditionalGeneration",
        "LlamaForCausalLM",
        {"model_type": "llama"},
        {"vision_config": {**_SQUARE, "patch_size": 4}, "scale_factor": 2},
        lambda: {"pixel_values": _pixels(1, 1, 3, 16, 16)},
        4,
    ),
    "mistral3": Family(
        "Mistral3ForConditionalGeneration",
        "MistralForCausalLM",
        {"model_type": "mistral"},
        {
            "vision_config": {"model_type": "pixtral", **_SQUARE, "patch_size": 4, "head_dim": 8},
            "vision_feature_layer": -1,
        },
        lambda: {"pixel_values": _pixels(1, 3, 16, 16), "image_sizes": torch.tensor([[16, 16]])},
        4,
        "image_token_index",
    ),
    "internvl": Family(
        "InternVLForConditionalGeneration",
        "Qwen2ForCausalLM",
        {"model_type": "qwen2"},
        {"vision_config": {**_SQUARE, "image_size": [16, 16], "patch_size": [4, 4]}, "downsample_ratio": 0.5},
        _llava,
        4,
    ),
    "paligemma": Family(
        "PaliGemmaForConditionalGeneration",
        "GemmaForCausalLM",
        {"model_type": "gemma"},
        {
            "vision_config": {"model_type": "siglip_vision_model", **_SQUARE, "projection_dim": 16},
            "projection_dim": 16,
        },
        _llava,
        4,
        "image_token_index",
    ),
    "qwen2_audio": Family(
        "Qwen2AudioForConditionalGeneration",
        "Qwen2ForCausalLM",
        {"model_type": "qwen2"},
        {
            "audio_config": {
                "d_model": 16,
                "encoder_layers": 2,
                "encoder_attention_heads": 2,
                "encoder_ffn_dim": 32,
                "num_mel_bins": 8,
                "max_source_positions": 8,
            }
        },
        lambda: {"input_features": _pixels(1, 8, 16), "feature_attention_mask": torch.ones(1, 16, dtype=torch.long)},
        4,
        "audio_token_index",
    ),
    "voxtral": Family(
        "VoxtralForConditionalGeneration",
        "LlamaForCausalLM",
        {"model_type": "llama"},
        {
            "audio_config": {
                "hidden_size": 16,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_mel_bins": 8,
                "max_source_positions": 8,
            }
        },
        lambda: {"input_features": _pixels(1, 8, 16)},
        2,
        "audio_token_id",
    ),
}
FAMILIES["idefics3"] = replace(FAMILIES["smolvlm"], whole="Idefics3ForConditionalGeneration")


def make_whole(family: str, folder: Path, seed: int, tied: bool = False, newer: bool = False, **text: Any) -> Path:
    """Saves a model that sees, or hears; `newer`: under the names that transformers has had since 4.52."""
    import transformers

    one = FAMILIES[family]
    kind = getattr(transformers, one.whole)
    text = {**_TEXT, **one.text, "tie_word_embeddings": tied, **text}
    config = kind.config_class(text_config=text, **{one.sees: MARK}, **one.eyes, tie_word_embeddings=tied)
    return _save(kind, config, folder, seed, ROWS, save_original_format=not newer)


def make_plain(family: str, folder: Path, seed: int, tied: bool = False, **text: Any) -> Path:
    """Saves a text model of the shapes that the language model of a family has, but for the tokens of pictures."""
    import transformers

    kind = getattr(transformers, FAMILIES[family].plain)
    beside = {
        name: value for name, value in FAMILIES[family].text.items() if name not in ("model_type", "rope_parameters")
    }
    config = kind.config_class(**{**_TEXT, **beside, "vocab_size": WORDS, "tie_word_embeddings": tied, **text})
    return _save(kind, config, folder, seed, WORDS)


def _save(kind: Any, config: Any, folder: Path, seed: int, words: int, **how: bool) -> Path:
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # norms and biases differ, too
    model.save_pretrained(folder, **how)
    known = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(WORDS - 4)), *MARKS]
    known += [f"<mark{number}>" for number in range(len(known), words)]
    core = Tokenizer(models.WordLevel({word: at for at, word in enumerate(known[:words])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)
    return folder


def loaded(family: str, folder: Path, plain: bool = False) -> Any:
    """The model by transformers alone, which must find all that it looks for, and nothing else."""
    import transformers

    kind = getattr(transformers, FAMILIES[family].plain if plain else FAMILIES[family].whole)
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"], told
    return model.eval()


def spoken(model: Any) -> dict[str, torch.Tensor]:
    """The language model's weights in memory, by the names of a plain one; a head that is tied is there as well."""
    own = {f"model.{name}": tensor for name, tensor in model.get_decoder().named_parameters()}
    return {**own, "lm_head.weight": model.get_output_embeddings().weight}


def add_processor(family: str, folder: Path, template: bool = True) -> Path:
    """Saves what makes tokens and pixels for a model of those families whose processor needs no torchvision."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    kind: Any
    if family == "llava":
        size = {"shortest_edge": 16}
        kind = transformers.CLIPImageProcessor(size=size, crop_size={"height": 16, "width": 16})
        marks = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        processor: Any = transformers.LlavaProcessor(kind, tokenizer, image_token="<image>", **marks)
    elif family == "smolvlm":
        size = {"longest_edge": 16}
        kind = transformers.SmolVLMImageProcessor(size=size, max_image_size=size, do_image_splitting=False)
        processor = transformers.Idefics3Processor(kind, tokenizer, image_seq_len=4)
    else:
        kind = transformers.SiglipImageProcessor(size={"height": 16, "width": 16})
        kind.image_seq_length = 4
        processor = transformers.PaliGemmaProcessor(kind, tokenizer)
    if template:
        processor.tokenizer.chat_template = TEMPLATE
    processor.save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for message in messages %}{{ '<s> ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image> ' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '</s> ' }}{% endif %}"
)
"""A chat template that puts a mark where a picture is."""
