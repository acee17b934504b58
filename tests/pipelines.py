"""Tiny pipelines of diffusers' own classes, with random weights: SD 1.5, SDXL, SD 3, FLUX and Z-Image."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

WORDS = ("<pad>", "<s>", "</s>", "<unk>", *(f"w{n}" for n in range(28)))

CLIP = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "projection_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
T5 = {"vocab_size": len(WORDS), "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
BLOCKS = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 16,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=16,
        chat_template="{{ messages[0]['content'] }}",
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        shift_factor=0.0,
        scaling_factor=1.0,
    )


def _clip(projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(CLIPTextConfig(**CLIP))


def _t5(width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**T5, d_model=width))


def _texts(*encoders: Any) -> dict[str, Any]:
    """Text encoders, each with a tokenizer, by the names that pipelines have for them."""
    ends = ("", "_2", "_3")[: len(encoders)]
    models = {f"text_encoder{end}": one for end, one in zip(ends, encoders, strict=True)}
    return {"vae": _vae(), **models, **{f"tokenizer{end}": tokenizer() for end in ends}}


def _sd15() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    return StableDiffusionPipeline(
        **_texts(_clip()),
        unet=UNet2DConditionModel(**UNET),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "use_linear_projection": True}
    return StableDiffusionXLPipeline(
        **_texts(_clip(), _clip(True)),
        unet=UNet2DConditionModel(
            **{**UNET, **more, "cross_attention_dim": 32, "projection_class_embeddings_input_dim": 40}
        ),
        scheduler=EulerDiscreteScheduler(),
    )


def _sd3() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    sizes = {"sample_size": 8, "patch_size": 1, "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 8}
    inner = {"joint_attention_dim": 32, "caption_projection_dim": 16, "pooled_projection_dim": 32}
    transformer = SD3Transformer2DModel(**BLOCKS, **sizes, **inner)
    texts = _texts(_clip(True), _clip(True), _t5(32))
    return StableDiffusion3Pipeline(transformer=transformer, **texts, scheduler=FlowMatchEulerDiscreteScheduler())


def _flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    inner = {"joint_attention_dim": 16, "pooled_projection_dim": 16, "axes_dims_rope": (2, 2, 4)}
    transformer = FluxTransformer2DModel(**BLOCKS, **inner, in_channels=16, num_single_layers=3)
    texts = _texts(_clip(), _t5())
    return FluxPipeline(transformer=transformer, **texts, scheduler=FlowMatchEulerDiscreteScheduler())


def _z_image() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    text = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=16,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[2, 2, 4],
            axes_lens=[64, 16, 16],
        ),
        **_texts(Qwen3Model(Qwen3Config(**text, **heads))),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "sd15": _sd15,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux": _flux,
    "z_image": _z_image,
}


@cache
def built(kind: str) -> Any:
    """A pipeline of a kind, made once a process."""
    torch.manual_seed(0)
    pipeline = PIPELINES[kind]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save(kind: str, folder: Path, seed: int, **how: Any) -> Path:
    """A pipeline with random weights of its own in a folder, as diffusers saves it; `how`: variant, max_shard_size."""
    pipeline = built(kind)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in pipeline.components.values():
            for parameter in part.parameters() if isinstance(part, torch.nn.Module) else ():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    pipeline.save_pretrained(folder, **how)
    return folder


def save_lookers(root: Path, labels: Sequence[str]) -> None:
    """An image classifier of these labels, and a CLIP model, of random weights, in folders of these names."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessorPil,
    )

    torch.manual_seed(5)
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    named = dict(enumerate(labels))
    config = ViTConfig(**vision, image_size=16, patch_size=4, id2label=named, label2id={v: k for k, v in named.items()})
    ViTForImageClassification(config).save_pretrained(root / "classifier")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(root / "classifier")
    both = CLIPConfig(text_config=CLIP, vision_config={**vision, "image_size": 16, "patch_size": 4}, projection_dim=16)
    CLIPModel(both).save_pretrained(root / "clip")
    eyes = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(eyes, tokenizer()).save_pretrained(root / "clip")


def picture(pipeline: Any) -> torch.Tensor:
    """Two steps of a pipeline from one seed, as numbers."""
    pipeline.set_progress_bar_config(disable=True)
    found = pipeline(
        "w1 w2",
        num_inference_steps=2,
        height=16,
        width=16,
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    )
    return torch.from_numpy(found.images)


_UNET = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)


def original(name: str) -> str:
    """What the first authors call a tensor of the UNet above, with one layer a block, in a file of a whole pipeline."""
    kind, *rest = name.split(".")
    if kind in ("down_blocks", "up_blocks"):
        level, inside, number, *rest = rest
        side, first = ("input", 2 * int(level) + 1) if kind == "down_blocks" else ("output", 2 * int(level))
        within = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 2 if level == "0" else 1}[inside]
        layer = 1 if "samplers" in inside else int(number)
        if inside == "downsamplers":
            rest[0] = "op"
        place = f"{side}_blocks.{first + layer}.{within}"
    elif kind == "mid_block":
        inside, number, *rest = rest
        place = f"middle_block.{1 if inside == 'attentions' else 2 * int(number)}"
    else:
        place, inside, rest = "", "", [kind, *rest]
    told = ".".join(rest)
    for ours, theirs in _UNET if inside in ("resnets", "") else ():
        told = theirs + told[len(ours) :] if told.startswith(f"{ours}.") else told
    return "model.diffusion_model." + ".".join(filter(None, (place, told)))
