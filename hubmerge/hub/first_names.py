"""What a UNet's first authors call its modules, by the names that diffusers has for them.

>>> names = ["down_blocks.0.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv", "mid_block.resnets.1.norm2"]
>>> list(first_names(names).values())
['input_blocks.1.0.in_layers.2', 'input_blocks.2.0.op', 'middle_block.2.out_layers.0']
"""

import re
from collections.abc import Collection

from ..blocks import block_of, find_blocks

_INSIDE = re.compile(
    r"(?:(?P<side>down|up)_blocks\.(?P<level>\d+)|mid_block)\.(?P<kind>resnets|attentions|downsamplers|upsamplers)"
    r"\.(?P<number>\d+)\.(?P<rest>.+)"
)
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_SIDES = {"IN": "input_blocks", "OUT": "output_blocks"}


def first_names(modules: Collection[str]) -> dict[str, str]:
    """The first authors' name of each module of a UNet that has one, by diffusers' name."""
    blocks = {
        name: block_of(place.words) for name, place in find_blocks([f"{name}.weight" for name in modules]).items()
    }
    found = {name: first for name, first in _OUTSIDE.items() if name in modules}
    for name in modules:
        if (one := _INSIDE.fullmatch(name)) is not None:
            first = _inside(one, blocks.get(f"{name}.weight", ""), modules)
            found |= {name: first} if first else {}
    return found


def _inside(one: "re.Match[str]", block: str, modules: Collection[str]) -> str | None:
    kind, number, rest = one["kind"], int(one["number"]), one["rest"]
    rest = _RESNET.get(rest, rest) if kind == "resnets" else rest
    if one["side"] is None:
        return f"middle_block.{1 if kind == 'attentions' else 2 * number}.{rest}"
    side = next((first for ours, first in _SIDES.items() if block.startswith(ours)), None)
    if side is None:
        return None
    place = f"{side}.{int(block.lstrip('INOUT'))}"
    if kind == "downsamplers":
        return f"{place}.0.op"
    if kind == "upsamplers":
        attends = any(name.startswith(f"up_blocks.{one['level']}.attentions.") for name in modules)
        return f"{place}.{2 if attends else 1}.{rest}"
    return f"{place}.{0 if kind == 'resnets' else 1}.{rest}"
