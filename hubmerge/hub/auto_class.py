"""Which class of transformers or diffusers opens a model, and for which task the Hub lists it: told by its settings,
without these libraries."""

import re
from collections.abc import Mapping
from typing import Any

CAUSAL, SEEING, BOTH_ENDS = "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM"
HEARING, WRITING = "AutoModelForMultimodalLM", "AutoModelForSpeechSeq2Seq"
ANSWERING = (CAUSAL, SEEING, HEARING)
"""Classes of what hubmerge can ask: text goes in, more text comes out."""
IMAGES = ("AutoModelForImageClassification", "AutoModelForObjectDetection", "AutoModelForSemanticSegmentation")
SOUNDS = ("AutoModelForCTC", "AutoModelForAudioClassification", WRITING)
"""Classes of what is shown a picture alone, and of what hears alone."""

TO_IMAGE = "text-to-image"
_DRAWING = (
    ("text-to-video", re.compile(r"Video|^(?:Wan|LTX|Mochi|Allegro|SkyReels)")),
    ("text-to-audio", re.compile(r"Audio|Music")),
    ("image-to-image", re.compile(r"Img2Img|Inpaint|Edit|Upscale|Kontext")),
)
"""What pipelines do other than make a picture of words."""

_TASKS: Mapping[str, str] = {
    CAUSAL: "text-generation",
    SEEING: "image-text-to-text",
    BOTH_ENDS: "text-generation",
    HEARING: "audio-text-to-text",
    WRITING: "automatic-speech-recognition",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForObjectDetection": "object-detection",
    "AutoModelForSemanticSegmentation": "image-segmentation",
    "AutoModelForDepthEstimation": "depth-estimation",
    "AutoModelForVideoClassification": "video-classification",
    "AutoModelForCTC": "automatic-speech-recognition",
    "AutoModelForAudioClassification": "audio-classification",
}
"""The Hub's tasks (https://huggingface.co/tasks); text2text-generation is no longer one of them."""

_HEADS = tuple(
    name.removeprefix("AutoModelFor") for name in _TASKS if name not in (SEEING, BOTH_ENDS, HEARING, WRITING)
)
_WITH_PICTURES = ("ForConditionalGeneration", "ForVisionText2Text", "ForImageTextToText")
_WRITES_DOWN = ("Whisper", "Moonshine", "Speech2Text", "KyutaiSpeechToText")
_HEARD = ("conv_dim", "feature_projection_input_dim")
"""Settings of encoders of sound, whose classes are called as those of text."""


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
    if name.endswith("ForSequenceClassification") and not config.keys().isdisjoint(_HEARD):
        return "AutoModelForAudioClassification"
    for head in _HEADS:
        if name.endswith(f"For{head}"):
            return f"AutoModelFor{head}"
    if name.endswith("LMHeadModel"):
        return "AutoModelForMaskedLM" if name.startswith("Flaubert") else CAUSAL
    if name.startswith(_WRITES_DOWN) and name.endswith("ForConditionalGeneration"):
        return WRITING
    if isinstance(config.get("vision_config"), Mapping) and (name.endswith(_WITH_PICTURES) or not name):
        return SEEING
    if isinstance(config.get("audio_config"), Mapping) and name.endswith("ForConditionalGeneration"):
        return HEARING
    if config.get("is_encoder_decoder") is True and name.endswith(("ForConditionalGeneration", "MTModel")):
        return BOTH_ENDS
    return "AutoModel" if name else CAUSAL


def task_of(config: Mapping[str, Any]) -> str | None:
    """The Hub's name of what a model or a pipeline is for (`pipeline_tag`); None where its class does not tell.

    >>> [task_of({"_class_name": name}) for name in ("FluxPipeline", "WanPipeline", "UNet2DConditionModel")]
    ['text-to-image', 'text-to-video', None]
    >>> task_of({"architectures": ["BertForMaskedLM"]}), task_of({"architectures": ["CLIPModel"], "vision_config": {}})
    ('fill-mask', 'zero-shot-image-classification')
    """
    if (own := class_of(config)) is not None:
        drawn = next((task for task, pattern in _DRAWING if pattern.search(own)), TO_IMAGE)
        return drawn if own.endswith("Pipeline") else None
    if (name := auto_class(config)) != "AutoModel":
        return _TASKS[name]
    if config.get("vision_config") is not None:
        return "zero-shot-image-classification"
    if config.get("image_size") is not None:
        return "image-feature-extraction"
    return "feature-extraction" if isinstance(config.get("vocab_size"), int) else None
