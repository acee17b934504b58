"""How the output tensors are spread over files, and the header of such a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .dtypes import DTYPES
from .names import name_in
from .tensors import TensorPlan
from .weights import Weights

METADATA = {"format": "pt"}
INDEX_ENDING = ".safetensors.index.json"
_ALIGNMENT = 8


@dataclass(frozen=True)
class ShardPlan:
    """One weight file: its tensors in the order they are written. `nbytes`: size of their data, header apart."""

    file: str
    names: tuple[str, ...]
    nbytes: int


def in_stored_order(tensors: Sequence[TensorPlan], weights: Sequence[Weights]) -> tuple[TensorPlan, ...]:
    """`tensors` as the first model that goes into each has them stored, so that its files are read front to back.

    Files come in the order that the network, which `tensors` are in, first needs them.
    """
    files: dict[object, int] = {}
    places = []
    for tensor in tensors:
        index, name = tensor.reads[0]
        first = next(weights[index].needs(name, 0, tensor.parameters), None)  # None: all of it is zeros
        places.append((0, 0) if first is None else (files.setdefault(first.file, len(files)), first.tensor.start))
    return tuple(tensor for _, tensor in sorted(zip(places, tensors, strict=True), key=lambda pair: pair[0]))


def fill_shards(tensors: Sequence[TensorPlan], shard_size: int, stem: str = "model") -> tuple[ShardPlan, ...]:
    """Fills shards in order up to `shard_size` bytes; a larger tensor gets a shard of its own.

    Named as transformers names them: model.safetensors, or model-00001-of-00003.safetensors and so on. `stem`: with
    the folder that they lie in ("unet/diffusion_pytorch_model").
    """
    groups: list[list[TensorPlan]] = []
    filled = 0
    for tensor in tensors:
        if not groups or filled + tensor.nbytes > shard_size:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += tensor.nbytes
    count = len(groups)
    return tuple(
        ShardPlan(
            f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05d}-of-{count:05d}.safetensors",
            # Wider elements first keeps every tensor aligned to its element size.
            tuple(t.name for t in sorted(group, key=lambda t: -DTYPES[t.dtype].nbytes)),
            sum(t.nbytes for t in group),
        )
        for number, group in enumerate(groups, 1)
    )


def header(tensors: Sequence[TensorPlan], file: str = "") -> bytes:
    """The first bytes of a safetensors file of the result, `file`, that holds `tensors` in this order.

    Format: 8 bytes little-endian length, then JSON padded with spaces. https://github.com/huggingface/safetensors
    """
    entries: dict[str, object] = {"__metadata__": METADATA}
    position = 0
    for tensor in tensors:
        end = position + tensor.nbytes
        entries[name_in(file, tensor.name)] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def index(shards: Sequence[ShardPlan], tensors: Sequence[TensorPlan]) -> bytes:
    """The index file of several shards in one folder, as transformers writes it."""
    document = {
        "metadata": {
            "total_parameters": sum(tensor.parameters for tensor in tensors),
            "total_size": sum(shard.nbytes for shard in shards),
        },
        "weight_map": {
            name_in(shard.file, name): shard.file.rpartition("/")[2] for shard in shards for name in sorted(shard.names)
        },
    }
    return (json.dumps(document, indent=2) + "\n").encode()
