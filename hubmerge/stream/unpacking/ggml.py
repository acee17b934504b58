"""ggml's formats: transformers computes most; here are those that it lacks, and the order of rows."""

from collections.abc import Mapping

from ...hub.quantised.ggml import Ggml, Type
from ...late import Tensor, torch

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def unpack_ggml(packed: Ggml, parts: Mapping[str, Tensor], unit: int, start: int, stop: int) -> Tensor:
    """The numbers of all blocks, in the order of rows that the model has without."""
    found = dequantise(parts["numbers"], packed.type)
    if packed.paired:
        width = packed.shape[-1] if len(packed.shape) > 1 else 1
        # Row i of the first half of a head, and i of the second, are neighbours there.
        found = found.view(-1, packed.unit // width // 2, 2, width).transpose(1, 2).reshape(-1)
    if packed.added:
        found = found + packed.added
    begin = unit * packed.unit
    return found[start - begin : stop - begin]


def dequantise(stored: Tensor, kind: Type) -> Tensor:
    """All numbers of whole blocks of bytes, in float32."""
    if kind.name in _FLOATS:
        return stored.view(_FLOATS[kind.name]).to(torch.float32)
    if kind.name in ("Q5_0", "Q5_1"):
        return _five_bits(stored.view(-1, kind.nbytes), kind.name == "Q5_1")
    from transformers.integrations.gguf.dequant import dequantize

    found: Tensor = dequantize(stored, kind.number)
    return found


def _five_bits(blocks: Tensor, has_least: bool) -> Tensor:
    """A factor, the least value in Q5_1, the fifth bits of 32 numbers, and four bits each: first the lower halves."""
    factor = blocks[:, :2].contiguous().view(torch.float16).to(torch.float32)
    at = 4 if has_least else 2
    fifth = (blocks[:, at : at + 4, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten(1)
    halves = blocks[:, at + 4 :]
    numbers = (torch.cat([halves & 15, halves >> 4], 1) | fifth << 4).to(torch.float32)
    if has_least:
        return (numbers * factor + blocks[:, 2:4].contiguous().view(torch.float16).to(torch.float32)).reshape(-1)
    return ((numbers - 16) * factor).reshape(-1)
