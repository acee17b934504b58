"""The parts of a model that stand for themselves: the language model inside one that also sees.

A part's tensors have the names that it would have alone, so that it can be merged with a plain model of its kind:

>>> config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
>>> part = language_model(config, ["language_model.model.norm.weight", "vision_tower.norm.weight"])
>>> part.names, part.outer("lm_head.weight")
({'model.norm.weight': 'language_model.model.norm.weight'}, 'language_model.lm_head.weight')
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LANGUAGE_MODEL = "language_model"

# How transformers has stored them: (name in a plain model, name in the whole), the first that fits a name wins.
# LLaVA, models of transformers 4.52 and later, Idefics and SmolVLM, Qwen2-VL.
_LAYOUTS = (
    (("", "language_model."),),
    (("model.", "model.language_model."), ("lm_head.", "lm_head.")),
    (("model.", "model.text_model."), ("lm_head.", "lm_head.")),
    (("model.", "model."), ("lm_head.", "lm_head.")),
)

# What transformers keeps beside text_config although it is about the language model.
_SHARED = (
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
    "torch_dtype",
)


@dataclass(frozen=True)
class Component:
    """A part of a model. `names`: its tensors by the names they have in a plain model of its kind, to the stored ones;
    `config`: the configuration of such a model."""

    name: str
    config: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str] = field(repr=False)
    layout: tuple[tuple[str, str], ...]

    def outer(self, name: str) -> str:
        """What the whole model calls a tensor that a plain one calls `name`, also where it stores none yet."""
        return next((whole + name[len(plain) :] for plain, whole in self.layout if name.startswith(plain)), name)


def language_model(config: Mapping[str, Any], tensors: Iterable[str]) -> Component | None:
    """The language model of a multi-modal one, by its configuration and its tensors' names; None where it has none."""
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        return None
    stored = list(tensors)
    for layout in _LAYOUTS:
        if any(name.startswith(layout[0][1]) for name in stored):
            names = {}
            for name in stored:
                for plain, whole in layout:
                    if name.startswith(whole):
                        names[plain + name[len(whole) :]] = name
                        break
            own = {key: config[key] for key in _SHARED if key in config and text.get(key) is None}
            return Component(LANGUAGE_MODEL, {**text, **own}, names, layout)
    return None
