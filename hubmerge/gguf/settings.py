"""config.json as the keys of a GGUF header, for models that llama.cpp computes as transformers does."""

from collections.abc import Collection, Mapping
from typing import Any

from ..errors import SourceError
from ..hub.auto_class import ANSWERING, auto_class
from ..hub.component import LANGUAGE_MODEL
from ..hub.gguf import positions
from ..hub.gguf.model import query_scale
from ..hub.gguf.naming import ARCHITECTURES, Architecture

Keys = dict[str, Any]


def architecture(config: Mapping[str, Any], what: str, parts: Collection[str] = ()) -> Architecture:
    """llama.cpp's architecture for a model that has these `parts`. Raises `SourceError` where there is none that is
    written here."""
    kind = str(config.get("model_type", auto_class(config)))
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    kinds = ", ".join(ARCHITECTURES)
    if LANGUAGE_MODEL in parts:
        kinds = f"{kinds}. For the language model inside write {what}#{LANGUAGE_MODEL}"
    why = ""
    if config.get("is_encoder_decoder"):
        why = " (it reads and writes by two stacks of layers)"
    elif auto_class(config) not in ANSWERING:
        why = " (it writes no text)"
    raise SourceError(f"{what} is a {kind} model{why}, which is not written as GGUF; the kinds that are: {kinds}.")


def keys_of(
    config: Mapping[str, Any], known: Architecture, what: str
) -> tuple[Keys, dict[str, list[float]], list[str]]:
    """The keys of a header, small tensors that belong to it, and what llama.cpp does otherwise in rare cases.

    `config`: with the defaults of its class. Raises `SourceError` for a setting that llama.cpp does not have.
    """
    for name, value in known.fixed.items():
        if name in config and config[name] != value:
            raise SourceError(
                f"{what} has {name}: {config[name]!r}, and llama.cpp computes such models with {value!r} alone."
            )
    _check_windows(config, known, what)
    config = {"num_experts": config.get("num_local_experts"), **config}  # the same in two generations of transformers
    keys: Keys = {theirs: value for theirs, ours in known.settings.items() if (value := config.get(ours)) is not None}
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    keys |= {"attention.key_length": head, "attention.value_length": head, "vocab_size": config["vocab_size"]}
    scale, theirs = config.get("query_pre_attn_scalar"), query_scale(config, head)
    if scale not in (None, theirs):
        raise SourceError(
            f"{what} has query_pre_attn_scalar: {scale}, and llama.cpp computes such models with {theirs}."
        )
    rope = config["rope_parameters"]
    if "full_attention" in rope:
        local = rope["sliding_attention"]
        if local.get("rope_type", "default") != "default":
            raise SourceError(f"{what} scales the positions of its windows, which llama.cpp does not.")
        keys["rope.freq_base_swa"] = float(local["rope_theta"])
        rope = rope["full_attention"]
    turned = int(head * (rope.get("partial_rotary_factor") or 1))
    scaled, small = positions.told(rope, config["max_position_embeddings"], turned, what)
    return keys | scaled, small, _remarks(config, known)


def _check_windows(config: Mapping[str, Any], known: Architecture, what: str) -> None:
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        return
    period = known.period
    expected = [
        "sliding_attention" if period and (number + 1) % period else "full_attention" for number in range(len(kinds))
    ]
    windowed = any(kind != "full_attention" for kind in kinds)
    if kinds != expected and not (known.name == "llama" and windowed):
        raise SourceError(f"{what} has layers that see windows in an order (layer_types) that llama.cpp does not know.")


def _remarks(config: Mapping[str, Any], known: Architecture) -> list[str]:
    window = config.get("sliding_window")
    if known.period or not window or window >= config["max_position_embeddings"]:
        return []
    return [f"llama.cpp lets such models see all positions, and not the last {window:,} alone."]
