"""Settings of 0 by which a merge makes nothing of its models: what comes of them is tried on a small tensor."""

from collections.abc import Iterator, Mapping, Sequence

from ..late import torch
from ..methods import Method
from ..recipe import Recipe
from .findings import Finding, some, warning
from .tensors import TensorPlan

BASE, ZEROS = "base", "zeros"


def check_effect(recipe: Recipe, method: Method, tensors: Sequence[TensorPlan]) -> Iterator[Finding]:
    """Whether 0 everywhere - all weights, densities, lambda - leaves but the base, or zeros.

    That some tensors stay the base's may be meant; that weights of 0 make zeros of some, hardly.
    """
    known: dict[object, tuple[str, str] | None] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for tensor in tensors:
        key = (tuple(tuple(values.items()) for values in tensor.per_model), tuple(tensor.shared.items()))
        if key not in known:
            known[key] = _effect(method, tensor)
        if (effect := known[key]) is not None:
            found.setdefault(effect, []).append(tensor.name)
    at_all = {one.name: " at all models" if one.per_model else "" for one in method.parameters}
    for (name, result), names in found.items():
        everywhere = len(names) == len(tensors)
        if not everywhere and (result == BASE or name != "weight"):
            continue
        left = f"nothing but {recipe.base_model or 'the base_model'}" if result == BASE else "zeros"
        where = "the result is" if everywhere else f"in the result {some(names)} {'is' if len(names) == 1 else 'are'}"
        yield warning(f"{name} is 0{at_all[name]}, so {where} {left}.")


def _effect(method: Method, tensor: TensorPlan) -> tuple[str, str] | None:
    """The parameter that is 0, and what the method makes of a small tensor then; None where it makes more."""
    names = [
        parameter.name
        for parameter in method.parameters
        if parameter.is_gene and _is_zero(parameter.name, tensor.per_model if parameter.per_model else [tensor.shared])
    ]
    if not names or not tensor.per_model:
        return None
    *models, base = torch.linspace(1, 2, 16 * (len(tensor.per_model) + 1)).cos().view(-1, 4, 4)
    made = method(
        models,
        base if tensor.base is not None else None,
        per_model=tensor.per_model,
        shared=tensor.shared,
        tensor_name=tensor.name,
    )
    if tensor.base is not None and torch.equal(made, base):
        return names[0], BASE
    return (names[0], ZEROS) if not made.any() else None


def _is_zero(name: str, values: Sequence[Mapping[str, float]]) -> bool:
    return all(one.get(name) == 0 for one in values)
