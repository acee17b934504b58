"""What there is to know of a merge method, and how it is called. Nothing here loads torch before a method computes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from .blocks import Block, Blocks

BLOCK = 1 << 18
"""Elements: a float32 block fits into a core's cache, and is large enough for its operations to outweigh their calls.

Sums, the last bits of vector operations and random masks depend on where blocks begin, so this number is part of
every result; the number of threads and the way that tensors are read are not.
"""

SLICE = 4 * BLOCK
"""Elements of a slice of a matrix, about, for products of whole matrices: part of every result as well."""

FLOAT32_BYTES = 4

KEPT = 1 << 20
"""Magnitudes that all searches of one tensor keep at a time, at most."""

SPARE_BLOCKS = 9
"""Blocks of a thread beside those of the stored tensors: what methods use in between, and the raw and final bytes."""

Unit = Literal["block", "row", "tensor"]
"""What a method must see at once: any run of elements, whole rows (of the last dimension), or the whole tensor."""

Statistic = Literal["gram", "fisher"]
"""What is measured of a model, on texts: the Gram matrix of the inputs of each linear module, (in, in), or the Fisher
information of each number of its weights."""


def step_of(unit: Unit, shape: Sequence[int]) -> int:
    """How many elements of a tensor of this shape are merged at a time; the last time fewer.

    >>> [step_of(unit, (1000, 4000)) for unit in ("block", "row", "tensor")]
    [262144, 260000, 4000000]
    """
    if unit == "tensor":
        return max(1, math.prod(shape))
    if unit == "row":
        columns = max(1, shape[-1]) if shape else 1
        return max(1, BLOCK // columns) * columns
    return BLOCK


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, as a recipe names it.

    `default` None means that the recipe must give it. `low` and `high` are limits (None: unbounded); `typical` is the
    range that a slider or a search covers. `per_model`: one value a model, else one for the whole merge. `tuned`:
    whether a search may vary it; what only guards against division by zero, or ends an iteration, is left as it is.
    `fills`: whether the default counts for tensors that none of a recipe's filters fits. `limited`: whether mergekit
    takes what lies beyond a limit as that limit.
    """

    name: str
    default: float | bool | None
    help: str
    per_model: bool = False
    low: float | None = None
    high: float | None = None
    typical: tuple[float, float] = (0.0, 1.0)
    tuned: bool = True
    fills: bool = True
    limited: bool = False

    @property
    def is_switch(self) -> bool:
        """Whether it is true or false rather than a number."""
        return isinstance(self.default, bool)

    def within(self, value: float) -> float:
        """The value, or the limit that it lies beyond."""
        value = value if self.low is None else max(value, self.low)
        return value if self.high is None else min(value, self.high)

    def taken(self, value: float | bool) -> float | bool | None:
        """A value as the parameter has it: 0 and 1 are a switch's false and true; None where it is no value of it.

        >>> Parameter("normalize", True, "").taken(1.0), Parameter("weight", 1.0, "").taken(True)
        (True, 1.0)
        """
        if self.is_switch:
            return bool(value) if value in (0, 1) else None
        return float(value) if isinstance(value, bool) else value

    @property
    def is_gene(self) -> bool:
        """Whether a search may vary it."""
        return self.tuned and not self.is_switch and self.name != "seed"


@dataclass(frozen=True)
class Method:
    """A merge method and what there is to know about it.

    `family`: the file beside this one with its functions, and `merge` the one of its name. `base`: "required" where
    task vectors or an origin are needed, "optional" where it merges task vectors if there is a base and weights if not.
    `min_models` and `max_models` count the models beside the base. `measures`: the name of its second function, which
    looks at whole tensors first. `selects`: that it finds entries of some rank, and takes memory for it. `unit`: what
    must be seen at once. `held`: what it holds of a tensor meanwhile, in float32 tensors of its size, for the merge and
    for each model. `squares`: that it takes products of whole matrices, and how many float64 squares of the shorter
    side it holds meanwhile, for the merge and for each model. `placed`: that it is told which share of the model's
    elements comes before a tensor. `statistic`: what it needs measured of each model; its second function looks at no
    more than that.

    For readers: `formula` in plain text, `use`: when to choose it, `differs`: from mergekit, in what.
    """

    name: str
    family: str
    summary: str
    paper: str
    parameters: tuple[Parameter, ...] = ()
    base: Literal["required", "optional", "none"] = "required"
    min_models: int = 1
    max_models: int | None = None
    measures: str | None = None
    selects: bool = False
    unit: Unit = "block"
    held: tuple[float, float] = (0.0, 0.0)
    squares: tuple[float, float] = (0.0, 0.0)
    placed: bool = False
    statistic: Statistic | None = None
    formula: str = ""
    use: str = ""
    differs: str = ""

    @property
    def merge(self) -> "Callable[..., Tensor]":
        """Gives one block of the result. It takes the declared parameters by name ("lambda" as `lambda_`, "seed" as
        `seeds`, one a model), and what `measure` found as `measured`."""
        return getattr(import_module(f".{self.family}", __package__), self.name)

    @property
    def measure(self) -> Callable[..., Any] | None:
        """Is asked first and reads all blocks; None where there is nothing to measure."""
        return getattr(import_module(f".{self.family}", __package__), self.measures) if self.measures else None

    @property
    def multiplies(self) -> bool:
        """Whether it takes products of whole matrices: what that costs grows faster than their elements."""
        return self.unit == "tensor" or any(self.squares)

    @property
    def reads_twice(self) -> bool:
        """Whether it looks at the models' tensors before it merges them."""
        return self.measures is not None and self.statistic is None

    @property
    def takes_base(self) -> bool:
        """Whether a base_model is more than one of the models, or nothing."""
        return self.base != "none"

    @property
    def adds_up(self) -> bool:
        """Whether it adds task vectors to the base, so that without any the result is the base."""
        return self.base == "required" and self.min_models == 1 and self.max_models is None

    @property
    def random(self) -> bool:
        """Whether it draws random masks, from a parameter `seed`."""
        return any(parameter.name == "seed" for parameter in self.parameters)

    @property
    def genes(self) -> tuple[str, ...]:
        """The parameters that a search may vary."""
        return tuple(parameter.name for parameter in self.parameters if parameter.is_gene)

    def block_bytes(self, shape: Sequence[int], tensors: int) -> int:
        """Bytes where a thread computes a tensor of this shape from `tensors` stored ones."""
        elements = math.prod(shape)
        blocks = (tensors + SPARE_BLOCKS) * BLOCK
        if self.unit == "row":
            blocks = (tensors + SPARE_BLOCKS) * max(BLOCK, step_of("row", shape))
        if self.unit == "tensor":
            blocks += (tensors + 2) * elements  # two: the result, and what is written of it
        if self.statistic == "fisher":
            blocks += tensors * BLOCK
        if self.statistic == "gram":
            # In float64 the models' sum and its factor, then that and a band of rows; one of a model; blocks of rows.
            rows = step_of("row", shape)
            blocks += 5 * max((shape[-1] if shape else 1) ** 2, rows) + 6 * max(BLOCK, rows)
        if any(self.squares) and len(shape) == 2:
            blocks += self._product_numbers(shape, tensors)
        alone, each = self.held
        return int((blocks + elements * (alone + each * tensors)) * FLOAT32_BYTES)

    def _product_numbers(self, shape: Sequence[int], tensors: int) -> int:
        """Of 32 bits, that products of whole matrices take: see `products.Slices`."""
        alone, each = self.squares
        # The squares; a slice of each tensor, and in float64 what is made of it.
        numbers = 2 * min(shape) ** 2 * (alone + each * tensors)
        numbers += (tensors + 2 + SPARE_BLOCKS) * max(SLICE, step_of("row", shape))
        if shape[1] > shape[0]:  # all are held, and what is made of them: the result, or a square of the longer side
            numbers += math.prod(shape) * (tensors + min(4.0, shape[1] / shape[0]))
        return int(numbers)

    def memory(self, shape: Sequence[int], tensors: int) -> int:
        """Bytes that a thread takes beside what it reads from: `block_bytes`, and what finding ranks takes."""
        # What a search for ranks keeps, put together and in order.
        return self.block_bytes(shape, tensors) + (3 * KEPT * FLOAT32_BYTES if self.selects else 0)

    def work(self, shape: Sequence[int]) -> float:
        """What computing a tensor of this shape costs, in a unit of the method's own."""
        elements = math.prod(shape)
        if self.statistic == "gram":
            return float(elements * shape[-1]) if shape else 1.0
        return float(elements * max(1, min(shape, default=1))) if self.multiplies else float(elements)

    def prepared(
        self,
        blocks: "Blocks",
        *,
        per_model: Sequence[Mapping[str, float]],
        shared: Mapping[str, float],
        tensor_name: str,
    ) -> "Callable[[Block], Tensor]":
        """What merges any block of one tensor, which is measured first: flat float32, good until the next call.

        per_model: the per-model parameters of each model; shared: the others ("lambda", "seed", ...). Every declared
        parameter must be present.
        """
        arguments = self._arguments(per_model, shared, tensor_name)
        merge, measure = self.merge, self.measure
        if measure is not None:
            arguments["measured"] = measure(blocks, **arguments)
        return lambda block: merge(block, **arguments)

    def __call__(
        self,
        tensors: "Sequence[Tensor]",
        base: "Tensor | None",
        statistics: "Sequence[Tensor]" = (),
        **arguments: Any,
    ) -> "Tensor":
        """Merges one tensor in memory.

        tensors: one a model, of one shape; base: the same shape, None where the method takes none; statistics: what was
        measured of each model, where the method needs that. Inputs are not changed. Returns a float32 tensor of that
        shape. The other arguments are those of `prepared`.
        """
        import torch

        from .blocks import Whole, each

        blocks = Whole(tensors, base if self.takes_base else None, self.unit, statistics)
        merged = torch.empty_like(tensors[0], dtype=torch.float32, memory_format=torch.contiguous_format)
        merge = self.prepared(blocks, **arguments)
        for block in each(blocks):
            merged.view(-1)[block.start :][: block.tensors[0].numel()].copy_(merge(block))
        return merged

    def _arguments(
        self, per_model: Sequence[Mapping[str, float]], shared: Mapping[str, float], tensor_name: str
    ) -> dict[str, object]:
        arguments: dict[str, object] = {}
        if self.placed:
            # Alone, a tensor is the whole of a model.
            arguments["place"] = shared.get("begin", 0.0), shared.get("end", 1.0)
        for parameter in self.parameters:
            if parameter.per_model:
                arguments[parameter.name] = [values[parameter.name] for values in per_model]
            elif parameter.name == "seed":
                from .sparsify import mask_seed

                seed = int(shared["seed"])
                arguments["seeds"] = [mask_seed(seed, tensor_name, model) for model in range(len(per_model))]
            else:
                keyword = "lambda_" if parameter.name == "lambda" else parameter.name
                arguments[keyword] = shared[parameter.name]
        return arguments
