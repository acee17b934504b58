"""FP8 weights and what they are multiplied with: one factor a tensor, a row, or a block of 128 x 128.

DeepSeek and Qwen write `weight_scale_inv`, with a factor a block; compressed-tensors, FBGEMM and ModelOpt write
`weight_scale`. Despite its name the first is multiplied with, too.
Source: https://arxiv.org/abs/2412.19437, section 3.3
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SourceError
from .headers import TensorHeader

_EIGHT_BITS = ("F8_E4M3", "F8_E5M2")
_FACTORS = ("F32", "F16", "BF16", "F8_E8M0")
_ENDINGS = ("_scale_inv", "_scale")
# What quantised activations are scaled with: nothing to weights in 16 bits.
_OF_ACTIVATIONS = re.compile(r"\.(?:(?:input|output|activation|[qkv]|kv)_scale|input_scale_ub)$")
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Scale:
    """The factors of one tensor: `factors` has one for each block of so many rows and columns.

    `height`: rows of one matrix, where several are stacked.
    """

    factors: TensorHeader
    block: tuple[int, int]
    height: int


@dataclass(frozen=True)
class Scales:
    """How a model's FP8 weights are read: `by_name` of each tensor, `beside`: tensors that are no weights.

    `dtype`: what the model is in when it is not quantised.
    """

    by_name: Mapping[str, Scale]
    beside: frozenset[str]
    dtype: str

    @property
    def kind(self) -> str:
        """In words, by the first tensor."""
        first = next(iter(self.by_name.values()))
        if first.factors.parameters == 1:
            return "a factor a tensor"
        return "a factor a row" if first.block[0] == 1 else f"a factor for each {first.block[0]} x {first.block[1]}"


def is_fp8(quantised: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of weights in FP8, which can be read exactly."""
    method = quantised.get("quant_method")
    if method == "modelopt":
        return quantised.get("quant_algo") == "FP8"
    if method == "compressed-tensors":
        groups = quantised.get("config_groups")
        weights = [_mapping(_mapping(group).get("weights")) for group in _mapping(groups).values()]
        if _mapping(quantised.get("sparsity_config")).get("format") not in (None, "dense"):
            return False
        return bool(weights) and all(one.get("type") == "float" and one.get("num_bits") == 8 for one in weights)
    return method in ("fp8", "fbgemm_fp8")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def find_scales(
    tensors: Mapping[str, TensorHeader], config: Mapping[str, Any], quantised: Mapping[str, Any], where: str
) -> Scales | None:
    """The scales of all tensors in FP8; None where there are none. Raises `SourceError` for one that has no fitting."""
    size = quantised.get("weight_block_size")
    if size is not None and not _is_block(size):
        raise SourceError(
            f"{where}: weight_block_size in quantization_config should be two numbers, not {str(size)[:60]}."
        )
    factors = {
        name + ending: tensor
        for name in tensors
        for ending in _ENDINGS
        if (tensor := tensors.get(name + ending)) is not None
    }
    found = {}
    for name, tensor in tensors.items():
        if name in factors or tensor.dtype not in _EIGHT_BITS:
            continue
        one = next((tensors[name + ending] for ending in _ENDINGS if name + ending in tensors), None)
        if one is None or one.dtype not in _FACTORS:
            raise SourceError(
                f"{where} stores {name} as {tensor.dtype} without a scale; use the model that it was made from."
            )
        found[name] = _fitted(tensor, one, size, where)
    if not found:
        return None
    dtype = _DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")), "BF16")
    return Scales(found, frozenset(factors) | {name for name in tensors if _OF_ACTIVATIONS.search(name)}, dtype)


def _fitted(tensor: TensorHeader, factors: TensorHeader, size: list[int] | None, where: str) -> Scale:
    *stacked, height, width = (1, 1, *tensor.shape)[-max(2, len(tensor.shape)) :]
    count = factors.parameters
    if factors.strides is None and count == 1:
        return Scale(factors, (max(1, math.prod(tensor.shape)), max(1, width)), height)
    if factors.strides is None and size is not None:
        blocks = [-(-height // size[0]), -(-width // size[1])]
        if list(factors.shape) == [*stacked, *blocks]:
            return Scale(factors, (size[0], size[1]), height)
    if factors.strides is None and count == math.prod(tensor.shape[:-1]) and factors.shape[:1] == tensor.shape[:1]:
        return Scale(factors, (1, max(1, width)), height)
    raise SourceError(
        f"{where} stores {tensor.name} with shape {list(tensor.shape)} and its scale with {list(factors.shape)}, which "
        "do not fit together; use the model that it was made from."
    )


def _is_block(size: Any) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(type(n) is int and 0 < n < 2**31 for n in size)
