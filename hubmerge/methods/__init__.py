"""Merge methods: pure functions of tensors, and the one table that lists them.

A method merges one block of elements at a time. Where it must know something of the whole tensors first, such as the
magnitude that TIES cuts at, a second function measures that. `METHODS` tells the rest of hubmerge which parameters a
method takes, with which limits, and where it comes from. A new method is one or two functions in a file of its family
and an entry in table.py. The table imports no family before one of its methods computes, since torch takes seconds.

    blocks.py         tensors a block at a time: what a merge holds in memory does not depend on how large they are
    consensus.py      consensus merging: of the summed task vectors only what several models want
    data.py           methods that look at what models do with texts
    data_table.py     the entries of the table of those
    della.py          ways of DELLA to keep part of a task vector
    fusion.py         methods that take over single numbers of one other model
    gram.py           inner products of the models' tensors
    linear.py         weighted averages, and the tensor as it is
    matrix_table.py   the entries of the table of methods that look at whole matrices
    method.py         what there is to know of a merge method, and how it is called
    page.py           docs/methods.md, made from the table: `python -m hubmerge.methods.page > docs/methods.md`
    parameters.py     parameters that several methods share
    papers.py         the papers of the methods, to be cited
    products.py       what models learnt of a matrix, in slices along its longer side, and squares of its shorter one
    ram.py            Reinforced Agent Merging: what one model alone changed stays whole
    sce.py            SCE: select where the models differ, calculate weights, erase the minority
    selection.py      where the largest magnitudes end, and which of equal ones are kept, in tensors too large to order
    slerp.py          between two models along an arc
    sparsify.py       what TIES, breadcrumbs and DARE keep of a task vector, and how many entries that are
    spectral.py       methods that look at the singular vectors of what each model learnt
    sphere.py         means on the sphere: directions are averaged along arcs, lengths on their own
    stock.py          Model Stock: how far to go from the base to the mean, from the angle between task vectors
    table.py          the one table of merge methods: what each takes, where it comes from
    task_vectors.py   methods that add up task vectors: what fine-tuning changed, fine-tuned minus base
    wudi.py           WUDI: a merge that disturbs no model in the directions that it learnt in, found without data

>>> import torch
>>> ties = METHODS["ties"]
>>> each_model = [{"weight": 1.0, "density": 0.5}, {"weight": 1.0, "density": 0.5}]
>>> shared = {"normalize": True, "rescale": False, "lambda": 1.0}
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
