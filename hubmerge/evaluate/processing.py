"""What a model's processor makes of pictures: how much, told from its settings, and one picture after another.

The settings come from strangers, and a few bytes of them ask for gigabytes.
"""

import sys
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from transformers.image_utils import SizeDict

from ..amounts import size
from ..errors import ResourceError, SourceError, TaskError
from .examples import Example
from .pictures import MOST_PIXELS, Picture

TIMES = 16
"""How many times the side of a tower's own pictures a processor's may be, which is then cut into tiles: the largest
known have 6."""

STORED, MADE = 16, 32
"""Bytes that a pixel takes as it is decoded and handed on, and about those that one takes of what is made."""

_SIZES = {"size": "do_resize", "crop_size": "do_center_crop", "pad_size": "do_pad", "max_image_size": "do_resize"}
"""The settings of a processor that make a picture larger, and those that switch them off."""


def require_modest(processor: Any, config: Mapping[str, Any], name: str) -> None:
    """Raises `SourceError` where a processor makes far larger pictures than a model with this config.json looks at."""
    side, own = isqrt(pixels_made(processor, 1, 1)), _tower_side(config)
    if side * side <= MOST_PIXELS and (own is None or side <= TIMES * own):
        return
    looked = f", and its tower looks at {own:,} x {own:,} (image_size in config.json)" if own else ""
    raise SourceError(
        f"The processor of {name} makes {side:,} x {side:,} pixels of every picture{looked}; do not use it, or take "
        "processor_config.json of the model that it was made from."
    )


def require_bounded(processor: Any, picture: Picture) -> None:
    """Raises `TaskError` for a picture of which a processor would make more than `MOST_PIXELS`."""
    width, height = picture.size
    if (made := pixels_made(processor, width, height)) > MOST_PIXELS:
        raise TaskError(
            f"The picture {picture.where} is {width:,} x {height:,} pixels, and the model's processor would make "
            f"{made:,} of them; at most {MOST_PIXELS:,} are made: cut it into pieces that are less narrow."
        )


def require_room(processor: Any, examples: Sequence[Example], memory: int) -> None:
    """Raises `ResourceError` where the largest picture of some examples takes more than `memory` bytes to process."""
    for picture in (one.image for one in examples if one.image is not None):
        width, height = picture.size
        needed = width * height * STORED + pixels_made(processor, width, height) * MADE
        if needed > memory:
            raise ResourceError(
                f"The picture {picture.where} of {width:,} x {height:,} pixels takes {size(needed)} of memory to "
                f"process, and the limit leaves {size(max(0, memory))} beside the model; allow "
                f"{size(needed - memory)} more, or store it smaller."
            )


def pixels_made(processor: Any, width: int, height: int) -> int:
    """How many pixels a processor makes of a picture at most on the way, by those settings that most have."""
    own = getattr(processor, "image_processor", processor)
    # Processors that came after Qwen2-VL's count pixels where others have edges.
    counts = any(hasattr(sys.modules.get(kind.__module__), "smart_resize") for kind in type(own).__mro__)
    sizes = [getattr(own, name, None) for name, done in _SIZES.items() if getattr(own, done, None) is not False]
    best = getattr(own, "image_grid_pinpoints", None)
    sizes += [
        {"height": one[0], "width": one[1]}
        for one in (best if isinstance(best, (list, tuple)) else ())
        if isinstance(one, (list, tuple)) and len(one) == 2
    ]
    return max((_made(_numbers(one), width, height, counts) for one in sizes), default=0)


def _made(edges: Mapping[str, int], width: int, height: int, counts: bool) -> int:
    if "height" in edges and "width" in edges:
        return edges["height"] * edges["width"]
    pixels, (low, high) = width * height, (edges.get("shortest_edge"), edges.get("longest_edge"))
    if edges and (counts or "min_pixels" in edges or "max_pixels" in edges):
        low, high = edges.get("min_pixels", low), edges.get("max_pixels", high)
        return min(pixels, high or pixels) if pixels >= (low or 0) else low or 0
    scales = [edge / own for edge, own in ((low, min(width, height)), (high, max(width, height))) if edge]
    scales += [
        edges[f"max_{name}"] / own for name, own in (("height", height), ("width", width)) if f"max_{name}" in edges
    ]
    return round(pixels * min(scales) ** 2) if scales else 0


def _numbers(setting: Any) -> dict[str, int]:
    """The sizes that a setting names; one number alone is that of the shorter edge, which is the larger reading."""
    if type(setting) is int:
        setting = {"shortest_edge": setting}
    named = dict(setting) if isinstance(setting, (Mapping, SizeDict)) else {}
    return {name: min(value, 2**32) for name, value in named.items() if type(value) is int and value > 0}


def _tower_side(config: Mapping[str, Any]) -> int | None:
    """The side of the pictures that a model's tower was made for, where its config.json tells."""
    vision = config.get("vision_config")
    stated = (vision if isinstance(vision, Mapping) else config).get("image_size")
    sides = stated if isinstance(stated, (list, tuple)) else [stated]
    return max((side for side in sides if type(side) is int and side > 0), default=None)


def joined(made: Sequence[Mapping[str, Any]], pad: int) -> dict[str, Any]:
    """What a processor made of questions one by one, as it makes it of all at once: texts are filled up on the left,
    with `pad` and zeros, pictures with zeros at their ends."""
    found: dict[str, Any] = {}
    for key in made[0]:
        values = [one[key] for one in made]
        if not isinstance(values[0], torch.Tensor):
            found[key] = [part for value in values for part in value]
            continue
        is_text = all(value.shape == one["input_ids"].shape for value, one in zip(values, made, strict=True))
        shape = [max(sides) for sides in zip(*(value.shape[1:] for value in values), strict=True)]
        whole = values[0].new_full((sum(map(len, values)), *shape), pad if key == "input_ids" else 0)
        start = 0
        for value in values:
            ends = [
                slice(most - own, None) if is_text else slice(own)
                for most, own in zip(shape, value.shape[1:], strict=True)
            ]
            where = (slice(start, start + len(value)), *ends)
            whole[where] = value
            start += len(value)
        found[key] = whole
    return found
