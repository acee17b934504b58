"""What makes a list of files a checkpoint that can be merged; everything else is refused with the reason.

Pure functions of file names, config and headers: the same rules hold for a repository and for a folder.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..documents import parse_object
from ..errors import SourceError
from . import fields
from .headers import TensorHeader

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
# Weights that are no transformers model's: a LoRA beside it, Mistral's own format.
_OTHERS = re.compile(r"adapter_model\.safetensors|consolidated.*\.safetensors")
_AGAIN = "fetch or save the model again"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that run code when read. They are neither read nor pushed."""


def check_name(name: str, where: str) -> str:
    """`name` if it stays inside its folder on every system; raises `SourceError` otherwise."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or not name.isprintable() or set(name) & set('\\:*?"<>|'):
        raise SourceError(f"{where} holds a file named {name!r}, which could leave its folder; do not use this model.")
    return name


def find_weights(files: Collection[str], where: str) -> str:
    """The file that says where the weights are: the one safetensors file, or the index.

    Raises `SourceError` where there are none, only pickles, only GGUF, or several files without an index.
    """
    if "model_index.json" in files and CONFIG not in files:
        raise SourceError(f"{where} is a diffusers pipeline (model_index.json); expected a transformers model.")
    # In transformers' order: of both, the one file is read.
    for name in (WEIGHTS, INDEX):
        if name in files:
            return name
    top = [name for name in files if "/" not in name and not _OTHERS.fullmatch(name)]
    tensors = sorted(name for name in top if name.endswith(".safetensors"))
    if len(tensors) == 1:
        return tensors[0]
    if tensors:
        raise SourceError(f"{where} has {len(tensors)} safetensors files but no {INDEX}; it may be half uploaded.")
    if pickles := sorted(name for name in top if name.endswith(PICKLES)):
        raise SourceError(
            f"{where} has its weights only as pickles ({pickles[0]}), which can run code when read; convert it with "
            "https://huggingface.co/spaces/safetensors/convert and use the converted revision."
        )
    if gguf := sorted(name for name in files if name.endswith(".gguf")):
        raise SourceError(f"{where} has its weights only as GGUF ({gguf[0]}); use the model that it was made from.")
    raise SourceError(f"{where} has no safetensors weights; expected {WEIGHTS} or {INDEX}.")


def parse_config(text: str | None, where: str) -> Mapping[str, Any]:
    """config.json as a mapping whose `fields.CONFIG` are of their types.

    Raises `SourceError` where it is missing, broken, or says the weights are quantised.
    """
    if text is None:
        raise SourceError(f"{where} has no {CONFIG}, so it is not a transformers model.")
    what = f"{CONFIG} of {where}"
    config = parse_object(text, what, SourceError, finite=False, hint=_AGAIN)
    fields.check_fields(config, fields.CONFIG, what, _AGAIN)
    fields.check_fields(config.get("text_config") or {}, fields.CONFIG, f"text_config in {what}", _AGAIN)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if quantised := part.get("quantization_config"):
            method = quantised.get("quant_method") if isinstance(quantised, dict) else None
            raise SourceError(
                f"{where} is quantised ({method or 'see quantization_config in config.json'}); "
                "merge the model it was made from (float16, bfloat16 or float32)."
            )
    return config


def parse_index(
    text: str | None, files: Collection[str], where: str, require: Callable[[str], None] = lambda _: None
) -> Mapping[str, str]:
    """The weight map (tensor name -> shard) of the index; raises `SourceError` for a shard that is not in `files`.

    `require` is asked for each shard before, and may know a better reason.
    """
    if text is None:
        raise SourceError(f"{where} has no {INDEX}.")
    index = parse_object(text, f"{INDEX} of {where}", SourceError, hint=_AGAIN)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise SourceError(f"{INDEX} of {where} has no weight_map of tensor names to files; save the model again.")
    for shard in sorted(set(weight_map.values())):
        check_name(shard, f"{INDEX} of {where}")
        require(shard)
        if shard not in files:
            raise SourceError(f"{where} lacks the shard {shard} that its index names; it may be half uploaded.")
        if not shard.endswith(".safetensors"):
            raise SourceError(f"{INDEX} of {where} names {shard}, which is not a safetensors file.")
    return weight_map


def collect(
    shards: Iterable[tuple[TensorHeader, ...]], weight_map: Mapping[str, str] | None, files: Collection[str], where: str
) -> dict[str, TensorHeader]:
    """The tensors of all shards by name, checked against the index.

    Raises `SourceError` for a tensor in two shards, one that the index names and its shard lacks, and for weights
    stored in less than 16 bits.
    """
    if unreadable := sorted({"quantize_config.json", "quant_config.json"} & set(files)):
        raise SourceError(f"{where} is quantised ({unreadable[0]}); merge the model it was made from.")
    tensors: dict[str, TensorHeader] = {}
    for tensor in (tensor for shard in shards for tensor in shard):
        if other := tensors.get(tensor.name):
            raise SourceError(
                f"{where} holds the tensor {tensor.name} twice, in {other.file} and in {tensor.file}; save it again."
            )
        if tensor.dtype.startswith(("F8_", "F6_", "F4")):
            raise SourceError(
                f"{where} stores {tensor.name} as {tensor.dtype}, which is quantised; "
                "merge the model it was made from (float16, bfloat16 or float32)."
            )
        tensors[tensor.name] = tensor
    for name, shard in (weight_map or {}).items():
        if name not in tensors or tensors[name].file != shard:
            raise SourceError(f"The shard {shard} of {where} lacks the tensor {name} that the index promises.")
    if not tensors:
        raise SourceError(f"{where} has weight files, but not one tensor in them.")
    return tensors
