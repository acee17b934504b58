"""How positions are scaled, in transformers' configuration (`rope_parameters`) and in the header of a GGUF file.

Source: https://github.com/ggml-org/llama.cpp, conversion/base.py, llama.py and phi.py; modeling_rope_utils.py of
transformers
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SourceError

_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What all models have that scale positions as Llama 3.1 does; the factor differs."""
_IGNORED = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_READ = {
    "linear": {"factor"},
    "yarn": {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow"},
    "llama3": {"factor", *_LLAMA_3},
    "longrope": {"factor", "original_max_position_embeddings", "short_factor", "long_factor"},
}
_FREQUENCIES, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"


def llama3_factors(rope: Mapping[str, Any], width: int) -> list[float]:
    """What each of the `width`/2 frequencies of a head is divided by, as Llama 3.1 scales positions."""
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    before = rope["original_max_position_embeddings"]
    found = []
    for place in range(0, width, 2):
        length = 2 * math.pi * rope["rope_theta"] ** (place / width)
        if length < before / high:
            found.append(1.0)
        elif length > before / low:
            found.append(float(factor))
        else:
            smooth = (before / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def told(rope: Mapping[str, Any], longest: int, width: int, what: str) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Keys of the header (without the architecture's name) and tensors that tell how positions are scaled.

    `rope`: the settings of one kind of layer; `longest`: positions that the model is made for; `width`: elements of a
    head that are turned. Raises `SourceError` for what llama.cpp does otherwise.
    """
    keys: dict[str, Any] = {"rope.dimension_count": width, "rope.freq_base": float(rope["rope_theta"])}
    kind = str(rope.get("rope_type", "default"))
    if kind == "default":
        return keys, {}
    given = {key: value for key, value in rope.items() if value is not None and key not in _IGNORED}
    if (odd := sorted(given.keys() - _READ.get(kind, set()))) or kind not in _READ:
        raise SourceError(
            f"{what} scales positions by {kind}{f' with {odd[0]}' if odd else ''}, which llama.cpp lacks."
        )
    if kind in ("linear", "yarn"):
        if (given.get("beta_fast", 32), given.get("beta_slow", 1)) != (32, 1):
            raise SourceError(f"{what} scales positions by yarn with betas that are not 32 and 1; llama.cpp has these.")
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": float(given["factor"])}
    if kind in ("yarn", "longrope"):
        keys["rope.scaling.original_context_length"] = before = int(given["original_max_position_embeddings"])
    if kind == "llama3":
        return keys, {_FREQUENCIES: llama3_factors(rope, width)}
    if kind == "longrope":
        scale = given.get("factor") or longest / before
        keys["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(scale) / math.log(before)) if scale > 1 else 1.0
        return keys, {_LONG: list(given["long_factor"]), _SHORT: list(given["short_factor"])}
    return keys, {}


def read(values: Mapping[str, Any], small: Mapping[str, Sequence[float]], width: int) -> dict[str, Any] | None:
    """transformers' `rope_parameters` of what a header tells (keys without the architecture's name) and of the `small`
    tensors beside it; None where they do not tell all."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": values.get("rope.freq_base", 10000.0)}
    kind, before = values.get("rope.scaling.type", "none"), values.get("rope.scaling.original_context_length")
    if small.keys() == {_FREQUENCIES}:
        frequencies = small[_FREQUENCIES]
        rope |= {"rope_type": "llama3", "factor": max(frequencies), **_LLAMA_3}
        if 2 * len(frequencies) != width or kind != "none":
            return None
        pairs = zip(llama3_factors(rope, width), frequencies, strict=True)
        return rope if all(math.isclose(*pair, rel_tol=1e-5) for pair in pairs) else None
    if small:
        longest = values.get("context_length")
        if small.keys() != {_LONG, _SHORT} or type(before) is not int or type(longest) is not int or before <= 0:
            return None
        long, short = list(small[_LONG]), list(small[_SHORT])
        return rope | {
            "rope_type": "longrope",
            "long_factor": long,
            "short_factor": short,
            "original_max_position_embeddings": before,
            "factor": longest / before,
        }
    if kind in ("linear", "yarn"):
        factor = values.get("rope.scaling.factor")
        if not isinstance(factor, float) or (kind == "yarn" and type(before) is not int):
            return None
        more = {"original_max_position_embeddings": before} if kind == "yarn" else {}
        return rope | {"rope_type": kind, "factor": factor, **more}
    return rope if kind == "none" else None
