"""The merge of one tensor: the only place where weights are computed, for files and for a resident model alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import SourceError
from ..methods import Method
from .dtypes import DTYPES
from .tensors import TensorPlan

Read = Callable[[int, str], Tensor]
"""Gives a stored tensor, in the dtype of the file, by the index of its source and its name there."""

_ALIGNMENT = 64


def merge_tensor(method: Method, plan: TensorPlan, read: Read) -> Tensor:
    """The output tensor that `plan` describes, in its shape and dtype. The tensors that `read` gives are not changed.

    Computed in float32, on one thread: sums depend on how they are split, and the same recipe must give the same
    bytes on every machine. Integers are copied. Raises `SourceError` where the result is not finite or where
    integers that should be equal are not.
    """
    if plan.copied:
        return _copied(plan, read)
    with one_thread():
        base = None if plan.base is None else _as_float32(read(*plan.base))
        inputs = [_as_float32(read(index, name)) for index, name in plan.inputs]
        merged = method(inputs, base, per_model=plan.per_model, shared=plan.shared, tensor_name=plan.name)
        result = merged.to(DTYPES[plan.dtype].torch)
        if not is_finite(result):
            raise SourceError(_not_finite(plan, is_finite(merged)))
        return result


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite; needs no memory."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread inside, so that results do not depend on the number of cores."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _copied(plan: TensorPlan, read: Read) -> Tensor:
    first, *others = (read(index, name) for index, name in plan.reads)
    if not all(torch.equal(first, other) for other in others):
        raise SourceError(
            f"{plan.name} holds integers, which cannot be merged, and the models disagree on them; "
            "choose models with the same values there."
        )
    return first


def _as_float32(tensor: Tensor) -> Tensor:
    tensor = tensor.to(torch.float32)
    # Where a tensor starts in a file must not show in the result: some kernels sum in another order when unaligned.
    return tensor if tensor.data_ptr() % _ALIGNMENT == 0 and tensor.is_contiguous() else tensor.clone()


def _not_finite(plan: TensorPlan, before_cast: bool) -> str:
    if before_cast:
        return f"The merged {plan.name} is too large for {plan.dtype}; set out_dtype to bfloat16 or float32."
    return f"The merged {plan.name} is not finite (NaN or infinity); use smaller weights."
