"""Tiny models of many architectures, with heads that are tied, untied, or tied in the settings and yet stored apart."""

import functools
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from streamtools import rewrite, weights

_TEXT = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
_PLAIN = {**_TEXT, "max_position_embeddings": 64}
_GROUPED = {**_PLAIN, "num_key_value_heads": 1}
_WIDE = {**_GROUPED, "head_dim": 8}
_T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2}
_BART = {
    "vocab_size": 64,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
}
_IMAGE = {**_TEXT, "image_size": 16, "patch_size": 8}
del _IMAGE["vocab_size"]
_SPEECH = {
    **_TEXT,
    "conv_dim": (16, 16),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# How a head is stored. "other": the settings tie it, and the file holds another one, which transformers computes with.
TIED, UNTIED, OTHER = "tied", "untied", "other"


@dataclass(frozen=True)
class Architecture:
    """A class of transformers, the settings that make it tiny, and what it is asked with."""

    name: str
    model: str
    settings: Mapping[str, Any]
    asked: str = "text"
    heads: tuple[str, ...] = ("",)
    stacks: bool = True
    head: str = "lm_head.weight"
    configuration: str = field(default="")

    def build(self, seed: int, head: str) -> Any:
        """A model in evaluation mode; all its weights are drawn, those that start at 0 or 1 as well."""
        torch.manual_seed(seed)
        tied = {} if head == "" else {"tie_word_embeddings": head != UNTIED}
        cls = getattr(transformers, self.model)
        config = (getattr(transformers, self.configuration) if self.configuration else cls.config_class)(
            **{**_SPECIAL, **self.settings, **tied}
        )
        model = cls(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
        return model.eval()

    def save(self, folder: Path, seed: int, head: str) -> Path:
        """Writes the model `seed` to `folder`."""
        self.build(seed, head).save_pretrained(folder)
        if head == OTHER:
            shape = next(t.shape for t in weights(folder).values() if t.ndim == 2 and len(t) == 64)
            rewrite(folder, {self.head: torch.randn(shape)})
        return folder

    def load(self, folder: Path) -> tuple[Any, Mapping[str, Any]]:
        """The model as a plain from_pretrained reads it, and what that says about its weights."""
        cls = getattr(transformers, self.model)
        model, told = cls.from_pretrained(folder, output_loading_info=True)
        return model.eval(), told

    def ask(self, model: Any) -> torch.Tensor:
        """What a model computes from fixed inputs."""
        torch.manual_seed(5)
        with torch.no_grad():
            given = model(**_questions(self.asked))
        return given["logits"] if "logits" in given else given[0]


def _questions(kind: str) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 9, 33, 7, 41, 8, 12, 60]])
    if kind == "text":
        return {"input_ids": ids}
    if kind == "both":
        return {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
    if kind == "image":
        return {"pixel_values": torch.randn(1, 3, 16, 16)}
    if kind == "wave":
        return {"input_values": torch.randn(1, 400)}
    if kind == "whisper":
        return {"input_features": torch.randn(1, 8, 32), "decoder_input_ids": ids[:, :4]}
    raise ValueError(kind)


_ALL = (TIED, UNTIED, OTHER)
_BOTH = (TIED, UNTIED)


def _decoders() -> Iterator[Architecture]:
    for name, settings in (
        ("Llama", _GROUPED),
        ("Mistral", _WIDE),
        ("Qwen2", _GROUPED),
        ("Qwen3", _WIDE),
        ("Gemma", _WIDE),
        ("Gemma2", _WIDE),
        ("Olmo2", _GROUPED),
        ("Cohere", _GROUPED),
        ("SmolLM3", _GROUPED),
    ):
        yield Architecture(name.lower(), f"{name}ForCausalLM", settings, heads=_ALL)
    for name, settings in (("Phi", _GROUPED), ("Phi3", _GROUPED), ("StableLm", _GROUPED), ("Granite", _GROUPED)):
        yield Architecture(name.lower(), f"{name}ForCausalLM", settings, heads=_BOTH)
    yield Architecture("starcoder2", "Starcoder2ForCausalLM", _GROUPED, heads=_BOTH)
    yield Architecture("gemma3", "Gemma3ForCausalLM", {**_WIDE, "sliding_window": 8}, heads=_ALL)
    gpt2 = {"vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
    yield Architecture("gpt2", "GPT2LMHeadModel", gpt2, heads=_ALL)
    yield Architecture("gptj", "GPTJForCausalLM", {**gpt2, "rotary_dim": 4}, heads=_BOTH)
    neo = {**_TEXT, "num_layers": 4, "num_heads": 2, "attention_types": [[["global", "local"], 2]]}
    neo = {k: v for k, v in neo.items() if k not in ("num_hidden_layers", "num_attention_heads")}
    yield Architecture("gpt_neo", "GPTNeoForCausalLM", {**neo, "max_position_embeddings": 64}, heads=_BOTH)
    yield Architecture("gpt_neox", "GPTNeoXForCausalLM", _PLAIN, heads=_BOTH, head="embed_out.weight")
    yield Architecture("falcon", "FalconForCausalLM", {**_TEXT, "num_kv_heads": 2}, heads=_BOTH)
    bloom = {"vocab_size": 64, "hidden_size": 16, "n_layer": 3, "n_head": 2}
    yield Architecture("bloom", "BloomForCausalLM", bloom, heads=_BOTH)
    opt = {**_PLAIN, "ffn_dim": 32, "word_embed_proj_dim": 16}
    yield Architecture("opt", "OPTForCausalLM", opt, heads=_ALL)
    mamba = {"vocab_size": 64, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 3, "intermediate_size": 32}
    yield Architecture("mamba", "MambaForCausalLM", mamba, heads=_BOTH)


def _experts() -> Iterator[Architecture]:
    yield Architecture("mixtral", "MixtralForCausalLM", {**_WIDE, "num_local_experts": 4}, heads=_ALL)
    few = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    yield Architecture("qwen3_moe", "Qwen3MoeForCausalLM", {**_WIDE, **few}, heads=_BOTH)
    shared = {**_GROUPED, **few, "shared_expert_intermediate_size": 16}
    yield Architecture("qwen2_moe", "Qwen2MoeForCausalLM", shared, heads=_BOTH)
    yield Architecture("olmoe", "OlmoeForCausalLM", {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2})


def _encoders() -> Iterator[Architecture]:
    decoder = "lm_head.decoder.weight"
    for name in ("Roberta", "XLMRoberta", "Camembert"):
        yield Architecture(name.lower(), f"{name}ForMaskedLM", _PLAIN, heads=_ALL, head=decoder)
    yield Architecture("esm", "EsmForMaskedLM", {**_PLAIN, "mask_token_id": 3}, heads=_BOTH, head=decoder)
    yield Architecture("mpnet", "MPNetForMaskedLM", _PLAIN, heads=_BOTH, head=decoder)
    window = {**_PLAIN, "attention_window": [4, 4, 4], "max_position_embeddings": 64}
    yield Architecture("longformer", "LongformerForMaskedLM", window, heads=_BOTH, head=decoder)
    yield Architecture("bert", "BertForMaskedLM", _PLAIN, heads=_ALL, head="cls.predictions.decoder.weight")
    labels = {**_PLAIN, "num_labels": 3}
    for name in ("Bert", "Roberta", "Electra", "ModernBert"):
        yield Architecture(f"{name.lower()}-labels", f"{name}ForSequenceClassification", labels)
    rembert = {**_PLAIN, "input_embedding_size": 32, "output_embedding_size": 32, "hidden_size": 32}
    yield Architecture("rembert", "RemBertForMaskedLM", {**rembert, "bos_token_id": 1, "eos_token_id": 2})
    yield Architecture("electra", "ElectraForMaskedLM", {**_PLAIN, "embedding_size": 16}, heads=_BOTH)
    distil = {"vocab_size": 64, "dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "max_position_embeddings": 64}
    yield Architecture("distilbert", "DistilBertForMaskedLM", distil, heads=_BOTH)
    yield Architecture("deberta", "DebertaV2ForMaskedLM", {**_PLAIN, "relative_attention": True}, heads=_BOTH)
    yield Architecture("modernbert", "ModernBertForMaskedLM", _PLAIN, heads=_BOTH, head="decoder.weight")
    yield Architecture("llama-labels", "LlamaForSequenceClassification", {**_GROUPED, "num_labels": 3})
    yield Architecture("qwen3-labels", "Qwen3ForTokenClassification", {**_WIDE, "num_labels": 3})


def _both_ends() -> Iterator[Architecture]:
    for name in ("T5", "MT5"):
        yield Architecture(name.lower(), f"{name}ForConditionalGeneration", _T5, "both", _BOTH, stacks=False)
    for name in ("Bart", "MBart", "Marian"):
        model = f"{name}MTModel" if name == "Marian" else f"{name}ForConditionalGeneration"
        settings = {**_BART, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
        yield Architecture(name.lower(), model, settings, "both", stacks=False)
    pegasus = {**_BART, "decoder_start_token_id": 0}
    yield Architecture("pegasus", "PegasusForConditionalGeneration", pegasus, "both", stacks=False)


def _sights_and_sounds() -> Iterator[Architecture]:
    image = {**_IMAGE, "num_labels": 3}
    for name in ("ViT", "DeiT", "Dinov2", "Beit"):
        yield Architecture(name.lower(), f"{name}ForImageClassification", image, "image")
    clip = {**_IMAGE, "projection_dim": 8}
    yield Architecture("clip_vision", "CLIPVisionModelWithProjection", clip, "image", configuration="CLIPVisionConfig")
    for name in ("Wav2Vec2", "Hubert", "WavLM"):
        yield Architecture(name.lower(), f"{name}ForCTC", _SPEECH, "wave")
    whisper = {k: v for k, v in _BART.items() if k != "max_position_embeddings"}
    whisper |= {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 32, "decoder_start_token_id": 1}
    yield Architecture("whisper", "WhisperForConditionalGeneration", whisper, "whisper", stacks=False)


ARCHITECTURES = (*_decoders(), *_experts(), *_encoders(), *_both_ends(), *_sights_and_sounds())
CASES = {f"{a.name}-{head}" if head else a.name: (a, head) for a in ARCHITECTURES for head in a.heads}


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hubmerge-architectures-")


@functools.cache
def folder_of(case: str, seed: int) -> Path:
    """The folder of a case's model number `seed`, made once."""
    architecture, head = CASES[case]
    with third_parties_warn():
        return architecture.save(Path(_root().name) / f"{case}-{seed}", seed, head)


@contextmanager
def third_parties_warn() -> Iterator[None]:
    """What transformers and torch warn of while they make tiny models is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
