"""Weights of GPTQ and AWQ: a few bits each, several in 32; a factor and a zero for each group of inputs.

Both store the matrix turned, inputs first: `qweight`, `qzeros`, `scales`, and GPTQ also `g_idx`, the group of each
input. In files of GPTQ's first format (all but gptq_v2) the zeros are one less than they are.
Source: https://arxiv.org/abs/2210.17323, https://arxiv.org/abs/2306.00978; laid out as AutoGPTQ and AutoAWQ do
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .packed import Packed, Part, Quantised, Stored

_BITS = (2, 3, 4, 8)
_METHODS = {"gptq": "gptq", "awq": "awq", "auto-round": "", "intel/auto-round": ""}
# Which layout auto-round has packed into.
_PACKED = {"auto_round:auto_gptq": "gptq", "auto_round:auto_awq": "awq"}
_FORMATS = {"gptq": ("gptq", "gptq_v2"), "awq": ("gemm",)}
# Models whose layers have no bias unless they say so; some programs store zeros in its place.
_WITHOUT_BIAS = {"llama", "mistral", "mixtral"}


@dataclass(frozen=True)
class Grouped(Packed):
    """A matrix of `bits` a number, turned, in groups of `group` inputs. `added`: what its stored zeros lack."""

    bits: int
    group: int
    added: int


@dataclass(frozen=True)
class Gptq(Grouped):
    """Numbers of the same output one after another: parts `numbers`, `zeros`, `factors`, and `groups` if they are not
    in order."""


@dataclass(frozen=True)
class Awq(Grouped):
    """Numbers of the same input together, eight in 32 bits in AWQ's order: parts `numbers`, `zeros`, `factors`."""


def layout_of(how: Mapping[str, Any]) -> str | None:
    """ "gptq" or "awq", where a quantization_config is of one of them; None for what is not."""
    method = str(how.get("quant_method"))
    layout = _METHODS.get(method)
    return _PACKED.get(str(how.get("packing_format"))) if layout == "" else layout


def is_grouped(how: Mapping[str, Any]) -> bool:
    """Whether a quantization_config is of a layout that is read here."""
    layout = layout_of(how)
    return layout is not None and _format(how, layout) in _FORMATS[layout]


def _format(how: Mapping[str, Any], layout: str) -> str:
    if str(how.get("quant_method")) not in _FORMATS:
        return _FORMATS[layout][0]
    said = how.get("checkpoint_format") or how.get("format") or how.get("version")
    return str(said or _FORMATS[layout][0]).lower()


def find_grouped(stored: Stored) -> Quantised | None:
    """All weights in one of both layouts. Raises `SourceError` for one that is laid out otherwise."""
    layout = layout_of(stored.how)
    assert layout is not None
    tensors = stored.tensors
    found: dict[str, Packed] = {}
    beside = set()
    has_bias = stored.config.get("attention_bias") or stored.config.get("mlp_bias")
    for name in tensors:
        stem, dot, last = name.rpartition(".")
        if last != "qweight" or not dot:
            continue
        found[f"{stem}.weight"] = _gptq(stored, stem) if layout == "gptq" else _awq(stored, stem)
        if stored.config.get("model_type") in _WITHOUT_BIAS and not has_bias:
            beside.add(f"{stem}.bias")
    first = next(iter(found.values()), None)
    kind = (
        f"{first.bits} bits ({layout.upper()}, a factor for each {first.group})" if isinstance(first, Grouped) else ""
    )
    return stored.quantised(kind, found, beside & tensors.keys())


def _gptq(stored: Stored, stem: str) -> Gptq:
    parts = _parts(stored, stem)
    numbers, zeros, factors = (parts[one] for one in ("numbers", "zeros", "factors"))
    groups, outputs = factors.shape
    bits = 32 * zeros.shape[1] // max(outputs, 1)
    inputs = numbers.shape[0] * 32 // bits if bits in _BITS else 0
    order = stored.tensors.get(f"{stem}.g_idx")
    fits = (
        zeros.parameters * 32 == groups * outputs * bits
        and numbers.shape[0] * 32 == inputs * bits
        and numbers.shape[1] == outputs
        and zeros.shape[0] == groups
        and 0 < groups <= inputs
        and (order is None or (order.shape == (inputs,) and order.dtype in ("I32", "I64")))
    )
    group = -(-inputs // groups) if fits else 0
    if not fits or (order is None and -(-inputs // group) != groups):
        raise stored.odd(stem, _unfit("GPTQ"))
    unit = inputs * outputs
    all_parts = {name: Part(one, one.parameters) for name, one in parts.items()}
    if order is not None:
        all_parts["groups"] = Part(order, inputs)
    is_first = _format(stored.how, "gptq") != "gptq_v2"
    return Gptq((outputs, inputs), all_parts, unit, bits, group, 1 if is_first else 0)


def _awq(stored: Stored, stem: str) -> Awq:
    parts = _parts(stored, stem)
    numbers, zeros, factors = (parts[one] for one in ("numbers", "zeros", "factors"))
    groups, outputs = factors.shape
    inputs = numbers.shape[0]
    if (
        zeros.shape != (groups, outputs // 8)
        or numbers.shape != (inputs, outputs // 8)
        or outputs % 8
        or not groups
        or not inputs
        or inputs % groups
    ):
        raise stored.odd(stem, _unfit("AWQ in 4 bits"))
    all_parts = {name: Part(one, one.parameters) for name, one in parts.items()}
    return Awq((outputs, inputs), all_parts, inputs * outputs, 4, inputs // groups, 0)


def _parts(stored: Stored, stem: str) -> dict[str, Any]:
    parts = {}
    for role, ending in (("numbers", "qweight"), ("zeros", "qzeros"), ("factors", "scales")):
        one = stored.tensors.get(f"{stem}.{ending}")
        expected = ("F16", "BF16", "F32") if role == "factors" else ("I32",)
        if one is None or len(one.shape) != 2 or one.dtype not in expected:
            raise stored.odd(f"{stem}.qweight", f"without a fitting {ending}")
        parts[role] = one
    return parts


def _unfit(program: str) -> str:
    return f"in shapes that are not those of {program}"
