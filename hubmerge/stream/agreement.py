"""Whether the settings of all models mean the same: their whole configurations but what is known to be harmless.

Two files may say the same in different words: a setting that one gives may be what the other's class has by default,
and transformers 5 writes rope_parameters where earlier ones wrote rope_theta and rope_scaling. So where the files
differ, what is compared is what transformers makes of each.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import SourceError
from ..hub.checkpoint import CONFIG
from ..hub.component import LANGUAGE_MODEL
from ..hub.config import text_config
from .architecture import completed
from .findings import Finding, error, some, warning
from .weights import Weights

# Where one of these differs, equal positions of equal shape mean different things.
_MUST_AGREE = frozenset(
    {
        "activation_function",
        "attention_bias",
        "head_dim",
        "hidden_act",
        "hidden_activation",
        "hidden_size",
        "intermediate_size",
        "mlp_bias",
        "num_attention_heads",
        "num_experts_per_tok",
        "num_key_value_heads",
    }
)

# What no computed value depends on when a model is used, or what is checked elsewhere: the vocabulary and the depth by
# the tensors' shapes, tying by which heads are stored, special tokens beside the tokenizer.
_HARMLESS = re.compile(
    r"_.*|transformers_version|(torch_)?dtype|architectures|auto_map|model_type|vocab_size|num_hidden_layers|n_layers?|num_layers"
    r"|tie_word_embeddings|(\w+_)?(bos|eos|pad|sep|cls|mask|unk|decoder_start|forced_bos|forced_eos)_token_id|use_cache|return_dict"
    r"|output_\w+|gradient_checkpointing|initializer_\w+|init_std|\w*dropout\w*|\w*_pdrop|resid_pdrop|layerdrop|pretraining_tp"
    r"|id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params|\w*aux_loss\w*|router_jitter_noise|mask_(time|feature)_\w+"
    r"|apply_spec_augment|ctc_\w+|keys_to_ignore\w*|unsloth\w*|name_or_path|model_name|language|license|chunk_size_feed_forward"
    r"|mrope_(section|interleaved)|num_image_tokens|is_decoder|add_cross_attention|cross_attention_hidden_size|tokenizer_class|prefix|max_length|min_length|do_sample|top_[kp]|temperature"
    r"|num_beams|repetition_penalty|length_penalty|no_repeat_ngram_size|early_stopping|bad_words_ids|pruned_heads|quantization_config"
)

_ALIKE = {"llama", "mistral"}
"""llama.cpp has one name for both."""


def _is_told_by_header(weights: Weights) -> bool:
    """Whether the configuration is that of a GGUF file's header."""
    return CONFIG in weights.tokenizer.source.listing.made


def _kind(weights: Weights) -> Any:
    """What a model says that it is: its type, or the class that opens it."""
    return weights.config.get("model_type", weights.config.get("_class_name"))


def check_configs(first: Weights, others: Sequence[Weights]) -> Iterator[Finding]:
    """Compares the settings of `others` with those of `first`, which the result keeps."""
    for other in others:
        kinds = _kind(first), _kind(other)
        if kinds[0] != kinds[1] and not (set(kinds) == _ALIKE and any(map(_is_told_by_header, (first, other)))):
            yield error(
                f"{other.name} is a {kinds[1]} model and {first.name} a {kinds[0]} model: "
                f"only models of one architecture can be merged{_inside(first, other)}."
            )
            continue
        pair, found = f"{other.name} and {first.name}", _differences(first.config, other.config)
        forbidden = [text for name, text in found.items() if name.rpartition(".")[2] in _MUST_AGREE]
        if forbidden:
            yield error(f"{pair} do not fit together: {some(forbidden)}; choose models of one family.")
        if rest := [text for name, text in found.items() if name.rpartition(".")[2] not in _MUST_AGREE]:
            yield warning(f"{pair} differ: {some(rest, 12)}; the result keeps the latter.")


def check_wholes(merged: Sequence[Weights]) -> Iterator[Finding]:
    """Tells where more of models is merged than their language models: what sees was trained for one of them."""
    seeing = [one for one in merged if LANGUAGE_MODEL in one.components]
    if len(seeing) > 1 and (beside := [name for name in seeing[0].components if name != LANGUAGE_MODEL]):
        yield warning(
            f"{' and '.join(one.name for one in seeing)} are merged whole, {', '.join(beside)} as well; for the "
            f"language models alone write {seeing[0].name}#{LANGUAGE_MODEL}, or `modules`."
        )


def _inside(*models: Weights) -> str:
    """How to name a part of a model that another one is of a kind with; nothing where there is none."""
    for one, other in (models, models[::-1]):
        part = one.components.get(LANGUAGE_MODEL)
        if part is not None and part.config.get("model_type") == other.config.get("model_type"):
            return f"; for the language model inside {one.name} write {one.name}#{LANGUAGE_MODEL}"
    return ""


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """What differs, by the setting's name: as text, with the value of `other` first."""
    if _flat(first) == _flat(other):
        return {}
    ours, theirs = _flat(_completed(first)), _flat(_completed(other))
    return {
        name: f"{name} is {_shown(theirs.get(name))} and {_shown(ours.get(name))}"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name) and not _one_is_implied(name, ours, theirs)
    }


def _one_is_implied(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether one side leaves out what the other gives as off, or gives only what its heads imply."""
    if name in ours and name in theirs:
        return False
    given = ours if name in ours else theirs
    if given[name] in (None, False, "default"):
        return True
    prefix = name[: -len(name.rpartition(".")[2])] if "." in name else ""
    heads, size = given.get(f"{prefix}num_attention_heads"), given.get(f"{prefix}hidden_size")
    if not isinstance(heads, int) or not isinstance(size, int) or heads == 0:
        return False
    implied = {f"{prefix}head_dim": size // heads, f"{prefix}num_key_value_heads": heads}
    return implied.get(name) == given[name]


def _completed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with its class's defaults, as transformers reads it; itself where transformers does not."""
    try:
        return completed(config)
    except SourceError:
        # They are compared as they stand; whoever uses the model will be told.
        return config


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All settings that matter, nested ones by dotted names; a language model's own without the name of its part."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if _HARMLESS.fullmatch(str(name)):
            continue
        if isinstance(value, Mapping):
            inner = "" if value is text_config(config) else f"{prefix}{name}."
            found |= _flat(value, inner)
        else:
            found[f"{prefix}{name}"] = value
    return found


def _shown(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
