"""A model as what is before its layers, the layers, and what is after them: each is run by itself.

The model's own forward says how layers are called: it is run with layers that only note their arguments. Each of them
must be given the very tensor that the one before gave back, so that running them one after another is the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SourceError
from ..evaluate.placement import execution_device

_HIDDEN = "hidden_states"


@dataclass(frozen=True)
class Call:
    """How a layer is called, beside the hidden states."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


class Stack:
    """The layers of a model, and all else of it. `name`: how messages call it. Raises `SourceError` where it has other
    layers than one after another."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name
        self.prefix, self.layers = find_layers(model, name)
        self._gives_tuples = False

    @property
    def outside(self) -> list[nn.Module]:
        """All modules that are not of the layers."""
        inside = {module for layer in self.layers for module in layer.modules()}
        return [module for module in self.model.modules() if module not in inside]

    def begin(self, ids: list[int]) -> tuple[Tensor, list[Call]]:
        """What the first layer is given for a text, (1, tokens, width), and how each layer is called."""
        try:
            return self._begin(ids)
        except _OtherLayers:
            raise
        except Exception:
            # Layers of some kinds give tuples: a tensor in their place is taken apart along its first dimension.
            self._gives_tuples = True
            return self._begin(ids)

    def run(self, number: int, hidden: Tensor, call: Call) -> Tensor:
        """What a layer makes of hidden states."""
        found = self.layers[number](hidden, *call.positional, **call.named)
        made: Tensor = found[0] if isinstance(found, tuple) else found
        return made

    def end(self, ids: list[int], hidden: Tensor, keep: Callable[[Tensor], object] | None = None) -> Tensor:
        """The logits, (tokens, vocabulary), where the last layer gives these hidden states; `keep` is told what the
        first layer is given."""

        def stand_in(number: int, given: Tensor, call: Call) -> Tensor:
            if number == 0 and keep is not None:
                keep(given)
            return hidden if number == len(self.layers) - 1 else given

        with self._replaced(stand_in):
            logits: Tensor = self.model(input_ids=self._input(ids), use_cache=False).logits[0]
        return logits

    def _begin(self, ids: list[int]) -> tuple[Tensor, list[Call]]:
        calls: list[Call] = []
        seen: list[Tensor] = []

        def note(number: int, given: Tensor, call: Call) -> Tensor:
            if number != len(calls) or (seen and given is not seen[0]) or given.dim() != 3:
                if self._gives_tuples:
                    raise _OtherLayers(unlike(self.name))
                raise ValueError
            calls.append(call)
            seen.append(given)
            return given

        with self._replaced(note):
            self.model.base_model(input_ids=self._input(ids), use_cache=False)
        if len(calls) != len(self.layers):
            raise _OtherLayers(unlike(self.name))
        return seen[0], calls

    def _input(self, ids: list[int]) -> Tensor:
        return torch.tensor([ids], device=execution_device(self.model))

    @contextmanager
    def _replaced(self, stand_in: Callable[[int, Tensor, Call], Tensor]) -> Iterator[None]:
        """Calls `stand_in` with a layer's number, what it is given, and how, in place of each layer."""

        def forward(number: int) -> Callable[..., Any]:
            def called(*positional: Any, **named: Any) -> Any:
                if positional:
                    hidden, *rest = positional
                else:
                    hidden, rest = named.pop(_HIDDEN), []
                made = stand_in(number, hidden, Call(tuple(rest), named))
                return (made,) if self._gives_tuples else made

            return called

        before = [layer.__dict__.get("forward") for layer in self.layers]
        for number, layer in enumerate(self.layers):
            layer.forward = forward(number)
        try:
            yield
        finally:
            for layer, own in zip(self.layers, before, strict=True):
                if own is None:
                    del layer.forward
                else:
                    layer.forward = own


class _OtherLayers(SourceError):
    pass


def find_layers(model: Any, name: str) -> tuple[str, list[nn.Module]]:
    """The one stack of layers of a language model: what their names begin with, and them. Raises `SourceError`."""
    lists = {
        label: module
        for label, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and any(isinstance(one, nn.Linear) or _is_turned(one) for one in module.modules())
    }
    outer = [label for label in lists if not any(label.startswith(f"{other}.") for other in lists)]
    if len(outer) != 1 or getattr(model.config, "is_encoder_decoder", False):
        raise _OtherLayers(unlike(name))
    return f"{outer[0]}.", list(lists[outer[0]])


def turned(model: Any) -> str | None:
    """The first linear module of a model that stores its matrix the other way round, as GPT-2's do."""
    return next((label for label, module in model.named_modules() if _is_turned(module)), None)


def _is_turned(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"


def unlike(name: str) -> str:
    """What is said of a model that cannot be measured."""
    return (
        f"{name} is no language model of layers one after another, each given what the one before made, and is not "
        "measured; merge it with a method that needs no data."
    )


@contextmanager
def in_memory(modules: list[nn.Module]) -> Iterator[None]:
    """Keeps the weights of modules in memory that accelerate otherwise reads from disk for each call."""
    hooks = [
        (module, hook)
        for module in modules
        if (hook := getattr(module, "_hf_hook", None)) is not None and getattr(hook, "offload", False)
    ]
    for module, hook in hooks:
        hook.pre_forward(module)
        hook.offload = False
    try:
        yield
    finally:
        for module, hook in hooks:
            hook.offload = True
            hook.post_forward(module, None)
