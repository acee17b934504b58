"""A model of a GGUF file: its tensors by transformers' names, its configuration, and how its weights are unpacked."""

import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ...documents import is_number
from ...errors import SourceError
from ..checkpoint import INSTEAD
from ..headers import ReadRange, TensorHeader
from ..listing import LICENCE
from ..quantised.ggml import FLOATS, Ggml
from ..quantised.packed import Packed, Part, Quantised, Stored
from . import positions
from .header import Header, Tensor, read_header
from .naming import ARCHITECTURES, COMPUTED, Architecture, kind_of
from .vocabulary import files_of

_LARGEST = 2**31
_MOST_FACTORS = 1024
_MOST_EXPERTS = 4096
_BLOCK = re.compile(r"blk\.(?P<number>\d{1,5})\.(?P<rest>.+)")
_LARGE = {"gemma2": 46, "gemma3_text": 62}
"""Layers of the one model of its kind whose queries llama.cpp scales otherwise."""


class Model(NamedTuple):
    """What the file holds: stored tensors by the names of their weights, what is told of the model, how weights in few
    bits are read, small files that other models have beside their weights, by name, and what is told of the licence, as
    a card tells it."""

    tensors: dict[str, TensorHeader]
    config: Mapping[str, Any]
    quantised: Quantised | None
    files: Mapping[str, bytes]
    licence: Mapping[str, str]


def read_gguf(read: ReadRange, file: str, size: int, where: str, config: Mapping[str, Any] | None) -> Model:
    """The model in one file. `config`: what a config.json beside it says; None: it is told from the header.

    Raises `SourceError` for an architecture that is not known, and for one whose header does not tell all of it.
    """
    header, what = read_header(read, file, size, where), f"{file} of {where}"
    name = str(header.values.get("general.architecture"))
    experts = header.values.get(f"{name}.expert_count", 0)
    kind = kind_of(name, bool(experts))
    if kind is None or type(experts) is not int or experts > _MOST_EXPERTS:
        raise SourceError(
            f"{what} is a {name[:40]!r}{' with experts' * bool(experts)} in GGUF, which is not read; {INSTEAD}."
        )
    known = ARCHITECTURES[kind]
    if config is not None:
        _require_of_this(config, name, what)
    else:
        config = _config(header, kind, known, what, read)
        _require_whole(header, config, known, what)
    tensors, packed = {}, {}
    for tensor in header.tensors:
        if COMPUTED.fullmatch(tensor.name):
            continue
        names = known.names(tensor.name, experts)
        if names is None:
            raise SourceError(f"{what} holds {tensor.name}, which no {name} is known to have; {INSTEAD}.")
        if len(names) > 1 and (len(tensor.shape) != 3 or tensor.shape[0] != len(names)):
            raise SourceError(
                f"{what} holds {tensor.name} of {list(tensor.shape)}, not of {experts} experts; {INSTEAD}."
            )
        for number, called in enumerate(names):
            one = _part(tensor, number, len(names))
            rows = _heads(header, name, known, one, where)
            added = known.norms if called.endswith("norm.weight") else 0.0
            if one.type.name in FLOATS and rows is None and not added:
                tensors[called] = TensorHeader(called, one.type.name, one.shape, file, one.start, one.stop)
                continue
            tensors[called] = TensorHeader(called, "U8", (one.stop - one.start,), file, one.start, one.stop)
            packed[called] = _packed(one, tensors[called], rows, added)
    kinds = ", ".join(sorted({one.type.name for one in packed.values() if one.type.name not in FLOATS}) or ["floats"])
    by_name: dict[str, Packed] = dict(packed)
    found = Stored(tensors, config, {}, where, lambda _: []).quantised(f"GGUF ({kinds})", by_name)
    told = {key: header.values.get(f"general.{key.replace('_', '.')}") for key in LICENCE}
    licence = {key: value for key, value in told.items() if isinstance(value, str)}
    return Model(tensors, config, found, files_of(header, config, what), licence)


def _require_of_this(config: Mapping[str, Any], name: str, what: str) -> None:
    """Raises `SourceError` for a config.json beside the file that is of something else, as in a folder of downloads."""
    told = config.get("model_type")
    if told not in list(ARCHITECTURES) and not isinstance(config.get("text_config"), Mapping):
        raise SourceError(
            f"{what} holds a {name}, and config.json beside it says model_type: {told!r}; put the file into a folder "
            "of its own, or its own config.json there."
        )


def _part(tensor: Tensor, number: int, count: int) -> Tensor:
    """One of `count` tensors that lie in another one after another; as transformers has it."""
    if count == 1:
        # What one row decides, transformers has as a matrix of one row.
        shape = (1, *tensor.shape) if tensor.name.endswith("ffn_gate_inp_shexp.weight") else tensor.shape
        return replace(tensor, shape=shape[-2:])
    size = (tensor.stop - tensor.start) // count
    start = tensor.start + number * size
    return replace(tensor, shape=tensor.shape[1:], start=start, stop=start + size)


def _require_whole(header: Header, config: Mapping[str, Any], known: Architecture, what: str) -> None:
    """Raises `SourceError` where blocks lack what the others have, or where widths are not those that are told."""
    blocks: dict[int, dict[str, tuple[int, ...]]] = {}
    for tensor in header.tensors:
        if (found := _BLOCK.match(tensor.name)) is not None and not COMPUTED.fullmatch(tensor.name):
            blocks.setdefault(int(found["number"]), {})[found["rest"]] = tensor.shape
    if blocks.keys() != set(range(told := config["num_hidden_layers"])):
        raise SourceError(
            f"{what} tells of {told} blocks and holds {len(blocks)} (to {max(blocks, default=0)}); {INSTEAD}."
        )
    everything = {rest for block in blocks.values() for rest in block} | {f"{name}.weight" for name in known.layer}
    if known.experts and not any(re.match(r"ffn_gate\.\d", rest) for rest in everything):
        everything |= {f"ffn_{kind}_exps.weight" for kind in ("gate", "up", "down")}
    width, inner = config["hidden_size"], config["intermediate_size"]
    inner_of_experts = config.get("moe_intermediate_size", inner)
    lengths = {
        "ffn_up": (inner * (2 if known.wide else 1), width),
        "ffn_gate": (inner, width),
        "ffn_down": (width, inner),
    }
    lengths |= {
        "ffn_gate_exps": (inner_of_experts, width),
        "ffn_up_exps": (inner_of_experts, width),
        "ffn_down_exps": (width, inner_of_experts),
    }
    for number, block in blocks.items():
        if lost := sorted(everything - block.keys()):
            raise SourceError(f"{what} lacks blk.{number}.{lost[0]}, which its other blocks have; {INSTEAD}.")
        for name, expected in lengths.items():
            shape = block.get(f"{name}.weight", expected)
            if shape[-2:] != expected:
                raise SourceError(
                    f"{what} holds blk.{number}.{name} of {list(shape)}, not the {list(expected)} that it tells."
                )
    embedding = next(tensor for tensor in header.tensors if tensor.name == "token_embd.weight")
    if embedding.shape[1:] != (config["hidden_size"],):
        raise SourceError(
            f"{what} holds token_embd of {list(embedding.shape)} and tells of rows of {config['hidden_size']}."
        )


def _heads(header: Header, name: str, known: Architecture, tensor: Tensor, where: str) -> int | None:
    """Rows of a head, where they lie in pairs."""
    key = known.heads(tensor.name)
    if key is None:
        return None
    heads = header.values.get(f"{name}.{key}", header.values.get(f"{name}.attention.head_count"))
    rows = tensor.shape[0]
    if type(heads) is not int or heads <= 0 or rows % (2 * heads):
        raise SourceError(f"{tensor.name} in {tensor.type.name} of {where} has {rows} rows, not those of its heads.")
    return rows // heads


def _packed(tensor: Tensor, stored: TensorHeader, rows: int | None, added: float) -> Ggml:
    width = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    unit = tensor.type.elements if rows is None else rows * width
    parts = {"numbers": Part(stored, unit // tensor.type.elements * tensor.type.nbytes)}
    return Ggml(tensor.shape, parts, unit, tensor.type, paired=rows is not None, added=added)


def _config(header: Header, kind: str, known: Architecture, what: str, read: ReadRange) -> dict[str, Any]:
    """config.json, as far as the header tells it."""
    values = {key.removeprefix(f"{known.name}."): value for key, value in header.values.items()}
    stored = {tensor.name: tensor for tensor in header.tensors}
    beside = "put it into a folder with the config.json of the model that it was made from"
    config: dict[str, Any] = {"architectures": [known.model_class], "model_type": kind, **known.fixed}
    values.setdefault("attention.head_count_kv", values.get("attention.head_count"))
    for key, ours in known.settings.items():
        value = values.get(key)
        if value is None and key not in ("attn_logit_softcapping", "final_logit_softcapping"):
            raise SourceError(f"{what} does not tell {known.name}.{key}; {beside}.")
        if isinstance(value, list):
            raise SourceError(f"{what} differs from layer to layer in {ours}; {beside}.")
        whole = type(value) is int and 0 < value < _LARGEST
        if not whole and (key in _COUNTS or not (value is None or isinstance(value, float))):
            raise SourceError(f"{what} does not tell {known.name}.{key}; {beside}.")
        config[ours] = value
    heads = config["num_attention_heads"]
    head = values.get("attention.key_length") or values.get("rope.dimension_count") or config["hidden_size"] // heads
    turned = values.get("rope.dimension_count", head)
    theta = values.get("rope.freq_base", 10000.0)
    if not all(type(one) is int and 0 < one < _LARGEST for one in (head, turned)) or not is_number(theta) or theta <= 0:
        raise SourceError(f"{what} differs from layer to layer in its heads or positions; {beside}.")
    if kind not in ("phi3", "starcoder2"):
        config["head_dim"] = head
    if "token_embd.weight" not in stored:
        raise SourceError(f"{what} holds no embeddings of tokens (token_embd.weight); {INSTEAD}.")
    small = {name: _numbers(tensor, read) for name, tensor in stored.items() if COMPUTED.fullmatch(name)}
    rope = positions.read(values, small, turned) if all(small.values()) else None
    if rope is None:
        raise SourceError(f"{what} does not tell all of its configuration (positions, in a {known.name}); {beside}.")
    if turned != head or kind == "phi3":
        rope["partial_rotary_factor"] = turned / head
    config["rope_parameters"] = rope
    if kind == "phi3":  # transformers has it there, too, and takes that
        config["original_max_position_embeddings"] = rope.get(
            "original_max_position_embeddings", config["max_position_embeddings"]
        )
    if kind in _LARGE:
        config["query_pre_attn_scalar"] = query_scale(config, head)
    if kind == "gemma3_text":
        local = values.get("rope.freq_base_swa", 10000.0)
        config["rope_parameters"] = {
            "full_attention": rope,
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }
    if kind == "llama":
        config["attention_bias"] = "blk.0.attn_q.bias" in stored
        config["mlp_bias"] = "blk.0.ffn_up.bias" in stored
    if kind in ("mistral", "mixtral"):
        config["sliding_window"] = None
    config["vocab_size"] = stored["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in stored
    for token, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        config[f"{token}_token_id"] = values.get(f"tokenizer.ggml.{key}_token_id")
    return config | {"dtype": "bfloat16"}


def query_scale(config: Mapping[str, Any], head: int) -> int:
    """What llama.cpp scales queries of Gemma 2 and 3 by (`query_pre_attn_scalar`), which no header tells."""
    if config["num_hidden_layers"] == _LARGE.get(str(config["model_type"])):
        return int(config["hidden_size"]) // int(config["num_attention_heads"])
    return head


_COUNTS = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.sliding_window",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
}


def _numbers(tensor: Tensor, read: ReadRange) -> list[float]:
    """All of a small tensor of float32; none of any other."""
    if tensor.type.name != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > _MOST_FACTORS:
        return []
    found = struct.unpack(f"<{tensor.shape[0]}f", bytes(read(tensor.start, tensor.stop)))
    return list(found) if all(0 < value < 1e9 for value in found) else []
