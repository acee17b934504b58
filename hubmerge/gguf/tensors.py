"""llama.cpp's tensors of a model, and which of transformers' each is made of."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SourceError
from ..hub.gguf.naming import Architecture
from ..stream.weights import Described, Reads, Weights
from .formats import BLOCK, FORMATS, Format, is_finite_in

ROWS = 2**20
"""Elements that are read, packed and written at a time, or a row or head where that has more."""
_WHOLE = re.compile(r".*(?:ffn_gate_inp|ffn_gate_inp_shexp)\.weight")
_LEFT_OUT = re.compile(r".*rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Laid:
    """A tensor of the file: its `shape` as torch has it, its `format`, and the tensors that lie in it, one after
    another (`pieces`). `rows`: of a head, where they lie in pairs; 0: they do not. `added`: what is added to each."""

    name: str
    shape: tuple[int, ...]
    format: Format
    pieces: tuple[str, ...]
    rows: int = 0
    added: float = 0.0

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.shape[-1] if len(self.shape) > 1 or not self.rows else 1

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def blocks(self, weights: Weights, reads: Reads) -> Iterator[Tensor]:
        """All of it in float32: rows as llama.cpp has them, some at a time."""
        unit = self.width * max(1, self.rows)
        step = max(1, ROWS // unit) * unit
        for piece in self.pieces:
            size = self.parameters // len(self.pieces)
            for start in range(0, size, step):
                stop = min(start + step, size)
                rows = weights.read(piece, start, stop, reads).to(torch.float32).view(-1, self.width)
                if self.rows:
                    rows = rows.view(-1, 2, self.rows // 2, self.width).transpose(1, 2).reshape(-1, self.width)
                yield rows + self.added if self.added else rows

    def packed(self, weights: Weights, reads: Reads) -> Iterator[NDArray[Any]]:
        """The same as it is stored. Raises `SourceError` for what the format cannot hold."""
        from gguf import GGMLQuantizationType, quants

        for rows in self.blocks(weights, reads):
            if not is_finite_in(rows, self.format):
                raise SourceError(
                    f"{self.pieces[0]} of {weights.name} has values beyond what float16 holds; write BF16."
                )
            yield quants.quantize(rows.contiguous().numpy(), GGMLQuantizationType[self.format.name])


def lay_out(weights: Weights, known: Architecture, config: Mapping[str, Any], kind: Format) -> list[Laid]:
    """The tensors of the file, in the order of layers. Raises `SourceError` for one that llama.cpp has no place for."""
    pieces: dict[str, dict[int, str]] = {}
    for name in weights.tensors:
        if _LEFT_OUT.fullmatch(name):
            continue
        found = known.stored(name)
        if found is None and known.stored(f"model.{name}") is not None:
            raise SourceError(
                f"{weights.name} has {name} in place of model.{name}: it was saved without its head, which llama.cpp "
                "computes answers with; save the whole model (AutoModelForCausalLM), or name one with a head."
            )
        if found is None or (found[0] == "output.weight" and known.headless):
            raise SourceError(f"{weights.name} has {name}, for which llama.cpp has no place in a {known.name}.")
        pieces.setdefault(found[0], {})[found[1]] = name
    laid = [_laid(weights, known, config, kind, name, parts) for name, parts in pieces.items()]
    return sorted(laid, key=lambda one: _order(one.name))


def _laid(
    weights: Weights, known: Architecture, config: Mapping[str, Any], kind: Format, name: str, parts: dict[int, str]
) -> Laid:
    names = tuple(parts[number] for number in sorted(parts))
    tensors: list[Described] = [weights.tensors[one] for one in names]
    shape = tensors[0].shape
    if sorted(parts) != list(range(len(parts))) or any(one.shape != shape for one in tensors):
        raise SourceError(f"{weights.name} has experts that differ in shape, or lacks some of {name}.")
    if name.endswith("_exps.weight"):
        shape = len(names), *shape
    elif name.endswith("ffn_gate_inp_shexp.weight"):
        shape = shape[-1:]
    heads = {"attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads"}
    key = known.heads(name)
    rows = 0 if key is None else shape[0] // config[heads[key]]
    added = -known.norms if names[0].endswith("norm.weight") else 0.0
    return Laid(name, shape, _format(kind, name, shape), names, rows, added)


def _format(kind: Format, name: str, shape: tuple[int, ...]) -> Format:
    if len(shape) < 2 or _WHOLE.fullmatch(name):
        return FORMATS["F32"]
    chosen = FORMATS[kind.others] if kind.others and name in ("token_embd.weight", "output.weight") else kind
    blocks = chosen.name.startswith("Q")
    return FORMATS["F16"] if blocks and shape[-1] % BLOCK else chosen


def _order(name: str) -> tuple[int, int, str]:
    block = re.match(r"blk\.(\d+)\.", name)
    return (1, int(block[1]), name) if block else (0 if name.startswith("token") else 2, 0, name)


def bytes_of(laid: Laid) -> int:
    """What it takes in the file."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    elements, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[laid.format.name]]
    return laid.parameters // elements * nbytes


def numbers(values: list[float]) -> NDArray[np.float32]:
    """A small tensor."""
    return np.array(values, dtype=np.float32)
