"""Which class of transformers opens a model: told by its config.json, without transformers."""

from collections.abc import Mapping
from typing import Any

CAUSAL, SEEING, BOTH_ENDS = "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM"
HEARING = "AutoModelForMultimodalLM"
ANSWERING = (CAUSAL, SEEING, HEARING)
"""Classes of what hubmerge can ask: text goes in, more text comes out."""

_HEADS = ("CausalLM", "MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering")
_WITH_PICTURES = ("ForConditionalGeneration", "ForVisionText2Text", "ForImageTextToText")


def auto_class(config: Mapping[str, Any]) -> str:
    """The name of the auto class; `AutoModel` where the head is none that is known.

    >>> auto_class({"architectures": ["LlavaForConditionalGeneration"], "vision_config": {}})
    'AutoModelForImageTextToText'
    >>> auto_class({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True})
    'AutoModelForSeq2SeqLM'
    """
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
