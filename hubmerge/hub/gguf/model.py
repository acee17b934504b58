"""A model of a GGUF file: its tensors by transformers' names, its configuration, and how its weights are unpacked."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...documents import is_number
from ...errors import SourceError
from ..headers import ReadRange, TensorHeader
from ..quantised.ggml import FLOATS, Ggml
from ..quantised.packed import INSTEAD, Packed, Part, Quantised, Stored
from .header import Header, Tensor, read_header
from .naming import ARCHITECTURES, COMPUTED, Architecture

_KEYS = {
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "attention.head_count": "num_attention_heads",
}
_LARGEST = 2**31
_BLOCK = re.compile(r"blk\.(?P<number>\d{1,5})\.(?P<rest>.+)")


class Model(NamedTuple):
    """What the file holds: stored tensors by the names of their weights, what is told of the model, and how weights in
    few bits are read."""

    tensors: dict[str, TensorHeader]
    config: Mapping[str, Any]
    quantised: Quantised | None


def read_gguf(read: ReadRange, file: str, size: int, where: str, config: Mapping[str, Any] | None) -> Model:
    """The model in one file. `config`: what a config.json beside it says; None: it is told from the header.

    Raises `SourceError` for an architecture that is not known, and for one whose header does not tell all of it.
    """
    header = read_header(read, file, size, where)
    name = str(header.values.get("general.architecture"))
    known = ARCHITECTURES.get(name)
    if known is None:
        raise SourceError(f"{file} of {where} is a {name[:40]!r} in GGUF, which is not read; {INSTEAD}.")
    computed = {tensor.name for tensor in header.tensors if COMPUTED.fullmatch(tensor.name)}
    if config is None:
        scaling = header.values.get(f"{name}.rope.scaling.type", "none")
        if not known.told or computed or scaling != "none":
            raise SourceError(
                f"{file} of {where} does not tell all of its configuration (positions, in a {name}); put it into a "
                "folder with the config.json of the model that it was made from."
            )
        config = _config(header, name, known, f"{file} of {where}")
        _require_whole(header, config, f"{file} of {where}")
    tensors, packed = {}, {}
    for tensor in header.tensors:
        if tensor.name in computed:
            continue
        called = known.name(tensor.name)
        if called is None:
            raise SourceError(f"{file} of {where} holds {tensor.name}, which no {name} is known to have; {INSTEAD}.")
        rows = _heads(header, name, known, tensor, where)
        added = known.norms if called.endswith("norm.weight") else 0.0
        stored = TensorHeader(called, "U8", (tensor.stop - tensor.start,), file, tensor.start, tensor.stop)
        if tensor.type.name in FLOATS and rows is None and not added:
            tensors[called] = TensorHeader(called, tensor.type.name, tensor.shape, file, tensor.start, tensor.stop)
            continue
        tensors[called] = stored
        packed[called] = _packed(tensor, stored, rows, added)
    kinds = ", ".join(sorted({one.type.name for one in packed.values() if one.type.name not in FLOATS}) or ["floats"])
    by_name: dict[str, Packed] = dict(packed)
    found = Stored(tensors, config, {}, where, lambda _: []).quantised(f"GGUF ({kinds})", by_name)
    return Model(tensors, config, found)


_MATRICES = {"ffn_up": 0, "ffn_gate": 0, "ffn_down": 1}
"""Tensors of a block of which a length is that of the feed-forward network, and which one."""


def _require_whole(header: Header, config: Mapping[str, Any], what: str) -> None:
    """Raises `SourceError` where blocks lack what the others have, or where widths are not those that are told."""
    blocks: dict[int, dict[str, tuple[int, ...]]] = {}
    for tensor in header.tensors:
        if (found := _BLOCK.match(tensor.name)) is not None:
            blocks.setdefault(int(found["number"]), {})[found["rest"]] = tensor.shape
    if blocks.keys() != set(range(told := config["num_hidden_layers"])):
        raise SourceError(
            f"{what} tells of {told} blocks and holds {len(blocks)} (to {max(blocks, default=0)}); {INSTEAD}."
        )
    everything = {rest for block in blocks.values() for rest in block} | {f"{name}.weight" for name in _MATRICES}
    for number, block in blocks.items():
        if lost := sorted(everything - block.keys()):
            raise SourceError(f"{what} lacks blk.{number}.{lost[0]}, which its other blocks have; {INSTEAD}.")
        for name, place in _MATRICES.items():
            shape = block[f"{name}.weight"]
            expected = [config["hidden_size"], config["hidden_size"]]
            expected[place] = config["intermediate_size"]
            if list(shape) != expected:
                raise SourceError(
                    f"{what} holds blk.{number}.{name} of {list(shape)}, not the {expected} that it tells."
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


def _config(header: Header, name: str, known: Architecture, what: str) -> dict[str, Any]:
    values = header.values
    config: dict[str, Any] = {"architectures": [known.model_class], "model_type": known.model_type}
    for key, ours in _KEYS.items():
        value = values.get(f"{name}.{key}")
        if type(value) is not int or not 0 < value < _LARGEST:
            raise SourceError(f"{what} does not tell {name}.{key}; put it into a folder with its model's config.json.")
        config[ours] = value
    head = values.get(f"{name}.attention.key_length") or values.get(f"{name}.rope.dimension_count")
    config["num_key_value_heads"] = values.get(f"{name}.attention.head_count_kv", config["num_attention_heads"])
    config["head_dim"] = head or config["hidden_size"] // config["num_attention_heads"]
    config["rms_norm_eps"] = values.get(f"{name}.attention.layer_norm_rms_epsilon", 1e-5)
    config["rope_theta"] = values.get(f"{name}.rope.freq_base", 10000.0)
    if odd := [
        key for key in ("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta") if not is_number(config[key])
    ]:
        raise SourceError(f"{what} differs from layer to layer in {odd[0]}; put it into a folder with its config.json.")
    embedding = next((tensor for tensor in header.tensors if tensor.name == "token_embd.weight"), None)
    if embedding is None:
        raise SourceError(f"{what} holds no embeddings of tokens (token_embd.weight); {INSTEAD}.")
    config["vocab_size"] = embedding.shape[0]
    config["tie_word_embeddings"] = all(tensor.name != "output.weight" for tensor in header.tensors)
    for token in ("bos", "eos"):
        config[f"{token}_token_id"] = values.get(f"tokenizer.ggml.{token}_token_id")
    return config | {"dtype": "bfloat16"}
