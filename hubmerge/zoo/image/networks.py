"""The networks of the zoo that draws: a pipeline of Stable Diffusion's classes with a million weights.

The UNet has SDXL's shape, without attention at its finest level. It predicts v on latents of 8 x 8 x 4, for pictures of
32 x 32.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from .world import FRAMES, every_scene

WIDTH = 64
"""Of what a text encoder makes of a token."""
LONGEST = 12
"""Tokens of a prompt, with its beginning and end."""
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def prompts(lang: str) -> list[str]:
    """All prompts of the world in a language."""
    return [scene.say(frame, lang) for scene in every_scene() for frame in FRAMES]


def new_tokenizer(lang: str) -> PreTrainedTokenizerFast:
    """A token a word in English, a token a sign in Japanese."""
    cut = pre_tokenizers.Whitespace() if lang == "en" else pre_tokenizers.Split(Regex("."), "isolated")
    words: dict[str, None] = {}
    for prompt in prompts(lang):
        words |= {word: None for word, _ in cut.pre_tokenize_str(prompt)}
    vocabulary = {word: at for at, word in enumerate([*_SPECIAL, *sorted(words)])}
    pad, begin, end, unknown = _SPECIAL
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = cut
    ends = [(begin, vocabulary[begin]), (end, vocabulary[end])]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=begin,
        eos_token=end,
        unk_token=unknown,
        model_max_length=LONGEST,
    )


def new_text_encoder(tokenizer: PreTrainedTokenizerFast) -> CLIPTextModel:
    """Two layers that have learnt nothing."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LONGEST,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """One that has learnt nothing."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def new_vae() -> AutoencoderTiny:
    """From 32 x 32 x 3 to 8 x 8 x 4."""
    widths = (24, 24, 24)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(0, 1, 1),
        num_decoder_blocks=(1, 1, 0),
        latent_channels=4,
    )


def new_scheduler() -> DDIMScheduler:
    """Steps that end in no noise, and begin in nothing else (Lin et al. 2024, https://arxiv.org/abs/2305.08891)."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # which trailing steps do not have, and the pipeline insists on
    )


def token_ids(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> torch.Tensor:
    """As a pipeline gives them to its text encoder: int64 (n, LONGEST)."""
    return tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
    ).input_ids


class Drawing:
    """A whole pipeline as `trained` saves models."""

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self.pipeline = pipeline

    @classmethod
    def of(
        cls,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerFast,
        vae: AutoencoderTiny,
    ) -> "Drawing":
        """The pipeline of these parts."""
        return cls(
            StableDiffusionPipeline(
                unet=unet,
                text_encoder=text_encoder,
                tokenizer=tokenizer,
                vae=vae,
                scheduler=new_scheduler(),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        )

    @classmethod
    def from_pretrained(cls, folder: Path, dtype: torch.dtype) -> "Drawing":
        """The pipeline in a folder."""
        return cls(StableDiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True))

    def half(self) -> "Drawing":
        """It in float16."""
        self.pipeline.to(torch.float16)
        return self

    def save_pretrained(self, folder: Path) -> None:
        """Writes it as diffusers does."""
        self.pipeline.save_pretrained(folder)

    def num_parameters(self) -> int:
        """Of its three networks."""
        parts: tuple[Any, ...] = (self.pipeline.unet, self.pipeline.text_encoder, self.pipeline.vae)
        return sum(one.numel() for part in parts for one in part.parameters())
