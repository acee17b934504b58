"""FP8 and INT8: each number times the factor of its tensor, row, group or block."""

from collections.abc import Mapping

from ...hub.quantised.scaled import Scaled
from ...late import Tensor, torch
from .unfit import Unfit


def unpack_scaled(packed: Scaled, parts: Mapping[str, Tensor], _: int, start: int, stop: int) -> Tensor:
    """The numbers, less their zeros, times their factors. Raises `Unfit` for a factor that no program writes."""
    width = packed.shape[-1] if packed.shape else 1
    numbers = parts["numbers"].to(torch.float32)
    if "zeros" in parts:
        numbers.sub_(spread(parts["zeros"].to(torch.float32), packed, width, start, stop))
    factors = parts["factors"].to(torch.float32)
    if packed.divisor != 1:
        factors = factors / packed.divisor
    least = float(factors.min()) if factors.numel() else 1.0
    if least < 0:
        raise Unfit(f"has a scale of {least:g}")
    factors = spread(factors, packed, width, start, stop)
    # A row of nothing but zeros may have a scale of 0.
    if least == 0 and bool(((factors == 0) & (numbers != 0)).any()):
        raise Unfit("has a scale of 0 for numbers that are not 0")
    return factors.mul_(numbers)


def spread(factors: Tensor, scale: Scaled, width: int, start: int, stop: int) -> Tensor:
    """The factor of each element `start` up to but not including `stop` of a tensor with rows of `width`."""
    if factors.numel() == 1:
        return factors.expand(stop - start).clone()
    high, wide = scale.block
    first, last = start // width, -(-stop // width)
    rows = torch.arange(first, last)
    lines = rows // scale.height * -(-scale.height // high) + rows % scale.height // high
    chosen = factors.view(-1, -(-width // wide))[lines]
    spread = chosen.repeat_interleave(wide, 1)[:, :width] if chosen.shape[1] > 1 else chosen.expand(-1, width)
    return spread.reshape(-1)[start - first * width : stop - first * width].clone()
