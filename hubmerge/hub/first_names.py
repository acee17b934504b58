"""What the first authors of a UNet, and of FLUX, call its modules, by the names that diffusers has for them.

>>> names = ["down_blocks.0.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv", "mid_block.resnets.1.norm2"]
>>> list(first_names(names).values())
['input_blocks.1.0.in_layers.2', 'input_blocks.2.0.op', 'middle_block.2.out_layers.0']
>>> block = "single_transformer_blocks.7"
>>> joined_names([f"{block}.attn.to_{one}" for one in "qkv"] + [f"{block}.proj_mlp"])
{'single_blocks.7.linear1': ('single_transformer_blocks.7.attn.to_q', 'single_transformer_blocks.7.attn.to_k', \
'single_transformer_blocks.7.attn.to_v', 'single_transformer_blocks.7.proj_mlp')}
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

_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
TURNED = "final_layer.adaLN_modulation.1"
"""What has its two halves of rows the other way round than its module in diffusers has them."""
_AROUND = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    TURNED: "norm_out.linear",
    "final_layer.linear": "proj_out",
}
_KINDS = (("double_blocks", "transformer_blocks", _DOUBLE), ("single_blocks", "single_transformer_blocks", _SINGLE))


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


def joined_names(modules: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The modules of a transformer like FLUX that are one by each name that its first authors have, in the order of its
    rows; nothing of another network."""
    known = set(modules)
    numbers = {name.split(".")[1] for name in known if name.startswith(_KINDS[1][1])}
    if not numbers:
        return {}
    numbers |= {name.split(".")[1] for name in known if name.startswith(_KINDS[0][1])}
    found: dict[str, tuple[str, ...]] = {first: (ours,) for first, ours in _AROUND.items()}
    for first, ours, inside in _KINDS:
        for number in sorted(numbers):
            found |= {
                f"{first}.{number}.{name}": tuple(f"{ours}.{number}.{one}" for one in joined)
                for name, joined in inside.items()
            }
    return {first: joined for first, joined in found.items() if known.issuperset(joined)}


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
