"""The image models of Akiba et al. 2024, https://arxiv.org/abs/2403.13187: pipelines of SDXL's shapes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .model import GeneratedFile, GeneratedModel

Shapes = Mapping[str, tuple[int, ...]]

_CHANNELS = (320, 640, 1280)
_DEPTHS = (0, 2, 10)  # transformer blocks of an attention, by level
_TIME, _WORDS, _ADDED = 1280, 2048, 2816
_VAE = (128, 256, 512, 512)

UNET_CONFIG: Mapping[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": list(_CHANNELS),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": _WORDS,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": _ADDED,
    "use_linear_projection": True,
    "sample_size": 128,
}
VAE_CONFIG: Mapping[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": list(_VAE),
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}


def unet() -> Shapes:
    """The tensors of SDXL's UNet."""
    shapes = dict(_conv("conv_in", 4, 320))
    for name, (into, out) in {"time": (320, _TIME), "add": (_ADDED, _TIME)}.items():
        shapes |= {
            **_linear(f"{name}_embedding.linear_1", into, out),
            **_linear(f"{name}_embedding.linear_2", out, out),
        }
    before = _CHANNELS[0]
    skips = [before]
    for level, (width, depth) in enumerate(zip(_CHANNELS, _DEPTHS, strict=True)):
        for number in range(2):
            shapes |= _layer(f"down_blocks.{level}", number, before, width, depth)
            before = width
            skips.append(width)
        if level < 2:
            shapes |= _conv(f"down_blocks.{level}.downsamplers.0.conv", width, width)
            skips.append(width)
    shapes |= _layer("mid_block", 0, before, before, _DEPTHS[-1])
    shapes |= _layer("mid_block", 1, before, before, 0)
    for level, (width, depth) in enumerate(zip(reversed(_CHANNELS), reversed(_DEPTHS), strict=True)):
        for number in range(3):
            shapes |= _layer(f"up_blocks.{level}", number, before + skips.pop(), width, depth)
            before = width
        if level < 2:
            shapes |= _conv(f"up_blocks.{level}.upsamplers.0.conv", width, width)
    return {**shapes, **_norm("conv_norm_out", before), **_conv("conv_out", before, 4)}


def vae() -> Shapes:
    """The tensors of its autoencoder."""
    shapes: dict[str, tuple[int, ...]] = {}
    for end, block, widths, layers in (("encoder", "down", _VAE, 2), ("decoder", "up", _VAE[::-1], 3)):
        before = widths[0]
        shapes |= _conv(f"{end}.conv_in", 3 if end == "encoder" else 4, before)
        for level, width in enumerate(widths):
            for number in range(layers):
                shapes |= _residual(f"{end}.{block}_blocks.{level}.resnets.{number}", before, width, None)
                before = width
            if level < 3:
                shapes |= _conv(f"{end}.{block}_blocks.{level}.{block}samplers.0.conv", width, width)
        middle = _VAE[-1]
        for number in range(2):
            shapes |= _residual(f"{end}.mid_block.resnets.{number}", middle, middle, None)
        inside = f"{end}.mid_block.attentions.0"
        shapes |= _norm(f"{inside}.group_norm", middle)
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= _linear(f"{inside}.{name}", middle, middle)
        shapes |= {
            **_norm(f"{end}.conv_norm_out", before),
            **_conv(f"{end}.conv_out", before, 8 if end == "encoder" else 3),
        }
    return {**shapes, **_conv("quant_conv", 8, 8, 1), **_conv("post_quant_conv", 4, 4, 1)}


def text_encoder(width: int, layers: int, words: int = 49408) -> Shapes:
    """The tensors of one of its text encoders; the wider one ends in a projection."""
    start = "text_model"
    shapes: dict[str, tuple[int, ...]] = {
        f"{start}.embeddings.token_embedding.weight": (words, width),
        f"{start}.embeddings.position_embedding.weight": (77, width),
    }
    for layer in range(layers):
        inside = f"{start}.encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{inside}.self_attn.{name}", width, width)
        shapes |= {**_norm(f"{inside}.layer_norm1", width), **_norm(f"{inside}.layer_norm2", width)}
        shapes |= {**_linear(f"{inside}.mlp.fc1", width, 4 * width), **_linear(f"{inside}.mlp.fc2", 4 * width, width)}
    shapes |= _norm(f"{start}.final_layer_norm", width)
    return shapes if width == 768 else {**shapes, "text_projection.weight": (width, width)}


def _layer(block: str, number: int, into: int, out: int, depth: int) -> dict[str, tuple[int, ...]]:
    """A residual layer of the UNet, and what attends after it, of `depth` transformer blocks."""
    shapes = _residual(f"{block}.resnets.{number}", into, out, _TIME)
    if not depth:
        return shapes
    start = f"{block}.attentions.{number}"
    shapes |= {**_norm(f"{start}.norm", out), **_linear(f"{start}.proj_in", out, out)}
    for one in range(depth):
        inside = f"{start}.transformer_blocks.{one}"
        for attention, words in (("attn1", out), ("attn2", _WORDS)):
            shapes |= {f"{inside}.{attention}.{name}.weight": (out, into) for name, into in _asked(out, words)}
            shapes |= _linear(f"{inside}.{attention}.to_out.0", out, out)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= _norm(f"{inside}.{norm}", out)
        shapes |= {**_linear(f"{inside}.ff.net.0.proj", out, 8 * out), **_linear(f"{inside}.ff.net.2", 4 * out, out)}
    return {**shapes, **_linear(f"{start}.proj_out", out, out)}


def _asked(width: int, words: int) -> Iterator[tuple[str, int]]:
    yield from (("to_q", width), ("to_k", words), ("to_v", words))


def _residual(name: str, into: int, out: int, time: int | None) -> dict[str, tuple[int, ...]]:
    shapes = {**_norm(f"{name}.norm1", into), **_conv(f"{name}.conv1", into, out)}
    shapes |= _linear(f"{name}.time_emb_proj", time, out) if time else {}
    shapes |= {**_norm(f"{name}.norm2", out), **_conv(f"{name}.conv2", out, out)}
    return shapes if into == out else {**shapes, **_conv(f"{name}.conv_shortcut", into, out, 1)}


def _conv(name: str, into: int, out: int, size: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, size, size), f"{name}.bias": (out,)}


def _linear(name: str, into: int, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


@dataclass(frozen=True)
class GeneratedPipeline:
    """Models in folders of one repository: `parts` by folder, `files` beside them, to generate like a model."""

    parts: Mapping[str, GeneratedModel]
    files: Mapping[str, bytes]

    def weights(self) -> dict[str, GeneratedFile]:
        """The files of weights by path."""
        return {
            f"{folder}/{path}": file for folder, part in self.parts.items() for path, file in part.weights().items()
        }

    def small_files(self) -> dict[str, bytes]:
        """Every other file by path."""
        inner = ((folder, part.small_files()) for folder, part in self.parts.items())
        return {f"{folder}/{path}": file for folder, files in inner for path, file in files.items()} | dict(self.files)


_CLIP = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 768,
    "num_hidden_layers": 12,
}
_CLIP_2 = {**_CLIP, "architectures": ["CLIPTextModelWithProjection"], "hidden_size": 1280, "num_hidden_layers": 32}
_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.19.0",
    "force_zeros_for_empty_prompt": True,
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def image_models() -> dict[str, GeneratedPipeline]:
    """By Hub ID: SDXL and three models tuned from it, two of them whole pipelines and one a UNet alone, in float16 and
    float32 as they are published. Weights and tokens are made up."""
    made = {}
    for seed, (repo_id, dtype) in enumerate(_REPOSITORIES.items()):
        base = 0 if seed else None
        parts = {"unet": _part(unet(), UNET_CONFIG, dtype, seed, base)}
        if repo_id.startswith("mhdang/"):
            made[repo_id] = GeneratedPipeline(parts, {})
            continue
        parts["vae"] = _part(vae(), VAE_CONFIG, dtype, seed, base)
        parts["text_encoder"] = _part(text_encoder(768, 12), _CLIP, dtype, seed, base)
        parts["text_encoder_2"] = _part(text_encoder(1280, 32), _CLIP_2, dtype, seed, base)
        files = {"model_index.json": _json(_INDEX), "scheduler/scheduler_config.json": _json({"beta_end": 0.012})}
        for folder in ("tokenizer", "tokenizer_2"):
            files[f"{folder}/vocab.json"] = _json({"<|startoftext|>": 49406, "<|endoftext|>": 49407, "made-up": seed})
            files[f"{folder}/merges.txt"] = b"#version: 0.2\n"
        made[repo_id] = GeneratedPipeline(parts, files)
    return made


_REPOSITORIES = {
    "stabilityai/stable-diffusion-xl-base-1.0": "F32",
    "mhdang/dpo-sdxl-text2image-v1": "F16",
    "RunDiffusion/Juggernaut-XL-v9": "F16",
    "stabilityai/japanese-stable-diffusion-xl": "F16",
}


def _part(shapes: Shapes, config: Mapping[str, Any], dtype: str, seed: int, base: int | None) -> GeneratedModel:
    stem = "diffusion_pytorch_model" if "_class_name" in config else "model"
    return GeneratedModel(
        config, {name: (dtype, shape) for name, shape in shapes.items()}, seed, base, 10**10, stem=stem
    )


def _json(document: object) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"
