"""What makes a list of files a checkpoint that can be merged; everything else is refused with the reason.

Pure functions of file names, config and headers: the same rules hold for a repository and for a folder.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..documents import parse_object
from ..errors import SourceError
from . import fields
from .headers import ReadRange, TensorHeader, read_headers

INSTEAD = "use the model that it was made from (float16, bfloat16 or float32)"
"""What to do with one that is quantised in a way that cannot be read."""

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLED = "pytorch_model.bin"
DIFFUSION = "diffusion_pytorch_model"
"""What diffusers calls the files of one model, whose endings are those of transformers."""
_NAMES = (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX)
ORDER = (*_NAMES, *(DIFFUSION + name[name.index(".") :] for name in _NAMES))
"""Files that say where the weights are: of several, the first is read, as transformers and diffusers do."""
# Indices of a variant, spelt in both ways.
_VARIANTS = {
    INDEX: re.compile(rf"(?:model|{DIFFUSION})\.(?:safetensors\.index\.\w+|\w+\.safetensors\.index)\.json"),
    PICKLED_INDEX: re.compile(rf"(?:pytorch_model|{DIFFUSION})\.(?:bin\.index\.\w+|\w+\.bin\.index)\.json"),
}
# Weights that are no transformers model's: a LoRA beside it, Mistral's own format, what a training leaves.
_OTHERS = re.compile(
    r"adapter_model\.(safetensors|bin)|consolidated.*\.(safetensors|pth)|(training_args|optimizer|scheduler|scaler"
    r"|rng_state\w*|trainer_state|\w+_states)\.(bin|pt|pth)"
)
GGUF = ".gguf"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""Any of these tells the tokens of a model."""
"""The ending of llama.cpp's files, of which each is a model."""
OLDER = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files that said how weights are quantised, before config.json did, and the method that wrote them."""
# Tensors that only quantised models have.
_PACKED = re.compile(r"\.(?:qweight|qzeros|g_idx|weight_packed|SCB)$|\.quant_state\.bitsandbytes__")
CONSOLIDATED = re.compile(r"consolidated.*\.(safetensors|pth)")
"""The same weights once more, as Mistral's and Meta's own programs name them."""
_AGAIN = "fetch or save the model again"
SAFE = (".safetensors",)
"""The ending of files that cannot hold code."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that run code when Python reads them. They are not pushed."""
TORCH = (".bin", ".pt", ".pth")
"""Endings of those that torch.save writes, whose tensors are read without running anything (see pickled.py)."""


def check_name(name: str, where: str) -> str:
    """`name` if it stays inside its folder on every system; raises `SourceError` otherwise."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or not name.isprintable() or set(name) & set('\\:*?"<>|'):
        raise SourceError(f"{where} holds a file named {name!r}, which could leave its folder; do not use this model.")
    return name


def weight_files(files: Collection[str], endings: str | tuple[str, ...]) -> list[str]:
    """Those of `files` with one of these endings that may be a model's weights: at the top, and nothing else's."""
    return sorted(name for name in files if name.endswith(endings) and "/" not in name and not _OTHERS.fullmatch(name))


def lacking(files: Collection[str]) -> tuple[str, ...]:
    """Files of which one must lie beside `files`, for these to be a whole model; none where nothing need.

    What is there of several files with weights does not tell that there is one more.
    """
    for endings, whole, index in ((SAFE, WEIGHTS, INDEX), (TORCH, PICKLED, PICKLED_INDEX)):
        if stored := weight_files(files, endings):
            several = whole not in stored and any("-of-" in name for name in stored)
            return (index, DIFFUSION + index[index.index(".") :]) if several else ()
    return ORDER


def is_torch(name: str) -> bool:
    """Whether a file, or those that an index names, are what torch.save wrote."""
    return name.endswith(TORCH) or ".bin." in name


def find_weights(files: Collection[str], where: str) -> str:
    """The file that says where the weights are: the one file of weights, or the index.

    safetensors are preferred to what torch.save wrote, as transformers prefers them. Raises `SourceError` where there
    are none, only other pickles, or several files without an index.
    """
    if (first := next((name for name in ORDER if name in files), None)) is not None:
        return first
    for endings, index, kind in ((SAFE, INDEX, "safetensors"), (TORCH, PICKLED_INDEX, "PyTorch")):
        # Weights in a narrower dtype, as some are published beside those in float32, or alone.
        variants = [name for name in files if _VARIANTS[index].fullmatch(name)]
        if len(variants) == 1:
            return variants[0]
        found = weight_files(files, endings)
        if len(found) == 1:
            return found[0]
        if found:
            one = (variants or found)[0]
            raise SourceError(
                f"{where} has {len(found)} {kind} files but no {index}; it may be half uploaded. If one of them is "
                f"a model, name it: {where}/{one}."
            )
    if alone := sorted(name for name in files if CONSOLIDATED.fullmatch(name)):
        raise SourceError(
            f"{where} has no weights for transformers, only in the format of Mistral's own programs ({alone[0]}); use "
            "the repository with the same model for transformers."
        )
    if pickles := weight_files(files, PICKLES):
        raise SourceError(
            f"{where} has its weights only as pickles ({pickles[0]}), which can run code when read; convert it with "
            "https://huggingface.co/spaces/safetensors/convert and use the converted revision."
        )
    gguf = sorted(name for name in files if name.endswith(GGUF) and "/" not in name)
    if len(gguf) == 1:
        return gguf[0]
    if gguf:
        raise SourceError(f"{where} has {len(gguf)} GGUF files; name the one that is meant: {where}/{gguf[0]}.")
    raise SourceError(f"{where} has no weights; expected {WEIGHTS} or {INDEX}, or {PICKLED}.")


def parse_config(
    text: str | None, where: str, other: Callable[[], Mapping[str, Any] | None] = lambda: None
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """config.json as a mapping whose `fields.CONFIG` are of their types, and what it says of quantised weights, apart.

    `other` gives what another file says of these, where it says nothing. Raises `SourceError` where it is missing,
    broken, or says that the weights are quantised in a way that cannot be read.
    """
    if text is None:
        raise SourceError(f"{where} has no {CONFIG}, so it is not a transformers model.")
    what = f"{CONFIG} of {where}"
    config = parse_object(text, what, SourceError, finite=False, hint=_AGAIN)
    fields.check_fields(config, fields.CONFIG, what, _AGAIN)
    fields.check_fields(config.get("text_config") or {}, fields.CONFIG, f"text_config in {what}", _AGAIN)
    how = None
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if found := part.pop("quantization_config", None) or part.pop("compression_config", None):
            how = found
    how = other() if how is None else how
    if how is not None and not _is_known(how):
        raise SourceError(f"{where} is quantised ({_in_words(how)}) in a way that cannot be read; {INSTEAD}.")
    return config, how


def _is_known(how: Any) -> bool:
    from .quantised.kinds import is_known  # most models are not quantised

    return isinstance(how, dict) and is_known(how)


def _in_words(how: Any) -> str:
    if not isinstance(how, dict) or not how.get("quant_method"):
        return "see quantization_config in config.json"
    said = (how.get(key) for key in ("quant_method", "quant_algo", "format", "checkpoint_format", "version"))
    return ", ".join(str(one)[:40] for one in said if one)


def parse_older(name: str, text: str | None, where: str) -> dict[str, Any]:
    """What a file beside config.json says of quantised weights, as AutoGPTQ and AutoAWQ wrote it at first."""
    if text is None:
        raise SourceError(f"{where} has no {name}.")
    how = parse_object(text, f"{name} of {where}", SourceError, hint=_AGAIN)
    return {**how, "quant_method": OLDER[name]}


def parse_index(
    text: str | None,
    files: Collection[str],
    where: str,
    require: Callable[[str], None] = lambda _: None,
    name: str = INDEX,
) -> Mapping[str, str]:
    """The weight map (tensor name -> shard) of the index `name`; raises `SourceError` for a shard not in `files`.

    `require` is asked for each shard before, and may know a better reason.
    """
    if text is None:
        raise SourceError(f"{where} has no {name}.")
    index = parse_object(text, f"{name} of {where}", SourceError, hint=_AGAIN)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise SourceError(f"{name} of {where} has no weight_map of tensor names to files; save the model again.")
    endings, kind = (TORCH, "PyTorch") if is_torch(name) else (SAFE, "safetensors")
    for shard in sorted(set(weight_map.values())):
        check_name(shard, f"{name} of {where}")
        require(shard)
        if shard not in files:
            raise SourceError(f"{where} lacks the shard {shard} that its index names; it may be half uploaded.")
        if not shard.endswith(endings):
            raise SourceError(f"{name} of {where} names {shard}, which is not a {kind} file.")
    return weight_map


def read_tensors(read: ReadRange, file: str, size: int, where: str) -> tuple[TensorHeader, ...]:
    """The tensors of a weight file, by its ending; see `headers.read_headers` and `pickled.read_pickled`."""
    if not file.endswith(TORCH):
        return read_headers(read, file, size, where)
    from .pickled import read_pickled

    return read_pickled(read, file, size, where)


def collect(
    shards: Iterable[tuple[TensorHeader, ...]],
    weight_map: Mapping[str, str] | None,
    where: str,
    scaled: bool = False,
) -> dict[str, TensorHeader]:
    """The tensors of all shards by name, checked against the index.

    Raises `SourceError` for a tensor in two shards, one that the index names and its shard lacks, and for weights
    stored in less than 16 bits, unless the model says that they are quantised (`scaled`).
    """
    tensors: dict[str, TensorHeader] = {}
    for tensor in (tensor for shard in shards for tensor in shard):
        if other := tensors.get(tensor.name):
            raise SourceError(
                f"{where} holds the tensor {tensor.name} twice, in {other.file} and in {tensor.file}; save it again."
            )
        if tensor.dtype.startswith(("F6_", "F4") if scaled else ("F8_", "F6_", "F4")):
            raise SourceError(f"{where} stores {tensor.name} as {tensor.dtype}, which is quantised; {INSTEAD}.")
        tensors[tensor.name] = tensor
    for name, shard in (weight_map or {}).items():
        if name not in tensors or tensors[name].file != shard:
            raise SourceError(f"The shard {shard} of {where} lacks the tensor {name} that the index promises.")
    if not tensors:
        raise SourceError(f"{where} has weight files, but not one tensor in them.")
    if not scaled:
        require_unpacked(tensors, where)
    return tensors


def require_unpacked(weights: Iterable[str], where: str) -> None:
    """Raises `SourceError` where one of the names of weights is that of a part of a quantised one."""
    if (packed := next(filter(_PACKED.search, weights), None)) is not None:
        raise SourceError(f"{where} stores {packed}, which is quantised, and says nowhere how; {INSTEAD}.")
