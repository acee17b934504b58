"""FP4: 4 bits choose one of 16 numbers, the lower half of a byte first; times a factor for each 16 or 32 in a row."""

from collections.abc import Mapping

from ...hub.quantised.fp4 import Fp4
from ...late import Tensor, torch

_VALUES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def unpack_fp4(packed: Fp4, parts: Mapping[str, Tensor], unit: int, start: int, stop: int) -> Tensor:
    """The numbers that the halves of each byte choose, times their factors."""
    factors = parts["factors"]
    if packed.turned:
        return _turned(packed, parts, unit, start, stop)
    if factors.dtype == torch.uint8:
        factors = _powers(factors[start // packed.group : -(-stop // packed.group)])
    else:
        factors = factors[start // packed.group : -(-stop // packed.group)].to(torch.float32)
    if "whole" in parts:
        factors = factors / parts["whole"] if packed.divides else factors * parts["whole"]
    begin = start // packed.group * packed.group
    spread = factors.repeat_interleave(packed.group)[start - begin : stop - begin]
    first = unit * packed.unit
    return _numbers(parts["numbers"])[start - first : stop - first] * spread


def _turned(packed: Fp4, parts: Mapping[str, Tensor], unit: int, start: int, stop: int) -> Tensor:
    """Some rows of matrices that are stored by columns."""
    *_, inputs, outputs = packed.shape
    found = []
    for matrix in range(start // packed.unit, -(-stop // packed.unit)):
        begin = matrix * packed.unit
        low, high = max(start - begin, 0), min(stop - begin, packed.unit)
        first, last = low // outputs // packed.group, -(-high // (outputs * packed.group))
        at = matrix - unit
        groups = inputs // packed.group
        stored = parts["numbers"].view(-1, outputs, groups, packed.group // 2)[at, :, first:last]
        powers = _powers(parts["factors"].view(-1, outputs, groups)[at, :, first:last])
        values = _numbers(stored.reshape(-1)).view(outputs, -1, packed.group) * powers[..., None]
        turned = values.flatten(1).t().reshape(-1)
        origin = first * packed.group * outputs
        found.append(turned[low - origin : high - origin])
    return found[0] if len(found) == 1 else torch.cat(found)


def _numbers(stored: Tensor) -> Tensor:
    """Two numbers of each byte."""
    halves = torch.stack([stored & 15, stored >> 4], 1).view(-1)
    return _VALUES[halves.to(torch.int32)]


def _powers(stored: Tensor) -> Tensor:
    """2 to the power of each byte less 127."""
    return torch.ldexp(torch.ones(stored.shape), stored.to(torch.int32) - 127)
