"""Rows of a merge that only one of its models has: tokens of pictures, which no plain language model knows.

All others take that model's row (by_token.py), so most methods give it back. But a merge may also scale it, or round
it. In a model that is made of parts it stays what it was.
"""

from ..late import torch
from ..layers import is_by_token
from .rows import Rows, RowTensor
from .stage import Merged, Stage
from .tensors import TensorPlan
from .weights import Weights

_Place = tuple[Weights, str]


def with_own_rows(stage: Stage) -> Weights:
    """The result of a stage, but for the rows that only one of its models has: they are that one's."""
    merged = Merged(stage)
    found = {tensor.name: _rows(merged, tensor) for tensor in stage.tensors if is_by_token(tensor.name)}
    made = {name: rows for name, rows in found.items() if rows is not None}
    return Rows(merged, made) if made else merged


def _rows(merged: Merged, tensor: TensorPlan) -> RowTensor | None:
    """A tensor of the result with these rows; None where each row is several models'."""
    numbers: dict[_Place, int] = {}
    origins, rows, borrowed = [], [], torch.zeros(tensor.shape[0], dtype=torch.bool)
    for index, name in tensor.reads:
        weights = merged.stage.weights[index]
        made = weights.made.get(name) if isinstance(weights, Rows) else None
        own = numbers.setdefault((weights.inner if isinstance(weights, Rows) else weights, name), len(numbers))
        if made is None:
            origin, row = torch.full(tensor.shape[:1], own), torch.arange(tensor.shape[0])
        else:
            place = [numbers.setdefault(one, len(numbers)) for one in made.origins]
            origin, row = torch.tensor([*place, -2, -1])[made.origin], made.row
            borrowed |= (origin >= 0) & (origin != own)
        origins.append(origin)
        rows.append(row)
    alike = _all_equal(origins) & _all_equal(rows) & borrowed & (origins[0] >= 0)
    if not alike.any():
        return None
    result = len(numbers)
    return RowTensor(
        tensor.name,
        tensor.dtype,
        tensor.shape,
        (*numbers, (merged, tensor.name)),
        torch.where(alike, origins[0], result),
        torch.where(alike, rows[0], torch.arange(tensor.shape[0])),
        {},
    )


def _all_equal(columns: list[torch.Tensor]) -> torch.Tensor:
    """By place: whether all columns have the same there."""
    return (torch.stack(columns) == columns[0]).all(0)
