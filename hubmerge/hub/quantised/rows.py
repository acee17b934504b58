"""Weights of compressed-tensors of a few bits each, dense in rows of 32-bit words (`pack-quantized`).

A number is stored with half of its range added, and so is its zero; their difference is times the factor of its row or
group. The zeros are packed down the columns. `weight_shape` tells where a row ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..headers import TensorHeader
from .packed import Packed, Part, Quantised, Stored
from .scaled import has_dense, of_groups


@dataclass(frozen=True)
class InRows(Packed):
    """A matrix of `bits` a number: parts `numbers`, `factors`, `zeros` if it has any, and `groups` if the inputs of a
    group do not lie together. `group`: inputs of one factor."""

    bits: int
    group: int


def is_in_rows(how: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of this layout."""
    return (
        how.get("quant_method") == "compressed-tensors"
        and how.get("format") == "pack-quantized"
        and has_dense(how)
        and all(one.get("type") == "int" and one.get("num_bits") in range(1, 9) for one in of_groups(how))
    )


def find_in_rows(stored: Stored) -> Quantised | None:
    """All weights of this layout. Raises `SourceError` for one that is laid out otherwise."""
    packed = {name.removesuffix("_packed"): one for name, one in stored.tensors.items() if name.endswith("_packed")}
    shapes = [stored.tensors.get(f"{name}_shape") for name in packed]
    for name, shape in zip(packed, shapes, strict=True):
        if shape is None or shape.shape != (2,) or shape.dtype not in ("I64", "I32"):
            raise stored.odd(name, "packed, without a fitting weight_shape")
    told = stored.read_small([shape for shape in shapes if shape is not None])
    found: dict[str, Packed] = {}
    for (name, numbers), shape, content in zip(packed.items(), shapes, told, strict=True):
        assert shape is not None
        size = len(content) // 2
        rows, width = (int.from_bytes(content[at : at + size], "little", signed=True) for at in (0, size))
        found[name] = _fitted(stored, name, numbers, (rows, width))
    beside = {f"{name}_shape" for name in packed} | {name for name in stored.tensors if name.endswith("put_scale")}
    bits = sorted({one.bits for one in found.values() if isinstance(one, InRows)})
    return stored.quantised(f"{' and '.join(map(str, bits))} bits (compressed-tensors)", found, beside)


def _fitted(stored: Stored, name: str, numbers: TensorHeader, shape: tuple[int, int]) -> InRows:
    (rows, width), tensors = shape, stored.tensors
    factors, zeros, order = (tensors.get(f"{name}_{one}") for one in ("scale", "zero_point", "g_idx"))
    if min(shape) > 0 and numbers.dtype == "I32" and len(numbers.shape) == 2 and factors is not None:
        words = numbers.shape[1]
        groups = factors.parameters // rows if factors.shape[:1] == (rows,) else 0
        # As many bits as the configuration says of one of its groups of layers, and as fit.
        bits = next((one["num_bits"] for one in of_groups(stored.how) if -(-width * one["num_bits"] // 32) == words), 0)
        if (
            bits
            and groups
            and numbers.shape[0] == rows
            and width % groups == 0
            and factors.dtype in ("F32", "F16", "BF16")
            and (zeros is None or (zeros.dtype == "I32" and zeros.shape == (-(-rows * bits // 32), groups)))
            and (order is None or (order.dtype in ("I32", "I64") and order.shape == (width,)))
        ):
            parts = {"numbers": Part(numbers, words), "factors": Part(factors)}
            parts |= {"zeros": Part(zeros)} if zeros is not None else {}
            parts |= {"groups": Part(order)} if order is not None else {}
            return InRows(shape, parts, width, bits, width // groups)
    raise stored.odd(name, "packed, in shapes that do not fit together")
