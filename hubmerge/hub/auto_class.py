"""Which class of transformers or diffusers opens a model: told by its settings, without these libraries."""

import re
from collections.abc import Mapping
from typing import Any

CAUSAL, SEEING, BOTH_ENDS = "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM"
HEARING = "AutoModelForMultimodalLM"
ANSWERING = (CAUSAL, SEEING, HEARING)
"""Classes of what hubmerge can ask: text goes in, more text comes out."""

TO_IMAGE = "text-to-image"
_TASKS = (
    ("text-to-video", re.compile(r"Video|^(?:Wan|LTX|Mochi|Allegro|SkyReels)")),
    ("text-to-audio", re.compile(r"Audio|Music")),
    ("image-to-image", re.compile(r"Img2Img|Inpaint|Edit|Upscale|Kontext")),
)
"""What pipelines do other than make a picture of words."""

_HEADS = ("CausalLM", "MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering")
_WITH_PICTURES = ("ForConditionalGeneration", "ForVisionText2Text", "ForImageTextToText")


def class_of(config: Mapping[str, Any]) -> str | None:
    """The class of diffusers that opens a model or a pipeline; None for what is not diffusers'. One that comes with
    its code in the repository stands for no name that an installation has.

    >>> class_of({"_class_name": "FluxPipeline"}), class_of({"_class_name": ["pipeline", "Mine"]}), class_of({})
    ('FluxPipeline', 'DiffusionPipeline', None)
    """
    if (kind := config.get("_class_name")) is None:
        return None
    return kind if isinstance(kind, str) and kind.isidentifier() else "DiffusionPipeline"


def auto_class(config: Mapping[str, Any]) -> str:
    """The name of the auto class; `AutoModel` where the head is none that is known. What diffusers opens names it.

    >>> auto_class({"architectures": ["LlavaForConditionalGeneration"], "vision_config": {}})
    'AutoModelForImageTextToText'
    >>> auto_class({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True})
    'AutoModelForSeq2SeqLM'
    """
    if (own := class_of(config)) is not None:
        return own
    stated = config.get("architectures")
    name = str(stated[0]) if isinstance(stated, list) and stated else ""
    for head in _HEADS:
        if name.endswith(f"For{head}"):
            return f"AutoModelFor{head}"
    if name.endswith("LMHeadModel"):
        return CAUSAL
    if isinstance(config.get("vision_config"), Mapping) and (name.endswith(_WITH_PICTURES) or not name):
        return SEEING
    if isinstance(config.get("audio_config"), Mapping) and name.endswith("ForConditionalGeneration"):
        return HEARING
    if config.get("is_encoder_decoder") is True and name.endswith(("ForConditionalGeneration", "MTModel")):
        return BOTH_ENDS
    return "AutoModel" if name else CAUSAL


def task_of(config: Mapping[str, Any]) -> str | None:
    """The Hub's word for what a model or a pipeline does; None where its class does not tell.

    >>> [task_of({"_class_name": name}) for name in ("FluxPipeline", "WanPipeline", "UNet2DConditionModel")]
    ['text-to-image', 'text-to-video', None]
    """
    name = auto_class(config)
    if not name.endswith("Pipeline"):
        return {SEEING: "image-text-to-text", CAUSAL: "text-generation"}.get(name)
    return next((task for task, pattern in _TASKS if pattern.search(name)), TO_IMAGE)
