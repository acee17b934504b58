"""A merge of models that are in memory already, as state dicts: for notebooks and training loops.

>>> base, math = {"norm.weight": torch.zeros(3)}, {"norm.weight": torch.tensor([0.0, 2.0, 4.0])}
>>> merge_state_dicts("task_arithmetic", [(math, {"weight": 0.5})], base)
{'norm.weight': tensor([0., 1., 2.])}
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import RecipeError
from ..methods import find_method
from ..recipe import Recipe
from .carried import Carried
from .compatibility import check_tensors
from .compute import merge_tensor, one_thread
from .device import cores
from .dtypes import DTYPES
from .findings import raise_errors
from .layout import lay_out, order
from .settings import check_settings
from .staging import plan_tensors
from .tensors import TensorPlan
from .views import View
from .weights import Described, Extent, Reads, Weights

StateDict = Mapping[str, Tensor]
"""A model's tensors by name, as `model.state_dict()` and `safetensors.torch.load_file` give them."""

_STORED = {dtype.torch: dtype.name for dtype in DTYPES.values()}


def merge_state_dicts(
    method: str,
    models: Sequence[StateDict | tuple[StateDict, Mapping[str, Any]]],
    base: StateDict | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    dtype: str | None = None,
) -> dict[str, Tensor]:
    """Merges models in memory to what the same recipe would write, bit for bit.

    `method`: a name of `hubmerge.METHODS`. `models`: each alone, or with parameters of its own beside it. `parameters`:
    those of all models, as in a recipe: a number, a list that is a gradient over the layers, or a list of
    `{"filter": "mlp", "value": 0.3}`. `base`: what task vectors start from. `dtype`: "float32", "float16" or
    "bfloat16"; without it that of the models. The models keep their tensors; the result's lie on the device of the
    first model, those with one memory for several names (a tied head) again so. Memory: the result's, and a few blocks
    a core. Raises `RecipeError` for a method or parameters that do not exist, `PlanError` for models that do not fit,
    `SourceError` where the result is not finite.
    """
    given = [one if isinstance(one, tuple) else (one, {}) for one in models]
    names = [f"model-{number}" for number in range(1, len(given) + 1)]
    held = [Held(name, state) for name, (state, _) in zip(names, given, strict=True)]
    document: dict[str, Any] = {
        "merge_method": method,
        "models": [{"model": name, "parameters": own} for name, (_, own) in zip(names, given, strict=True)],
        "parameters": parameters or {},
    }
    if dtype is not None:
        document["dtype"] = dtype
    if base is not None:
        if not find_method(method).takes_base:
            raise RecipeError(f"{method} takes no base; give it as one of the models, or not at all.")
        document["base_model"] = "base"
        held.insert(0, Held("base", base))
    return _merge(Recipe.from_dict(document, strict=True), held)


@dataclass(frozen=True, eq=False)
class Held(Weights):
    """A state dict as weights of a merge."""

    called: str
    state: StateDict

    def __post_init__(self) -> None:
        for name, tensor in self.state.items():
            if not isinstance(tensor, Tensor):
                raise RecipeError(f"{self.called}: expected a tensor as {name}, got {type(tensor).__name__}.")
            if tensor.dtype not in _STORED or tensor.layout is not torch.strided or tensor.is_meta:
                raise RecipeError(
                    f"{self.called}: {name} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}; what is "
                    f"merged is dense, in memory, and of {', '.join(_STORED.values())}."
                )

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.called

    @property
    def config(self) -> Mapping[str, Any]:
        """Not known."""
        return {}

    @cached_property
    def tensors(self) -> Mapping[str, Described]:
        """All of the state dict."""
        return {
            name: TensorPlan(name, tuple(tensor.shape), _STORED[tensor.dtype], ())
            for name, tensor in self.state.items()
        }

    @property
    def tokenizer(self) -> Carried:
        """A state dict has none, and nothing asks for it."""
        raise NotImplementedError

    def needs(self, name: str, start: int, stop: int) -> Iterator[Extent]:
        """Nothing: it is here."""
        yield from ()

    def read(self, name: str, start: int, stop: int, reads: Reads | None = None) -> Tensor:
        """As it is, from wherever it is."""
        return self.state[name].detach().reshape(-1)[start:stop].cpu()


def _merge(recipe: Recipe, held: Sequence[Held]) -> dict[str, Tensor]:
    method = find_method(recipe.merge_method)
    first = _first_names(held)
    seen = {
        index: View(one, {name: tensor for name, tensor in one.tensors.items() if first.get(name, name) == name})
        for index, one in enumerate(held)
    }
    layout = lay_out(recipe, method, {ref: index for index, ref in enumerate(recipe.named)}, seen)
    tensors, findings = plan_tensors(recipe, method, layout, held)
    unfit = check_tensors(tensors, held, "add the missing rows, or leave those beyond the shorter one out")
    raise_errors([*check_settings(recipe, method), *layout.findings, *findings, *unfit])

    def merged(plan: TensorPlan) -> Tensor:
        return merge_tensor(method, plan, lambda index, name, start, stop: held[index].read(name, start, stop))

    with one_thread(), ThreadPoolExecutor(cores()) as threads:
        made = dict(zip((plan.name for plan in tensors), threads.map(merged, tensors), strict=True))
    return {name: made[first.get(name, name)].to(tensor.device) for name, tensor in held[0].state.items()}


def _first_names(held: Sequence[Held]) -> dict[str, str]:
    """Names of weights that all models keep in the memory of another one, a tied head, to that one's name."""
    shared = [name for name in held[0].state if all(name in one.state for one in held)]
    place = {name: tuple(_place(one.state[name]) for one in held) for name in sorted(shared, key=order)}
    names = {places: name for name, places in reversed(place.items())}
    return {name: names[places] for name, places in place.items() if held[0].state[name].numel()}


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
