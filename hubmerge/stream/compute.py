"""The merge of one tensor: the only place where weights are computed, for files and for a resident model alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import SourceError
from ..methods import Method
from ..methods.blocks import BLOCK, Block, Workspace
from .dtypes import DTYPES
from .tensors import TensorId, TensorPlan

Read = Callable[[int, str, int, int], Tensor]
"""Gives elements `start` to `stop` of one of the inputs, by the index of its weights and its name there: flat, in the
dtype of the file or float32, not to be changed, and good until the next call by the same thread."""


class Merging:
    """The output tensor that `plan` describes, a block at a time, in any order.

    Computed in float32, in blocks that begin at the same elements however the work is spread, and to be called with
    torch on `one_thread`: so the same recipe gives the same bytes. Integers, and what is carried, are copied.
    """

    def __init__(self, method: Method, plan: TensorPlan, read: Read, workspace: Workspace) -> None:
        self._method = method
        self._plan = plan
        self._read = read
        self._inputs = _Inputs(plan, read, workspace)
        self._merge: Callable[[Block], Tensor] | None = None
        self._result = torch.empty(0)

    def block(self, start: int) -> Tensor:
        """The elements from `start`, a multiple of BLOCK, on: flat, in the output's dtype, good until the next call.

        Raises `SourceError` where they are not finite or where integers that should be equal are not.
        """
        plan = self._plan
        stop = min(start + BLOCK, plan.parameters)
        if plan.copied:
            return _copied(plan, self._read, start, stop)
        if self._merge is None:
            self._merge = self._method.prepared(
                self._inputs, per_model=plan.per_model, shared=plan.shared, tensor_name=plan.key
            )
            self._result = torch.empty(min(BLOCK, plan.parameters), dtype=DTYPES[plan.dtype].torch)
        merged = self._merge(self._inputs.read(start, stop))
        block = self._result[: merged.numel()].copy_(merged)
        if not is_finite(block):
            raise SourceError(_not_finite(plan, is_finite(merged)))
        return block


def merge_blocks(method: Method, plan: TensorPlan, read: Read, workspace: Workspace) -> Iterator[Tensor]:
    """All blocks of an output tensor, in order; see `Merging`."""
    merging = Merging(method, plan, read, workspace)
    for start in range(0, plan.parameters, BLOCK):
        yield merging.block(start)


def merge_tensor(method: Method, plan: TensorPlan, read: Read) -> Tensor:
    """The output tensor that `plan` describes, whole, in its shape and dtype; see `merge_blocks`."""
    result = torch.empty(plan.parameters, dtype=DTYPES[plan.dtype].torch)
    with one_thread():
        for number, block in enumerate(merge_blocks(method, plan, read, Workspace(elements=plan.parameters))):
            result[number * BLOCK :][:BLOCK] = block
    return result.view(plan.shape)


class _Inputs:
    """The stored tensors that one output tensor is merged from, as `methods.Blocks`."""

    def __init__(self, plan: TensorPlan, read: Read, workspace: Workspace) -> None:
        self._plan = plan
        self._read = read
        self._workspace = workspace

    @property
    def elements(self) -> int:
        return self._plan.parameters

    def read(self, start: int, stop: int) -> Block:
        self._workspace.clear()
        base = None if self._plan.base is None else self._take(self._plan.base, start, stop)
        return Block(start, [self._take(one, start, stop) for one in self._plan.inputs], base, self._workspace)

    def _take(self, tensor: TensorId, start: int, stop: int) -> Tensor:
        return self._workspace.take(stop - start).copy_(self._read(*tensor, start, stop))


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite; needs no memory."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread inside: how it splits an operation must not show in the result.

    New threads that are started inside do the same.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _copied(plan: TensorPlan, read: Read, start: int, stop: int) -> Tensor:
    first, *others = plan.reads
    block = read(*first, start, stop).clone()
    if not all(torch.equal(block, read(*other, start, stop)) for other in others):
        raise SourceError(
            f"{plan.name} holds integers, which cannot be merged, and the models disagree on them; "
            "choose models with the same values there."
        )
    return block


def _not_finite(plan: TensorPlan, before_cast: bool) -> str:
    if before_cast:
        return f"The merged {plan.name} is too large for {plan.dtype}; set out_dtype to bfloat16 or float32."
    return f"The merged {plan.name} is not finite (NaN or infinity); use smaller weights."
