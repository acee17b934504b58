"""The parts of a model that stand for themselves: the language model inside one that also sees, its vision tower, or
the models in the folders of a pipeline.

A part's tensors have the names that it would have alone, so that it can be merged with a plain model of its kind:

>>> config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
>>> stored = ["language_model.model.norm.weight", "vision_tower.norm.weight"]
>>> parts = components(config, stored)
>>> parts["language_model"].names, parts["language_model"].outer("lm_head.weight")
({'model.norm.weight': 'language_model.model.norm.weight'}, 'language_model.lm_head.weight')
>>> parts["vision_tower"].names
{'norm.weight': 'vision_tower.norm.weight'}
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..guesses import guess
from ..layers import is_head

LANGUAGE_MODEL = "language_model"
ALIASES = {"text_decoder": LANGUAGE_MODEL}
"""Other names of parts: mergekit's."""

# How transformers has stored them: (name in a plain model, name in the whole), the first that fits a name wins.
# Qwen2-Audio and Voxtral as transformers 5.20 writes them, LLaVA, models of transformers 4.52 and later, Idefics and
# SmolVLM, Qwen2-VL.
_LAYOUTS = (
    (("model.", "language_model.model.model."), ("", "language_model.")),
    (("", "language_model."),),
    (("model.", "model.language_model."), ("lm_head.", "lm_head.")),
    (("model.", "model.text_model."), ("lm_head.", "lm_head.")),
    (("model.", "model."), ("lm_head.", "lm_head.")),
)

# Language models of those that see, and the plain ones that compute of a text what they do: where no picture is, the
# three dimensions of their positions are one. Older files of the first two have all of it beside vision_config.
_BESIDE = ("qwen2_vl", "qwen2_5_vl")
_PLAIN = {"qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2"}
_PLAIN |= {"qwen3_vl_text": "qwen3"}

# What transformers keeps beside text_config although it is about the language model.
_SHARED = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
    "torch_dtype",
)

# Where a configuration describes the part whose name begins so.
_CONFIGS = {"vision": "vision_config", "visual": "vision_config", "audio": "audio_config"}


@dataclass(frozen=True)
class Component:
    """A part of a model.

    `names`: its tensors by the names they have in a plain model of its kind, to those in the whole; `config`: the
    configuration of such a model, which the whole keeps under `key` (None: it keeps none). `folder`: where it lies,
    where that is a folder of its own; the names in the whole begin with it. `stem`: what its weight files are called;
    `files`: small files that go with it, by their names in that folder.
    """

    name: str
    config: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str] = field(repr=False)
    layout: tuple[tuple[str, str], ...]
    key: str | None = None
    folder: str = ""
    stem: str = "model"
    files: tuple[str, ...] = ()

    def outer(self, name: str) -> str:
        """What the whole model calls a tensor that a plain one calls `name`, also where it stores none yet."""
        return next((whole + name[len(plain) :] for plain, whole in self.layout if name.startswith(plain)), name)


@dataclass(frozen=True)
class Folder:
    """A checkpoint in a folder of its own, as a pipeline has several: its config.json, and the stem of its files.

    `files`: small files that go with it, which are all of what has no weights, such as a tokenizer.
    """

    config: Mapping[str, Any]
    stem: str = "model"
    files: tuple[str, ...] = ()


def components(
    config: Mapping[str, Any], tensors: Iterable[str], folders: Mapping[str, Folder] | None = None
) -> dict[str, Component]:
    """All parts of a model by their names, by its configuration and its tensors' names; none of a plain model.

    `folders`: of a model that is made of checkpoints in folders of their own; its tensors' names begin with them.
    """
    stored = list(tensors)
    if folders:
        return {
            name: Component(
                name,
                folder.config,
                {one.removeprefix(f"{name}/"): one for one in stored if one.startswith(f"{name}/")},
                (("", f"{name}/"),),
                folder=name,
                stem=folder.stem,
                files=folder.files,
            )
            for name, folder in folders.items()
        }
    language = _language_model(config, stored)
    return {} if language is None else {LANGUAGE_MODEL: language, **_beside(language, config, stored)}


def lacks_part(model: str, name: str, parts: Collection[str]) -> str:
    """One sentence about a part that a model does not have."""
    has = f"it has: {', '.join(parts)}{guess(name, parts)}" if parts else "it is a model without parts"
    return f"{model} has no part called {name}; {has}."


def _language_model(config: Mapping[str, Any], stored: list[str]) -> Component | None:
    """The language model of a multi-modal one; None where it has none."""
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        if config.get("model_type") not in _BESIDE:
            return None
        text = {key: value for key, value in config.items() if key not in ("vision_config", "text_config")}
    for layout in _LAYOUTS:
        if any(name.startswith(layout[0][1]) for name in stored):
            names = {}
            for name in stored:
                for plain, whole in layout:
                    if name.startswith(whole):
                        names[plain + name[len(whole) :]] = name
                        break
            own = {key: config[key] for key in _SHARED if key in config and text.get(key) is None}
            # Two settings may say it, with a default that differs by the class: the file knows.
            own["tie_word_embeddings"] = not any(map(is_head, names))
            if (kind := text.get("model_type")) in _PLAIN:
                own["model_type"] = _PLAIN[kind]
            return Component(LANGUAGE_MODEL, {**text, **own}, names, layout, key="text_config")
    return None


def _beside(language: Component, config: Mapping[str, Any], stored: list[str]) -> dict[str, Component]:
    """The parts beside the language model: what has the first part of its name in common."""
    spoken = set(language.names.values())
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for name in (name for name in stored if name not in spoken):
        before = "model." if name.startswith("model.") else ""
        part, dot, rest = name.removeprefix(before).partition(".")
        if dot:
            found.setdefault(part, (f"{before}{part}.", {}))[1][rest] = name
    made = {}
    for part, (prefix, names) in found.items():
        key = next((key for start, key in _CONFIGS.items() if part.startswith(start) and key in config), None)
        own = config[key] if key is not None and isinstance(config[key], Mapping) else {}
        made[part] = Component(part, own, names, (("", prefix),), key=key)
    return made
