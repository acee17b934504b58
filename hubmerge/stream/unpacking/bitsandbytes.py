"""bitsandbytes' 4 bits: each chooses one of 16 values, times the factor of its block."""

from collections.abc import Mapping

from ...hub.quantised.bitsandbytes import Chosen
from ...late import Tensor, torch


def unpack_chosen(packed: Chosen, parts: Mapping[str, Tensor], unit: int, start: int, stop: int) -> Tensor:
    """The values that the halves of each byte choose, the higher half first, times their factors."""
    stored = parts["numbers"].view(torch.uint8)
    halves = torch.stack([stored >> 4, stored & 15], 1).view(-1)
    begin = unit * packed.unit
    chosen = parts["values"][halves[start - begin : stop - begin].to(torch.int64)]
    first, last = start // packed.block, -(-stop // packed.block)
    factors = parts["factors"][first:last]
    if "inner_factors" in parts:
        inner = parts["inner_factors"][torch.arange(first, last) // packed.inner_block]
        factors = parts["inner_values"][factors.to(torch.int64)] * inner + packed.offset
    spread = factors.repeat_interleave(packed.block)
    return chosen.mul_(spread[start - first * packed.block : stop - first * packed.block])
