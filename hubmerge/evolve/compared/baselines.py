"""The merges that people make without a search, for comparison: same models, nothing tuned."""

from dataclasses import replace

from ...recipe import BASE, ModelEntry, Recipe, TokenizerBlock
from ..search import Search

# DARE-TIES starts where the paper's search does (weight and density .5, arXiv 2403.13187); TIES takes the density of
# mergekit's examples and full weight, task arithmetic full task vectors (arXiv 2212.04089).
_UNTUNED: dict[str, tuple[str, dict[str, float], dict[str, float]]] = {
    "average": ("linear", {"weight": 1.0}, {"normalize": True}),
    "task_arithmetic": ("task_arithmetic", {"weight": 1.0}, {"normalize": False, "lambda": 1.0}),
    "ties": ("ties", {"weight": 1.0, "density": 0.5}, {"normalize": True, "lambda": 1.0}),
    "dare_ties": ("dare_ties", {"weight": 0.5, "density": 0.5}, {"normalize": False, "lambda": 1.0}),
}

LABELS = {
    "average": "average",
    "task_arithmetic": "task arithmetic, untuned",
    "ties": "TIES, untuned",
    "dare_ties": "DARE-TIES, untuned",
}
"""What each baseline is called in tables."""


def baseline(name: str, search: Search) -> Recipe | None:
    """The recipe of a baseline over the search's models; None where it needs a base and the search has none, or where
    it would be the one model that there is."""
    method, per_model, shared = _UNTUNED[name]
    if name != "average" and search.base_model is None:
        return None
    if name in ("average", "task_arithmetic") and len(search.models) == 1:  # that is the model
        return None
    models = tuple(ModelEntry(model, per_model) for model in search.models)
    plain = Recipe(
        method,
        models=models,
        base_model=search.base_model if name != "average" else None,
        parameters=shared,
        output=search.output,
    )
    # An average has no base model of its own, but speaks the search's language: the base gives the tokenizer.
    block = search.output.vocabulary or TokenizerBlock(BASE)
    seeing = any(model.component is not None for model in search.models)  # its own tokens are needed
    if name == "average" and search.base_model is not None and block.source == BASE and not seeing:
        block = replace(block, source=str(search.base_model))
        return replace(plain, output=replace(search.output, tokenizer_source=None, tokenizer=block))
    return plain
