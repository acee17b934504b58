"""mergekit's merges in memory, answered by hubmerge: methods, tensors with their groups, and state dicts."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
import torch
from mergekit_calls import INSIDE, Refused, Values


@dataclass(frozen=True, eq=False)
class TensorEntry:
    """A tensor of one model."""

    id: Any
    tensor: torch.Tensor
    is_base: bool = False


@dataclass(frozen=True)
class TensorMetadata:
    """What a tensor is called."""

    name: str = "w"
    vocabulary_axis: int | None = None


@dataclass(frozen=True, eq=False)
class TensorGroup:
    """The tensors that one is merged from."""

    entries: tuple[TensorEntry, ...]
    metadata: TensorMetadata = field(default_factory=TensorMetadata)

    def __post_init__(self) -> None:
        if any(entry.id is None for entry in self.entries):
            raise Refused("IDs cannot be None")

    @classmethod
    def from_tensors(
        cls,
        tensors: Any,
        *,
        ids: Any = None,
        base_index: int | None = None,
        name: str = "w",
        vocabulary_axis: Any = None,
    ) -> "TensorGroup":
        named = zip(ids if ids is not None else range(len(tensors)), tensors, strict=True)
        entries = tuple(TensorEntry(one, tensor, number == base_index) for number, (one, tensor) in enumerate(named))
        return cls(entries, TensorMetadata(name, vocabulary_axis))

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(entry.tensor for entry in self.entries)

    @property
    def base(self) -> TensorEntry | None:
        return next((entry for entry in self.entries if entry.is_base), None)

    @property
    def non_base(self) -> tuple[TensorEntry, ...]:
        return tuple(entry for entry in self.entries if not entry.is_base)

    def __getattr__(self, name: str) -> Any:
        pytest.skip(INSIDE)


class BasePolicy(Enum):
    """Whether a method takes a base."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    IGNORED = "none"


class Asked:
    """A merge method of hubmerge, called as mergekit's are."""

    def __init__(self, method: Any) -> None:
        contract = Values(base="", max_inputs=None)
        contract["base"] = BasePolicy(method.base)
        # With a base that is one of them, or need not be there, the number of the others counts.
        contract["max_inputs"] = None if method.base == "optional" else method.max_models and method.max_models + 1
        if method.base == "none":
            contract["max_inputs"] = method.max_models
        parameters = [Values(name=parameter.name) for parameter in method.parameters]
        self.method, self.spec = method, Values(name=method.name)
        self.spec.update(contract=contract, parameters=parameters)

    def __call__(self, groups: Any, *, parameters: Any = None, dtype: Any = None, out_dtype: Any = None) -> Any:
        results = []
        for group in groups:
            ids = [entry.id for entry in group.entries]
            base = next((entry.id for entry in group.entries if entry.is_base), None)
            name = "model.embed_tokens.weight" if group.metadata.vocabulary_axis is not None else group.metadata.name
            models = {entry.id: {name: entry.tensor} for entry in group.entries}
            assert list(models) == ids
            merged = merge_state_dicts(
                models, self.method.name, base=base, parameters=parameters, dtype=dtype, out_dtype=out_dtype
            )
            results.append(merged[name])
        return tuple(results)

    def __getattr__(self, name: str) -> Any:
        pytest.skip(INSIDE)


def get(name: str) -> Asked:
    """The method of this name."""
    from hubmerge import METHODS

    return Asked(METHODS[name])


def registered_methods() -> list[Asked]:
    """Those that both have."""
    return [get(name) for name in THEIRS.split()]


THEIRS = (
    "arcee_fusion breadcrumbs breadcrumbs_ties dare_linear dare_ties della della_linear karcher linear model_stock "
    "multislerp nearswap nuslerp passthrough ram ramplus_tl sce slerp task_arithmetic ties"
)


def merge_state_dicts(
    models: Any,
    method: Any,
    *,
    base: Any = None,
    parameters: Any = None,
    dtype: Any = None,
    out_dtype: Any = None,
    **_: Any,
) -> dict[str, torch.Tensor]:
    """mergekit's call in memory, answered by `hubmerge.merge_state_dicts`."""
    import hubmerge
    from hubmerge.errors import HubmergeError

    if not isinstance(method, (str, Asked)):
        pytest.skip(INSIDE)
    asked = get(method) if isinstance(method, str) else method
    given = dict(models) if isinstance(models, dict) else dict(enumerate(models))
    if None in given:
        raise Refused("IDs cannot be None")
    states = {key: one.state_dict() if hasattr(one, "state_dict") else one for key, one in given.items()}
    for one in (dtype, out_dtype):
        if one is not None and not one.is_floating_point:
            raise Refused("expected a floating-point torch.dtype")
    if dtype is not None:
        # `dtype` casts what is read, in mergekit; hubmerge rounds once, at the end.
        states = {
            key: {name: one.to(dtype) if one.is_floating_point() else one for name, one in state.items()}
            for key, state in states.items()
        }
    takes_base = asked.method.base != "none"
    origin = states.pop(base) if base is not None and takes_base else None
    own: list[dict[str, Any]] = [{} for _ in states]
    shared: dict[str, Any] = {}
    for name, value in (parameters or {}).items():
        parameter = next((one for one in asked.method.parameters if one.name == name), None)
        if isinstance(value, PerGroup):
            pytest.skip(INSIDE)
        if parameter is None or not parameter.per_model:
            shared |= {name: value} if parameter is not None else {}
        elif isinstance(value, dict):
            for values, key in zip(own, states, strict=True):
                values[name] = value[key]
        elif isinstance(value, (list, tuple)):
            for values, one in zip(own, value, strict=True):
                values[name] = one
        else:
            shared[name] = value
    written = next((str(one).removeprefix("torch.") for one in (out_dtype, dtype) if one is not None), None)
    try:
        return hubmerge.merge_state_dicts(
            asked.method.name, list(zip(states.values(), own, strict=True)), origin, parameters=shared, dtype=written
        )
    except HubmergeError as exc:
        raise Refused(str(exc)) from exc


class PerGroup(list):
    """Values for each tensor of a call: no recipe says that."""


def merge_tensors(
    tensors: Any, method: Any, *, ids: Any = None, base_index: int | None = None, name: str = "w", **how: Any
) -> torch.Tensor:
    """One tensor merged in memory."""
    keys = list(ids) if ids is not None else list(range(len(tensors)))
    models = {key: {name: tensor} for key, tensor in zip(keys, tensors, strict=True)}
    return merge_state_dicts(models, method, base=None if base_index is None else keys[base_index], **how)[name]
