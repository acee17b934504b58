"""The blocks of networks that draw, by the names that people give them: a filter of a recipe may be one of these.

A UNet of Stable Diffusion has IN00 to IN11, M00 and OUT00 to OUT11 (SDXL: to IN08 and OUT08), as its first authors
numbered them and merges by block weights know them; a transformer has double blocks D00, D01, ... and single blocks
S00, S01, ...; where all are of one kind, as in Z-Image and Lumina 2, they are D. BASE is all that lies in no block. IN,
M, OUT, D and S are all blocks of a side. `attention` is what attends - to_q, to_k, to_v, to_out and what stands beside
them in their module - and `rest` all else, as the image models of https://arxiv.org/abs/2403.13187 were divided. Words
joined by a plus mean what each of them means: IN+attention is what attends on the way in.

>>> names = ["conv_in.weight", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight", "mid_block.x"]
>>> places = find_blocks([*names, "down_blocks.1.resnets.1.conv1.weight", "up_blocks.0.resnets.2.x", "conv_out.bias"])
>>> [sorted(one.words)[0] for one in places.values()]
['IN00', 'IN04', 'M00', 'IN05', 'OUT02', 'OUT02']
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

BASE, ATTENTION, REST = "BASE", "attention", "rest"
SIDES = ("IN", "M", "OUT", "D", "S")
"""The sides of networks, in the order that blocks are counted in."""

_KINDS = "IMODS"
_WORD = rf"(?:(?:{'|'.join(SIDES)})(?:\d{{2,3}})?|{BASE}|{ATTENTION}|{REST})"
_WORDS = re.compile(rf"{_WORD}(?:\+{_WORD})*")
_ATTENTION = re.compile(r"(?:^|[._])(?:attn\d?|attention\d?|to_[qkv]|to_out|add_[qkv]_proj|to_add_out)\.")

# What a checkpoint in one file puts before the names of the network that draws.
_NETWORK = "model.diffusion_model."
_DIFFUSERS = re.compile(
    r"(?P<side>down|up)_blocks\.(?P<block>\d{1,3})\.(?:(?P<resampler>downsamplers|upsamplers)|\w+\.(?P<layer>\d{1,3}))\."
)
_ORIGINAL = re.compile(r"(?P<side>input|output)_blocks\.(?P<number>\d{1,3})\.")
_MIDDLE = re.compile(r"mid(?:dle)?_block\.")
_FIRST = re.compile(r"(?:conv_in|time_embed|time_embedding|add_embedding|class_embedding|label_emb|encoder_hid_proj)\b")
_LAST = re.compile(r"(?:conv_norm_out|conv_out|out\.\d)\b")
_TRANSFORMER = re.compile(
    r"(?:(?P<single>single_(?:transformer_|stream_)?blocks)"
    r"|(?:(?:joint_|visual_)?transformer|double(?:_stream)?|joint)_blocks)\.(?P<number>\d{1,3})\."
)
# Models of texts have layers, too, but call what attends otherwise and refine no noise.
_LAYERS = re.compile(r"(?:layers|blocks)\.(?P<number>\d{1,3})\.")
_DRAWS = re.compile(r"noise_refiner\.|(?:layers|blocks)\.\d{1,3}\.\w+\.to_[qkv]\.")


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: by which `words` filters may mean it, and its `depth` in the network (0 to 1)."""

    words: frozenset[str]
    depth: float


def is_word(text: str) -> bool:
    """Whether a filter is a name for tensors, where a network has blocks, and no part of a tensor's name."""
    return _WORDS.fullmatch(text) is not None


def side_of(block: str) -> str:
    """The side that a block is of; of BASE, itself."""
    return block.rstrip("0123456789")


def block_of(words: Iterable[str]) -> str:
    """The block among the words of a place."""
    return next(word for word in words if word not in (ATTENTION, REST))


def fits(text: str | None, name: str, words: Collection[str] = ()) -> bool:
    """Whether a filter means a tensor; `words`: those of its place, none in a network without blocks.

    >>> fits("mlp", "layers.0.mlp.up"), fits("attention", "attentions.0.ff.x", ("IN04", "rest")), fits("BASE", "wte")
    (True, False, True)
    >>> fits("IN+rest", "attentions.0.ff.x", ("IN04", "rest")), fits("OUT+rest", "attentions.0.ff.x", ("IN04", "rest"))
    (True, False)
    """
    if text is None:
        return True
    if text == BASE:
        return not words or BASE in words
    if not words or not is_word(text):
        return text in name
    known = {*words, *map(side_of, words)}
    return all(word in known for word in text.split("+"))


def find_blocks(names: Collection[str]) -> dict[str, Place]:
    """The place of each tensor of a network that draws, by its name; none of any other."""
    inner = {name: name.removeprefix(_NETWORK) for name in names}
    down = [one["layer"] for one in map(_DIFFUSERS.match, inner.values()) if one and one["side"] == "down"]
    a_block = 2 + max((int(layer) for layer in down if layer), default=1)  # its layers, and what halves their size
    layered = any(map(_DRAWS.match, inner.values()))
    found = {name: _block(plain, a_block, layered) for name, plain in inner.items()}
    if not any(found.values()):
        return {}
    last = max(filter(None, found.values()), key=_place)
    if last.startswith("OUT"):
        found |= {name: "IN00" for name, plain in inner.items() if _FIRST.match(plain)}
        found |= {name: last for name, plain in inner.items() if _LAST.match(plain)}
    order = sorted(set(filter(None, found.values())), key=_place)
    depth = {block: number / max(1, len(order) - 1) for number, block in enumerate(order)}
    return {
        name: Place(frozenset({block or BASE, ATTENTION if _ATTENTION.search(name) else REST}), depth.get(block, 0.0))
        for name, block in found.items()
    }


def _place(block: str) -> tuple[int, int]:
    """Sorts blocks as the network runs."""
    return _KINDS.index(block[0]), int(block.lstrip("INMOUTDS"))


def _block(name: str, a_block: int, layered: bool) -> str:
    """The block of a tensor, "" outside all; `a_block`: as how many the first authors count one of diffusers';
    `layered`: whether its blocks are called layers, or blocks alone."""
    if one := _DIFFUSERS.match(name):
        first = a_block * int(one["block"]) + (1 if one["side"] == "down" else 0)
        inside = a_block - 1 if one["resampler"] else int(one["layer"])
        return f"{'IN' if one['side'] == 'down' else 'OUT'}{first + inside:02d}"
    if one := _ORIGINAL.match(name):
        return f"{'IN' if one['side'] == 'input' else 'OUT'}{int(one['number']):02d}"
    if _MIDDLE.match(name):
        return "M00"
    if one := _TRANSFORMER.match(name):
        return f"{'S' if one['single'] else 'D'}{int(one['number']):02d}"
    if layered and (one := _LAYERS.match(name)):
        return f"D{int(one['number']):02d}"
    return ""
