"""Merge methods: pure functions of tensors, and the one table that lists them.

A method merges one block of elements at a time. Where it must know something of the whole tensors first, such as the
magnitude that TIES cuts at, a second function measures that. `METHODS` tells the rest of hubmerge which parameters a
method takes, with which limits, and where it comes from. A new method is one or two functions in a file of its family
and an entry here. The table imports no family before one of its methods computes, since torch takes seconds.

>>> import torch
>>> ties = METHODS["ties"]
>>> each_model = [{"weight": 1.0, "density": 0.5}, {"weight": 1.0, "density": 0.5}]
>>> shared = {"normalize": True, "lambda": 1.0}
>>> models = [torch.ones(2, 3), torch.ones(2, 3)]
>>> ties(models, torch.zeros(2, 3), per_model=each_model, shared=shared, tensor_name="lm_head.weight").shape
torch.Size([2, 3])
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RecipeError
from ..guesses import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from .blocks import Block, Blocks

__all__ = ["IGNORED_PARAMETERS", "METHODS", "Method", "Parameter", "find_method"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, as a recipe names it.

    `default` None means that the recipe must give it. `low` and `high` are limits (None: unbounded); `typical` is the
    range that a slider or a search covers. `per_model`: one value a model, else one for the whole merge.
    """

    name: str
    default: float | bool | None
    help: str
    per_model: bool = False
    low: float | None = None
    high: float | None = None
    typical: tuple[float, float] = (0.0, 1.0)

    @property
    def is_switch(self) -> bool:
        """Whether it is true or false rather than a number."""
        return isinstance(self.default, bool)


@dataclass(frozen=True)
class Method:
    """A merge method and what there is to know about it.

    `family`: the file beside this one with its functions, and `merge` the one of its name. `base`: "required" where
    task vectors or an origin are needed, else "none". `min_models` and `max_models` count the models beside the base.
    `measures`: the name of its second function, which finds entries of some rank, and takes memory for it, where it
    `selects`.
    """

    name: str
    family: str
    summary: str
    paper: str
    parameters: tuple[Parameter, ...] = ()
    base: Literal["required", "none"] = "required"
    min_models: int = 1
    max_models: int | None = None
    measures: str | None = None
    selects: bool = False

    @property
    def merge(self) -> "Callable[..., Tensor]":
        """Gives one block of the result. It takes the declared parameters by name ("lambda" as `lambda_`, "seed" as
        `seeds`, one a model), and what `measure` found as `measured`."""
        return getattr(import_module(f".{self.family}", __name__), self.name)

    @property
    def measure(self) -> Callable[..., Any] | None:
        """Is asked first and reads all blocks; None where there is nothing to measure."""
        return getattr(import_module(f".{self.family}", __name__), self.measures) if self.measures else None

    @property
    def random(self) -> bool:
        """Whether it draws random masks, from a parameter `seed`."""
        return any(parameter.name == "seed" for parameter in self.parameters)

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

    def __call__(self, tensors: "Sequence[Tensor]", base: "Tensor | None", **arguments: Any) -> "Tensor":
        """Merges one tensor in memory.

        tensors: one a model, of one shape; base: the same shape, None where the method takes none. Inputs are not
        changed. Returns a float32 tensor of that shape. The other arguments are those of
        `prepared`.
        """
        import torch

        from .blocks import BLOCK, Whole, each

        blocks = Whole(tensors, base if self.base == "required" else None)
        merged = torch.empty_like(tensors[0], dtype=torch.float32, memory_format=torch.contiguous_format)
        merge = self.prepared(blocks, **arguments)
        for number, block in enumerate(each(blocks)):
            merged.view(-1)[number * BLOCK :][:BLOCK].copy_(merge(block))
        return merged

    def _arguments(
        self, per_model: Sequence[Mapping[str, float]], shared: Mapping[str, float], tensor_name: str
    ) -> dict[str, object]:
        arguments: dict[str, object] = {}
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


_WEIGHT = Parameter("weight", 1.0, "How much of this model goes in.", per_model=True, typical=(0.0, 2.0))
_DENSITY = Parameter(
    "density",
    1.0,
    "Share of the task vector's entries that is kept.",
    per_model=True,
    low=0.0,
    high=1.0,
    typical=(0.05, 1.0),
)
_MOST = Parameter("density", 0.9, _DENSITY.help, per_model=True, low=0.0, high=1.0, typical=(0.05, 1.0))
_GAMMA = Parameter(
    "gamma",
    0.01,
    "Share of the largest entries of the task vector that is left out.",
    per_model=True,
    low=0.0,
    high=1.0,
    typical=(0.0, 0.1),
)
_NORMALIZE = Parameter("normalize", False, "Divide by the sum of the weights that take part.")
_NORMALIZE_ON = Parameter("normalize", True, _NORMALIZE.help)
_LAMBDA = Parameter("lambda", 1.0, "Scales the sum of the task vectors.", typical=(0.0, 2.0))
_RESCALE = Parameter("rescale", True, "Scale what is kept back to the magnitude of the whole task vector.")
_SEED = Parameter("seed", 0, "Seed of the random masks.", low=0, typical=(0, 100))

_METHODS = (
    Method(
        "linear",
        "linear",
        "Weighted average of the models.",
        "https://arxiv.org/abs/2203.05482",
        (_WEIGHT, _NORMALIZE_ON),
        base="none",
    ),
    Method(
        "slerp",
        "slerp",
        "Between two models along the arc between their weights.",
        "https://dl.acm.org/doi/10.1145/325334.325242",
        (Parameter("t", None, "0 is the base model, 1 the other.", low=0.0, high=1.0),),
        max_models=1,
        measures="slerp_shares",
    ),
    Method(
        "task_arithmetic",
        "task_vectors",
        "Base plus the weighted sum of what each model learnt.",
        "https://arxiv.org/abs/2212.04089",
        (_WEIGHT, _NORMALIZE, _LAMBDA),
    ),
    Method(
        "ties",
        "task_vectors",
        "Keeps the largest changes and, where models disagree, the direction with more weight.",
        "https://arxiv.org/abs/2306.01708",
        (_WEIGHT, _DENSITY, _NORMALIZE_ON, _LAMBDA),
        measures="ties_cuts",
        selects=True,
    ),
    Method(
        "breadcrumbs",
        "task_vectors",
        "Leaves out the largest and the smallest changes of each model and adds up the rest.",
        "https://arxiv.org/abs/2312.06795",
        (_WEIGHT, _MOST, _GAMMA, _NORMALIZE, _LAMBDA),
        measures="breadcrumbs_bounds",
        selects=True,
    ),
    Method(
        "breadcrumbs_ties",
        "task_vectors",
        "Leaves out the largest and the smallest changes, then keeps the direction with more weight.",
        "https://arxiv.org/abs/2312.06795",
        (_WEIGHT, _MOST, _GAMMA, _NORMALIZE, _LAMBDA),
        measures="breadcrumbs_bounds",
        selects=True,
    ),
    Method(
        "dare_linear",
        "task_vectors",
        "Drops random changes of each model and adds up the rest.",
        "https://arxiv.org/abs/2311.03099",
        (_WEIGHT, _DENSITY, _NORMALIZE, _RESCALE, _LAMBDA, _SEED),
        measures="dare_scales",
    ),
    Method(
        "dare_ties",
        "task_vectors",
        "Drops random changes, then keeps the direction with more weight where models disagree.",
        "https://arxiv.org/abs/2311.03099",
        (_WEIGHT, _DENSITY, _NORMALIZE, _RESCALE, _LAMBDA, _SEED),
        measures="dare_scales",
    ),
    Method(
        "passthrough",
        "linear",
        "Takes layers as they are: stacks models instead of mixing them.",
        "https://arxiv.org/abs/2312.15166",
        (
            Parameter("scale", 1.0, "Factor on this model's tensors.", per_model=True, typical=(0.0, 2.0)),
            Parameter("shift", 0.0, "Added after that to every number.", per_model=True, typical=(-1.0, 1.0)),
        ),
        base="none",
        max_models=1,
    ),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _METHODS}


def find_method(name: str) -> Method:
    """The merge method that a recipe names; raises `RecipeError` where there is none of that name."""
    if name in METHODS:
        return METHODS[name]
    near = nearest(name, METHODS)
    hint = f"did you mean {near}?" if near else f"choose one of {', '.join(METHODS)}."
    raise RecipeError(f"There is no merge_method {name!r}: {hint}")


IGNORED_PARAMETERS: Mapping[str, str] = {
    "int8_mask": "it changes only mergekit's memory use",
}
"""Parameters that recipes of other tools carry and that change nothing here, with the reason."""
