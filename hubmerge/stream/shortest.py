"""Vocabularies of different lengths, merged by number: every tensor with a row a token is as long as the shortest.

For models whose tokens are the same and whose embeddings are padded to different lengths, or whose tokenizers are gone.
"""

from collections.abc import Mapping

from ..late import torch
from ..layers import is_by_token
from .rows import Rows, RowTensor
from .tensors import TensorPlan
from .views import View
from .weights import Described


def shortened(views: Mapping[int, View]) -> dict[int, View]:
    """The views, each without the rows that another lacks; one that is short already stays as it is."""
    names = dict.fromkeys(name for view in views.values() for name in view.tensors if is_by_token(name))
    made: dict[int, dict[str, RowTensor]] = {index: {} for index in views}
    for name in names:
        tensors = {index: view.tensors[name] for index, view in views.items() if name in view.tensors}
        least = min(tensor.shape[0] for tensor in tensors.values())
        for index, tensor in tensors.items():
            if tensor.shape[0] > least:
                made[index][name] = _first_rows(views[index], name, tensor, least)
    return {
        index: View(Rows(view.weights, made[index]), {**view.tensors, **made[index]}) if made[index] else view
        for index, view in views.items()
    }


def rows_of(tensors: tuple[TensorPlan, ...]) -> int | None:
    """How many rows the embedding of a result has; None where it has none."""
    return next((tensor.shape[0] for tensor in tensors if is_by_token(tensor.name) and tensor.shape), None)


def _first_rows(view: View, name: str, tensor: Described, rows: int) -> RowTensor:
    origin, row = torch.zeros(rows, dtype=torch.long), torch.arange(rows)
    return RowTensor(name, tensor.dtype, (rows, *tensor.shape[1:]), ((view.weights, tensor.name),), origin, row, {})
