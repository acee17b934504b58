"""The gates of a mixture, and other tensors that no model has: made here, and read like weights.

The row of an expert in a layer's gate points to where its prompts are, seen from the layer: the mean over its positive
prompts minus that over its negative ones, of length 1. So what is like an expert's prompts has the largest product with
its row, whatever their lengths.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..stream.carried import Carried
from ..stream.compute import one_thread
from ..stream.dtypes import DTYPES
from ..stream.tensors import TensorPlan
from ..stream.weights import Extent, Reads, Weights
from .document import Expert

See = Callable[[Sequence[str]], Tensor]
"""Gives (prompts, layers, width) of prompts: see prompts.py."""


def directions(experts: Sequence[Expert], see: See) -> Tensor:
    """(experts, layers, width), float32: where each expert's prompts are, of length 1; zeros for one without any."""
    prompts = list(dict.fromkeys(text for one in experts for text in (*one.positive_prompts, *one.negative_prompts)))
    seen = see(prompts)
    place = {text: number for number, text in enumerate(prompts)}
    rows = []
    for one in experts:
        row = torch.zeros(seen.shape[1:], dtype=torch.float64)
        for texts, sign in ((one.positive_prompts, 1.0), (one.negative_prompts, -1.0)):
            if texts:
                row += sign * seen[[place[text] for text in texts]].mean(0)
        rows.append(torch.nn.functional.normalize(row, dim=-1))
    return torch.stack(rows).to(torch.float32)


def drawn(experts: int, layers: int, width: int, spread: float) -> Tensor:
    """The same at random, normal with the standard deviation `spread`; each layer by a seed of its own."""
    found = []
    for layer in range(layers):
        seed = int.from_bytes(hashlib.sha256(f"gate {layer}".encode()).digest()[:6], "little")
        generator = torch.Generator().manual_seed(seed)
        found.append(torch.randn(experts, width, generator=generator) * spread)
    return torch.stack(found, dim=1)


@dataclass(frozen=True, eq=False)
class Made(Weights):
    """Tensors that are made: `plans` by name, and `make`, which gives those that are not zeros, called once.

    `beside`: the model that they go with.
    """

    beside: Weights
    plans: Mapping[str, TensorPlan]
    make: Callable[[], Mapping[str, Tensor]]
    _kept: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def name(self) -> str:
        """As the recipe has the model."""
        return self.beside.name

    @property
    def config(self) -> Mapping[str, Any]:
        """They are no model."""
        return {}

    @property
    def tensors(self) -> Mapping[str, TensorPlan]:
        """All that are made."""
        return self.plans

    @property
    def tokenizer(self) -> Carried:
        """The model's."""
        return self.beside.tokenizer

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Nothing that is stored."""
        yield from ()

    def prepare(self) -> None:
        """Makes them, which may take long: rather before the first is read."""
        with self._lock, one_thread():
            if not self._kept:
                self._kept.update(self.make())

    def read(self, name: str, start: int, stop: int, reads: Reads) -> Tensor:
        """The elements, in the dtype that is written."""
        dtype = DTYPES[self.plans[name].dtype].torch
        self.prepare()
        if name not in self._kept:
            return torch.zeros(stop - start, dtype=dtype)
        return self._kept[name].reshape(-1)[start:stop].to(dtype)

    @property
    def memory(self) -> int:
        """All of them, which stay."""
        return sum(4 * plan.parameters for plan in self.plans.values() if plan.name.endswith("gate.weight"))
