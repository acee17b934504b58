"""Weights in FP8 or INT8 and what they are multiplied with: one factor a tensor, a row, a group or a block.

DeepSeek and Qwen write `weight_scale_inv`, with a factor a block; compressed-tensors, FBGEMM and ModelOpt write
`weight_scale`. Despite its name the first is multiplied with, too. bitsandbytes' `SCB` is 127 times a row's factor.
Source: https://arxiv.org/abs/2412.19437, section 3.3; https://arxiv.org/abs/2208.07339
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import SourceError
from ..headers import TensorHeader
from .packed import Packed, Part, Quantised, Stored

_EIGHT_BITS = ("F8_E4M3", "F8_E5M2")
FACTORS = ("F32", "F16", "BF16", "F8_E8M0")
"""What factors are stored in."""
_ENDINGS = ("_scale_inv", "_scale")
# What quantised activations are scaled with: nothing to weights in 16 bits.
_OF_ACTIVATIONS = re.compile(
    r"\.(?:(?:input|output|activation|[qkv]|kv)_(?:global_)?(?:scale|zero_point)|input_scale_ub)$"
)


@dataclass(frozen=True)
class Scaled(Packed):
    """Numbers, each times its factor: `block` has the rows and columns of each factor's.

    `height`: rows of one matrix, where several are stacked. `divisor`: what all factors are divided by. A part `zero`
    is taken from the numbers first, if there is one.
    """

    block: tuple[int, int]
    height: int
    divisor: float = 1.0


def is_fp8(how: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of weights in FP8."""
    method = how.get("quant_method")
    if method == "modelopt":
        return how.get("quant_algo") == "FP8"
    if method == "compressed-tensors":
        return all(one.get("type") == "float" and one.get("num_bits") == 8 for one in of_groups(how)) and has_dense(how)
    return method in ("fp8", "fbgemm_fp8")


def is_int8(how: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of weights in INT8, one a byte, as compressed-tensors writes them."""
    if how.get("quant_method") != "compressed-tensors" or not has_dense(how):
        return False
    return how.get("format") == "int-quantized" and all(
        one.get("type") == "int" and one.get("num_bits") == 8 for one in of_groups(how)
    )


def has_dense(how: Mapping[str, Any]) -> bool:
    """Whether compressed-tensors has quantised weights, and not left out those that are zero."""
    return bool(of_groups(how)) and mapping(how.get("sparsity_config")).get("format") in (None, "dense")


def of_groups(how: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What compressed-tensors says of the weights of each group of layers."""
    return [mapping(mapping(group).get("weights")) for group in mapping(how.get("config_groups")).values()]


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, if it is one of JSON's objects; else an empty one."""
    return value if isinstance(value, Mapping) else {}


def find_fp8(stored: Stored) -> Quantised | None:
    """All weights in FP8; None where there are none. Raises `SourceError` for one that has no fitting scale."""
    return _find(stored, _EIGHT_BITS, "FP8")


def find_int8(stored: Stored) -> Quantised | None:
    """All weights in INT8; None where there are none. Raises `SourceError` for one that has no fitting scale."""
    return _find(stored, ("I8",), "INT8")


def _find(stored: Stored, dtypes: tuple[str, ...], kind: str) -> Quantised | None:
    size = stored.how.get("weight_block_size")
    size = next((one["block_structure"] for one in of_groups(stored.how) if one.get("block_structure")), size)
    if size is not None and not _is_block(size):
        raise SourceError(
            f"{stored.where}: weight_block_size in quantization_config should be two numbers, not {str(size)[:60]}."
        )
    tensors = stored.tensors
    beside = {name + ending for name in tensors for ending in _ENDINGS if name + ending in tensors}
    zeros = {name for name in tensors if name.endswith("_zero_point")}
    found = {}
    for name, tensor in tensors.items():
        if name in beside or name in zeros or tensor.dtype not in dtypes:
            continue
        one = next((tensors[name + ending] for ending in _ENDINGS if name + ending in tensors), None)
        if one is None:
            raise stored.odd(name, f"as {tensor.dtype} without a scale")
        if one.dtype not in FACTORS:
            raise stored.odd(name, f"as {tensor.dtype} with a scale in {one.dtype} (read are {', '.join(FACTORS)})")
        found[name] = _fitted(stored, tensor, one, size)
    first = next(iter(found.values()), None)
    beside |= zeros | {name for name in tensors if _OF_ACTIVATIONS.search(name)}
    return stored.quantised(f"{kind} ({_in_words(first)})" if first else kind, found, beside)


def _fitted(stored: Stored, tensor: TensorHeader, factors: TensorHeader, size: list[int] | None) -> Scaled:
    *stacked, height, width = (1, 1, *tensor.shape)[-max(2, len(tensor.shape)) :]
    count, block = factors.parameters, None
    if count == 1:
        block = max(1, math.prod(tensor.shape)), max(1, width)
    elif size is not None and list(factors.shape) == [*stacked, -(-height // size[0]), -(-width // size[1])]:
        block = size[0], size[1]
    elif count == math.prod(tensor.shape[:-1]) and factors.shape[:1] == tensor.shape[:1]:
        block = 1, max(1, width)
    elif len(tensor.shape) == 2 and factors.shape[:-1] == (height,) and count and width % (count // height) == 0:
        block = 1, width // (count // height)
    if factors.strides is not None or block is None:
        raise stored.odd(
            tensor.name,
            f"with shape {list(tensor.shape)} and its scale with {list(factors.shape)}, which do not fit together",
        )
    parts = {"numbers": Part(tensor, 1), "factors": Part(factors)}
    if (zero := stored.tensors.get(f"{tensor.name}_zero_point")) is not None:
        if zero.shape != factors.shape or zero.dtype != "I8":
            raise stored.odd(zero.name, f"as {zero.dtype} {list(zero.shape)}, which does not fit its scale")
        parts["zeros"] = Part(zero)
    return Scaled(tensor.shape, parts, 1, block, height)


def _in_words(first: Scaled) -> str:
    if first.parts["factors"].tensor.parameters == 1:
        return "a factor a tensor"
    rows, columns = first.block
    if rows > 1:
        return f"a factor for each {rows} x {columns}"
    return "a factor a row" if columns == first.shape[-1] else f"a factor for each {columns}"


def _is_block(size: Any) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(type(n) is int and 0 < n < 2**31 for n in size)
