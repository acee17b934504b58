"""The merge of one tensor: the only place where weights are computed, for files and for a resident model alike."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import SourceError
from ..late import Tensor, torch
from ..methods import Method
from ..methods.blocks import BLOCK, Block, Workspace
from ..methods.method import step_of
from .dtypes import DTYPES
from .tensors import TensorPlan

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
        self._inputs = _Inputs(method, plan, read, workspace)
        self._merge: Callable[[Block], Tensor] | None = None
        self._made: tuple[int, Tensor] | None = None
        self._result = torch.empty(0)

    def block(self, start: int) -> Tensor:
        """The elements from `start`, a multiple of BLOCK, on: flat, in the output's dtype, good until the next call.

        Raises `SourceError` where they are not finite or where integers that should be equal are not.
        """
        plan = self._plan
        stop = min(start + BLOCK, plan.parameters)
        if plan.copied:
            return _copied(plan, self._read, start, stop)
        step = self._inputs.step
        first = start // step * step
        made = self._make(first)
        if stop <= first + made.numel():
            return made if made.numel() == stop - start else made[start - first : stop - first]
        if not self._result.numel():
            self._result = torch.empty(min(BLOCK, plan.parameters), dtype=made.dtype)
        at = start
        while True:
            part = made[at - first : stop - first]
            self._result[at - start :][: part.numel()] = part
            at += part.numel()
            if at == stop:
                return self._result[: stop - start]
            first += step
            made = self._make(first)

    def _make(self, start: int) -> Tensor:
        """What the method makes at a time, from `start` on; kept until another is asked for."""
        if self._made is not None and self._made[0] == start:
            return self._made[1]
        plan, step = self._plan, self._inputs.step
        if self._merge is None:
            self._merge = self._method.prepared(
                self._inputs, per_model=plan.per_model, shared=plan.shared, tensor_name=plan.key
            )
        memory = self._made[1] if self._made is not None else torch.empty(0)
        size = min(step, plan.parameters - start)
        if memory.numel() < size:
            memory = torch.empty(size, dtype=DTYPES[plan.dtype].torch)
        self._made = None
        merged = self._merge(self._inputs.read(start, start + size))
        block = memory[: merged.numel()].copy_(merged)
        if not is_finite(block):
            raise SourceError(_not_finite(plan, is_finite(merged)))
        self._made = start, block
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

    def __init__(self, method: Method, plan: TensorPlan, read: Read, workspace: Workspace) -> None:
        self.step = step_of(method.unit, plan.shape)
        self._by_element = method.statistic == "fisher"
        self._plan = plan
        self._reads = plan.reads
        self._read = read
        self._workspace = workspace

    @property
    def elements(self) -> int:
        return self._plan.parameters

    @property
    def shape(self) -> tuple[int, ...]:
        return self._plan.shape

    def read(self, start: int, stop: int) -> Block:
        self._workspace.clear()
        plan = self._plan
        tensors = [self._workspace.take(stop - start) for _ in self._reads]
        # However much the method wants at once, all are read together in parts of one block: that is how they come.
        at = start
        while at < stop:
            end = min(stop, (at // BLOCK + 1) * BLOCK)
            parts = tensors if end - at == stop - start else [one[at - start : end - start] for one in tensors]
            for part, (index, name) in zip(parts, self._reads, strict=True):
                part.copy_(self._read(index, name, at, end))
            at = end
        base = None if plan.base is None else tensors.pop(0)
        statistics = []
        for one in plan.statistics if self._by_element else ():
            statistics.append(self._workspace.take(stop - start).copy_(self._read(*one, start, stop)))
        return Block(start, tensors, base, self._workspace, plan.shape, self.step, statistics)

    def statistic(self, model: int) -> Tensor | None:
        if not self._plan.statistics:
            return None
        columns = self._plan.shape[-1] if self._plan.shape else 1
        whole = torch.empty(columns**2, device=self._workspace.device)
        for start in range(0, columns**2, BLOCK):
            part = whole[start : start + BLOCK]
            part.copy_(self._read(*self._plan.statistics[model], start, start + part.numel()))
        return whole.view(columns, columns)


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite; needs no memory."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return math.isfinite(low) and math.isfinite(high)


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
