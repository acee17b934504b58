"""What methods that need data know of the models: statistics, measured on texts, layer by layer.

A recipe's `calibration` says by which texts. A model's layers are run one after another, each on all texts, so that
the weights and statistics of one layer are in memory and no more; what goes from one to the next is on disk meanwhile.

    texts.py     the texts: where they come from, as a model reads them
    stack.py     a model as what is before its layers, the layers, and what is after them
    grams.py     the Gram matrices of what linear modules are given
    sweep.py     a model measured, step by step, each kept on disk
    needs.py     what a model's statistics are, and what measuring takes
    planning.py  a recipe planned with the statistics that its methods need

>>> plan = plan_recipe(Recipe.from_yaml(Path("regmean.yaml")))     # doctest: +SKIP
>>> plan = measured(plan)                                          # doctest: +SKIP
"""

from .planning import measured, plan_recipe

__all__ = ["measured", "plan_recipe"]
