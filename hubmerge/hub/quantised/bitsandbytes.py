"""Weights of bitsandbytes: 4 bits each that choose one of 16 values, times a factor for each 64; or 8 bits, with a
factor a row.

The factors of 4 bits may be quantised once more: 8 bits each that choose one of 256 values, times a factor for each 256
of them, and an offset. Which it is, and the shape of the weight, stands in a small JSON beside it, stored as a tensor.
Source: https://arxiv.org/abs/2305.14314, https://arxiv.org/abs/2208.07339
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...documents import is_number, parse_object
from ...errors import SourceError
from ..headers import DTYPE_BITS, MOST_DIMENSIONS, TensorHeader
from .packed import Packed, Part, Quantised, Stored
from .scaled import Scaled

_STATE = ".quant_state.bitsandbytes__"
_KINDS = ("nf4", "fp4")
_LARGEST_STATE = 4096
_MOST = 2**53


@dataclass(frozen=True)
class Chosen(Packed):
    """4 bits choose one of the 16 `values`, times a factor for each `block`: parts `numbers`, `values`, `factors`.

    Where the factors are quantised: parts `inner_values` and `inner_factors`, the latter for each `inner_block`, and
    the `offset`.
    """

    block: int
    inner_block: int
    offset: float


def is_bitsandbytes(how: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of bitsandbytes. Its first versions did not name it."""
    return how.get("quant_method", "bitsandbytes") == "bitsandbytes" and bool(
        {"load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit"} & how.keys()
    )


def find_bitsandbytes(stored: Stored) -> Quantised | None:
    """All weights of bitsandbytes; none where a model only says that it was trained with some.

    Raises `SourceError` for one that is laid out otherwise.
    """
    four, eight = _four_bits(stored), _eight_bits(stored)
    beside = {name for name in stored.tensors if name.endswith(".weight_format") or _STATE in name}
    kinds = [f"4 bits ({next(iter(four.values()))[1]}, bitsandbytes)"] if four else []
    kinds += ["8 bits (bitsandbytes)"] if eight else []
    return stored.quantised(" and ".join(kinds), {**{n: one for n, (one, _) in four.items()}, **eight}, beside)


def _four_bits(stored: Stored) -> dict[str, tuple[Packed, str]]:
    states = {}
    for name, tensor in stored.tensors.items():
        weight, state, kind = name.partition(_STATE)
        if not state:
            continue
        if kind not in _KINDS or tensor.nbytes > _LARGEST_STATE:
            raise stored.odd(weight, f"with {name}, which is not of bitsandbytes' nf4 or fp4")
        states[weight] = tensor, kind
    texts = stored.read_small([tensor for tensor, _ in states.values()])
    return {
        weight: (_chosen(stored, weight, _parsed(stored, weight, text)), kind)
        for (weight, (_, kind)), text in zip(states.items(), texts, strict=True)
    }


def _parsed(stored: Stored, weight: str, text: bytes) -> Mapping[str, Any]:
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise stored.odd(weight, "with a quant_state that is no text") from None
    return parse_object(decoded, f"The quant_state of {weight} in {stored.where}", SourceError)


def _chosen(stored: Stored, weight: str, state: Mapping[str, Any]) -> Chosen:
    shape: Any = state.get("shape")
    block: Any = state.get("blocksize")
    inner, offset = state.get("nested_blocksize", 1), state.get("nested_offset", 0.0)
    is_shape = isinstance(shape, list) and 0 < len(shape) <= MOST_DIMENSIONS and all(map(_is_size, shape))
    if not is_shape or not _is_size(block) or not _is_size(inner) or not is_number(offset):
        raise stored.odd(weight, "with a quant_state that lacks its shape or its block size")
    elements = math.prod(shape)
    numbers, factors = stored.tensors.get(weight), stored.tensors.get(f"{weight}.absmax")
    values, nested = stored.tensors.get(f"{weight}.quant_map"), "nested_blocksize" in state
    if (
        numbers is None
        or numbers.strides is not None
        or numbers.nbytes != _padded(-(-elements // 2), numbers.dtype)
        or not _is(values, "F32", 16)
        or not _is(factors, "U8" if nested else "F32", -(-elements // block))
    ):
        raise stored.odd(weight, f"in shapes that do not fit its own, {str(shape)[:60]}")
    assert factors is not None and values is not None
    # Whatever they are stored as, such as bfloat16 where others are sharded with them, they are bytes.
    numbers = replace(numbers, dtype="U8", shape=(numbers.nbytes,))
    parts = {"numbers": Part(numbers, 1), "factors": Part(factors), "values": Part(values)}
    if nested:
        inner_values, inner_factors = (stored.tensors.get(f"{weight}.nested_{one}") for one in ("quant_map", "absmax"))
        if not _is(inner_values, "F32", 256) or not _is(inner_factors, "F32", -(-factors.parameters // inner)):
            raise stored.odd(weight, "in shapes that do not fit its quantised factors")
        assert inner_values is not None and inner_factors is not None
        parts |= {"inner_values": Part(inner_values), "inner_factors": Part(inner_factors)}
    return Chosen(tuple(shape), parts, 2, block, inner, float(offset))


def _padded(nbytes: int, dtype: str) -> int:
    size = DTYPE_BITS[dtype] // 8
    return -(-nbytes // size) * size if size else 0


def _is(tensor: TensorHeader | None, dtype: str, parameters: int) -> bool:
    return tensor is not None and tensor.dtype == dtype and tensor.parameters == parameters


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < _MOST


def _eight_bits(stored: Stored) -> dict[str, Packed]:
    found: dict[str, Packed] = {}
    formats = []
    for name, factors in stored.tensors.items():
        stem, dot, last = name.rpartition(".")
        if last != "SCB" or not dot:
            continue
        weight = stored.tensors.get(f"{stem}.weight")
        if weight is None or weight.dtype != "I8" or len(weight.shape) != 2 or factors.shape != weight.shape[:1]:
            raise stored.odd(stem, "with an SCB that does not fit its weight")
        if factors.dtype not in ("F32", "F16", "BF16"):
            raise stored.odd(name, f"as {factors.dtype}")
        if (told := stored.tensors.get(f"{stem}.weight_format")) is not None:
            formats.append(told)
        parts = {"numbers": Part(weight, 1), "factors": Part(factors)}
        found[weight.name] = Scaled(weight.shape, parts, 1, (1, max(1, weight.shape[1])), weight.shape[0], 127.0)
    small = [one for one in formats if one.nbytes <= 8]
    for told, content in zip(small, stored.read_small(small), strict=True):
        if any(content):
            raise stored.odd(told.name.removesuffix("_format"), "in the order of some GPU, and not row by row")
    return found
