"""GPTQ and AWQ: numbers of a few bits out of 32, less the zero of their group, times its factor.

W[o, i] = scale[g(i), o] (q[i, o] - zero[g(i), o]); both store q turned, so that some rows of W are columns of it.
"""

from collections.abc import Mapping

from ...hub.quantised.grouped import Awq, Gptq, Grouped
from ...late import Tensor, torch
from .unfit import Unfit

# Where AWQ has each of eight neighbours in 32 bits.
_AWQ_SHIFTS = tuple(4 * place for place in (0, 4, 1, 5, 2, 6, 3, 7))


def unpack_gptq(packed: Gptq, parts: Mapping[str, Tensor], _: int, start: int, stop: int) -> Tensor:
    """GPTQ: the numbers of one output are packed one after another, the zeros of one group likewise."""
    outputs, inputs = packed.shape
    first, last = start // inputs, -(-stop // inputs)
    stored = parts["numbers"].view(-1, outputs)[:, first:last]
    numbers = in_a_column(stored, packed.bits, inputs)
    zeros = some_in_a_row(parts["zeros"].view(-1, outputs * packed.bits // 32), packed.bits, first, last)
    zeros = zeros + packed.added
    if packed.bits != 3:
        zeros &= (1 << packed.bits) - 1  # where the zero is 0, one less has gone round
    return _combine(packed, numbers, zeros, parts, (first, last), (start, stop))


def unpack_awq(packed: Awq, parts: Mapping[str, Tensor], _: int, start: int, stop: int) -> Tensor:
    """AWQ: eight outputs of the same input are packed together."""
    outputs, inputs = packed.shape
    first, last = start // inputs, -(-stop // inputs)
    low, high = first // 8, -(-last // 8)
    chosen = slice(first - 8 * low, last - 8 * low)
    shifts = torch.tensor(_AWQ_SHIFTS, dtype=torch.int32)
    numbers, zeros = (
        (parts[role].view(-1, outputs // 8)[:, low:high, None] >> shifts & 15).flatten(1)[:, chosen]
        for role in ("numbers", "zeros")
    )
    return _combine(packed, numbers, zeros, parts, (first, last), (start, stop))


def in_a_column(words: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` numbers of `bits` each in columns of 32-bit words, lowest first, shape (count, columns)."""
    if 32 % bits:
        return in_a_row(words.t(), bits, count).t()
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)[:, None]
    return (words[:, None] >> shifts & (1 << bits) - 1).flatten(0, 1)[:count]


def in_a_row(words: Tensor, bits: int, count: int) -> Tensor:
    """The first `count` numbers of `bits` each in rows of 32-bit words, lowest first, shape (rows, count)."""
    if 32 % bits:
        place = torch.arange(count) * bits
        word, shift = place // 32, (place % 32)[None]
        low = words[:, word].to(torch.int64) & 0xFFFFFFFF
        next_word = words[:, (word + 1).clamp(max=words.shape[1] - 1)].to(torch.int64) & 0xFFFFFFFF
        return ((low | next_word << 32) >> shift & (1 << bits) - 1).to(torch.int32)
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    return (words[:, :, None] >> shifts & (1 << bits) - 1).flatten(1)[:, :count]


def groups_of(stored: Tensor | None, inputs: int, group: int, count: int) -> Tensor:
    """The group of each input: the `stored` one, or that of its place. Raises `Unfit` for one beyond `count`."""
    groups = torch.arange(inputs) // group if stored is None else stored.to(torch.int64)
    if int(groups.min()) < 0 or int(groups.max()) >= count:
        raise Unfit(f"puts an input into a group that it does not have (it has {count})")
    return groups


def some_in_a_row(words: Tensor, bits: int, first: int, last: int) -> Tensor:
    """The numbers `first` to `last` of each row of words, shape (rows, last - first)."""
    low = first // 32 * 32  # 32 numbers end where a word does, whatever their bits
    some = words[:, low * bits // 32 : -(-last // 32) * bits]
    return in_a_row(some, bits, last - low)[:, first - low :]


def _combine(
    packed: Grouped,
    numbers: Tensor,
    zeros: Tensor,
    parts: Mapping[str, Tensor],
    rows: tuple[int, int],
    wanted: tuple[int, int],
) -> Tensor:
    """`numbers` is (inputs, outputs) of these `rows`, `zeros` (groups, outputs)."""
    outputs, inputs = packed.shape
    factors = parts["factors"].view(-1, outputs)[:, rows[0] : rows[1]].to(torch.float32)
    groups = groups_of(parts.get("groups"), inputs, packed.group, factors.shape[0])
    found = numbers.to(torch.float32).sub_(zeros.to(torch.float32)[groups]).mul_(factors[groups])
    begin = rows[0] * inputs
    return found.t().reshape(-1)[wanted[0] - begin : wanted[1] - begin]
