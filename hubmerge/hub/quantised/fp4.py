"""Weights in FP4: 4 bits choose one of 0, .5, 1, 1.5, 2, 3, 4, 6 and a sign, times a factor for each 16 or 32 in a row.

MXFP4 has powers of two for each 32; gpt-oss stores its experts so, turned, as `X_blocks` and `X_scales`. NVFP4 has FP8
factors for each 16, and one more for the tensor, which compressed-tensors divides by and ModelOpt multiplies with.
Source: https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..headers import TensorHeader
from .packed import Packed, Part, Quantised, Stored
from .scaled import has_dense, of_groups


@dataclass(frozen=True)
class Fp4(Packed):
    """Parts `numbers`, `factors`, for each `group` of a row, and `whole`, the tensor's own factor, if it has one.

    `turned`: each matrix is stored turned. `divides`: factors are divided by `whole`.
    """

    group: int
    turned: bool = False
    divides: bool = False


def is_fp4(how: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of weights in FP4."""
    method = how.get("quant_method")
    if method == "modelopt":
        return how.get("quant_algo") == "NVFP4"
    if method == "compressed-tensors":
        return has_dense(how) and all(one.get("type") == "float" and one.get("num_bits") == 4 for one in of_groups(how))
    return method == "mxfp4"


def find_fp4(stored: Stored) -> Quantised | None:
    """All weights in FP4. Raises `SourceError` for one that is laid out otherwise."""
    found: dict[str, Packed] = {}
    beside = {
        name for name in stored.tensors if name.endswith(("_global_scale", ".input_scale", ".k_scale", ".v_scale"))
    }
    kinds = set()
    for name, numbers in stored.tensors.items():
        if name.endswith("_blocks") and numbers.dtype == "U8":
            stem = name.removesuffix("_blocks")
            found[stem] = _turned(stored, stem, numbers)
        elif name.endswith((".weight_packed", ".weight")) and numbers.dtype == "U8":
            stem = name.rpartition(".")[0]
            found[f"{stem}.weight"] = _in_rows(stored, stem, numbers)
        else:
            continue
        kinds.add("MXFP4" if next(reversed(found.values())).group == 32 else "NVFP4")  # type: ignore[attr-defined]
    return stored.quantised(" and ".join(sorted(kinds)), found, beside)


def _turned(stored: Stored, stem: str, numbers: TensorHeader) -> Fp4:
    factors = stored.tensors.get(f"{stem}_scales")
    if (
        factors is None
        or factors.dtype != "U8"
        or len(numbers.shape) < 3
        or numbers.shape[-1] != 16
        or factors.shape != numbers.shape[:-1]
    ):
        raise stored.odd(stem, "in blocks and scales that do not fit together")
    *stacked, rows, groups, _ = numbers.shape
    each = rows * groups
    parts = {"numbers": Part(numbers, 16 * each), "factors": Part(factors, each)}
    return Fp4((*stacked, 32 * groups, rows), parts, 32 * each, 32, turned=True)


def _in_rows(stored: Stored, stem: str, numbers: TensorHeader) -> Fp4:
    factors = stored.tensors.get(f"{stem}.weight_scale")
    ours = stored.tensors.get(f"{stem}.weight_global_scale"), stored.tensors.get(f"{stem}.weight_scale_2")
    whole = next((one for one in ours if one is not None), None)
    width = 2 * numbers.shape[-1] if numbers.shape else 0
    expected = ("F8_E4M3", 16) if whole is not None else ("U8", 32)
    if (
        factors is None
        or factors.dtype not in ((expected[0], "F8_E8M0") if whole is None else expected[:1])
        or not width
        or width % expected[1]
        or factors.shape != (*numbers.shape[:-1], width // expected[1])
        or (whole is not None and (whole.parameters != 1 or whole.dtype != "F32"))
    ):
        raise stored.odd(stem, "in 4 bits with scales that do not fit it")
    parts = {"numbers": Part(numbers, 1), "factors": Part(factors)}
    if whole is not None:
        parts["whole"] = Part(whole)
    return Fp4((*numbers.shape[:-1], width), parts, 2, expected[1], divides=ours[0] is not None)
