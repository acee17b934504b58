"""The Gram matrices of what linear modules are given: X^T X, summed up as texts pass by."""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn


class Grams:
    """Watches the linear modules among `modules`, by their names, while it lasts.

    `sums`: one (in, in) float32 for each input; `of`: the name that the sum of each module's input has, for modules
    given the same tensor, such as the projections of queries, keys and values, share one.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.sums: dict[str, Tensor] = {}
        self.of: dict[str, str] = {}
        self._linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
        self._last: tuple[Tensor, str] | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> "Grams":
        for name, module in self._linear.items():
            self._handles.append(
                module.register_forward_pre_hook(lambda _, given, name=name: self._add(name, given[0]))
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last = None
        for handle in self._handles:
            handle.remove()

    def _add(self, name: str, given: Tensor) -> None:
        if self._last is not None and given is self._last[0]:
            self.of.setdefault(name, self._last[1])
        own = self.of.setdefault(name, name)
        self._last = given, own
        if own != name:
            return
        inputs = given.detach().reshape(-1, given.shape[-1]).to(torch.float32)
        if name not in self.sums:
            self.sums[name] = torch.zeros(inputs.shape[1], inputs.shape[1], device=inputs.device)
        self.sums[name].addmm_(inputs.T, inputs)
