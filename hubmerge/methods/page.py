"""docs/methods.md, made from the table: `python -m hubmerge.methods.page > docs/methods.md`."""

import sys
from collections.abc import Iterator

from .method import Method, Parameter
from .table import METHODS, UNBUILT

_UNITS = {
    "block": "blocks of 262,144 elements, whatever the tensor's size",
    "row": "whole rows",
    "tensor": "one whole tensor at a time",
}

_STATISTICS = {
    "gram": "; holds a matrix of columns x columns for each model and four more; each model is run on its texts before",
    "fisher": "; each model is run on its texts before, forwards twice and backwards once",
}

_NEEDS = {
    "required": "a `base_model`",
    "optional": "a `base_model` or none; with one it merges what each model learnt",
    "none": "no `base_model`",
}

_LINES = """
## LiNeS: less of what was learnt in early layers

[LiNeS](https://arxiv.org/abs/2410.17146) scales task vectors by the depth of their layer, because early layers hold
what all tasks share. Here that is no method but a gradient of `lambda`, which every method that has `lambda` takes:

```yaml
parameters:
  lambda: [0.3, 1.0]    # the first layer 0.3 of its change, the last all of it, straight in between
```

Embeddings and heads, which are no layers, take the first value; a filter gives them another:
`lambda: [{filter: lm_head, value: 1.0}, {value: [0.3, 1.0]}]`.
"""


def methods_page() -> str:
    """The page, as Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Merge methods"
    yield ""
    yield "Made from `hubmerge/methods/table.py` by `python -m hubmerge.methods.page`; do not edit it here."
    yield ""
    yield "All are computed in float32 and rounded once, to the dtype that is written. `change` is a task vector: a"
    yield "model minus the base. What a method holds in memory is counted by `hubmerge plan`."
    yield ""
    yield "| method | what it does | models | when |"
    yield "|---|---|---|---|"
    for method in METHODS.values():
        yield f"| [`{method.name}`](#{method.name}) | {method.summary} | {_models(method)} | {method.use} |"
    for method in METHODS.values():
        yield from _section(method)
    yield from _LINES.splitlines()
    yield ""
    yield "## Not here"
    yield ""
    yield from (f"- `{name}`: {why}." for name, why in UNBUILT.items())


def _section(method: Method) -> Iterator[str]:
    yield ""
    yield f"## {method.name}"
    yield ""
    yield f"{method.summary} [Source]({method.paper})"
    yield ""
    yield f"    {method.formula}"
    yield ""
    yield f"- **When**: {method.use}"
    yield f"- **Needs**: {_models(method)} and {_NEEDS[method.base]}"
    yield f"- **Cost**: {_cost(method)}"
    if method.differs:
        yield f"- **Other than in mergekit 0.1.5**: {method.differs}"
    if method.parameters:
        yield ""
        yield "| parameter | default | limits | of | a search | |"
        yield "|---|---|---|---|---|---|"
        yield from map(_row, method.parameters)


def _models(method: Method) -> str:
    low, high = method.min_models, method.max_models
    if low == high:
        return f"{low} model{'s' * (low > 1)}"
    return f"{low} or more models" if high is None else f"{low} to {high} models"


def _cost(method: Method) -> str:
    passes = "reads each tensor again after measuring it" if method.reads_twice else "reads each tensor once"
    alone, each = method.held
    held = f"; holds {alone:g} tensors" if alone else ""
    held += f"; holds {each:.3g} of a tensor for each model" if each and not alone else ""
    held += f" and {each:.3g} for each model" if each and alone else ""
    alone, each = method.squares
    held += f"; holds {alone:g} squares of the shorter side" if alone else ""
    held += f" and {each:g} for each model" if each else ""
    held += ", in float64, and a matrix with more columns than rows of each model" if alone else ""
    return f"{passes}, {_UNITS[method.unit]}{held}{_STATISTICS.get(method.statistic or '', '')}"


def _row(parameter: Parameter) -> str:
    default = "required" if parameter.default is None else f"`{str(parameter.default).lower()}`"
    if parameter.is_switch:
        limits = "true, false"
    else:
        ends = [f"{end:g}" if end is not None else "" for end in (parameter.low, parameter.high)]
        limits = " to ".join(ends).strip() if all(ends) else f"at least {ends[0]}" if ends[0] else "any"
    of = "each model" if parameter.per_model else "the merge"
    varies = f"{parameter.typical[0]:g} to {parameter.typical[1]:g}" if parameter.is_gene else ""
    return f"| `{parameter.name}` | {default} | {limits} | {of} | {varies} | {parameter.help} |"


if __name__ == "__main__":
    sys.stdout.write(methods_page())
