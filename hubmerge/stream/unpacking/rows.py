"""compressed-tensors: numbers of a few bits in rows of 32, less the zero of their group, times its factor."""

from collections.abc import Mapping

from ...hub.quantised.rows import InRows
from ...late import Tensor, torch
from .grouped import groups_of, in_a_row, some_in_a_row


def unpack_in_rows(packed: InRows, parts: Mapping[str, Tensor], unit: int, start: int, stop: int) -> Tensor:
    """Each has half of its range added, and so has its zero: without zeros, that half is taken away."""
    rows, width = packed.shape
    first, last = start // width, -(-stop // width)
    count = -(-width * packed.bits // 32)
    words = parts["numbers"].view(-1, count)[first - unit : last - unit]
    numbers = in_a_row(words, packed.bits, width)
    factors = parts["factors"].view(rows, -1)[first:last].to(torch.float32)
    order = parts.get("groups")
    if order is not None and bool((order == -1).any()):
        order = None  # as it is left where the inputs are in order
    groups = groups_of(order, width, packed.group, factors.shape[1])
    if "zeros" in parts:
        zeros = some_in_a_row(parts["zeros"].view(-1, factors.shape[1]).t(), packed.bits, first, last)
        found = (numbers - zeros.t()[:, groups]).to(torch.float32)
    else:
        found = (numbers - (1 << packed.bits - 1)).to(torch.float32)
    found *= factors[:, groups]
    return found.reshape(-1)[start - first * width : stop - first * width]
