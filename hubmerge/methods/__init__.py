"""Merge methods: pure functions of tensors, and the one table that lists them.

A method merges one block of elements at a time. Where it must know something of the whole tensors first, such as the
magnitude that TIES cuts at, a second function measures that. `METHODS` tells the rest of hubmerge which parameters a
method takes, with which limits, and where it comes from. A new method is one or two functions in a file of its family
and an entry in table.py. The table imports no family before one of its methods computes, since torch takes seconds.

>>> import torch
>>> ties = METHODS["ties"]
>>> each_model = [{"weight": 1.0, "density": 0.5}, {"weight": 1.0, "density": 0.5}]
>>> shared = {"normalize": True, "lambda": 1.0}
>>> models = [torch.ones(2, 3), torch.ones(2, 3)]
>>> ties(models, torch.zeros(2, 3), per_model=each_model, shared=shared, tensor_name="lm_head.weight").shape
torch.Size([2, 3])
"""

from ..errors import RecipeError
from ..guesses import nearest
from .method import Method, Parameter
from .table import IGNORED_PARAMETERS, METHODS, UNBUILT

__all__ = ["IGNORED_PARAMETERS", "METHODS", "Method", "Parameter", "find_method"]


def find_method(name: str) -> Method:
    """The merge method that a recipe names; raises `RecipeError` where there is none of that name."""
    if name in METHODS:
        return METHODS[name]
    if (why := UNBUILT.get(name.lower())) is not None:
        raise RecipeError(f"The merge_method {name!r} is not here: {why}.")
    near = nearest(name, METHODS)
    hint = f"did you mean {near}?" if near else f"choose one of {', '.join(METHODS)}."
    raise RecipeError(f"There is no merge_method {name!r}: {hint}")
