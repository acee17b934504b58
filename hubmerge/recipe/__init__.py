"""A recipe: which models of the Hub, merged how. The YAML is mergekit's format, read and written.

>>> recipe = Recipe.from_yaml('''
... merge_method: linear
... models:
...   - {model: org/math, parameters: {weight: 0.6}}
...   - {model: org/japanese, parameters: {weight: 0.4}}
... ''')
>>> [str(model.model) for model in recipe.models]
['org/math', 'org/japanese']

    values.py       Recipe and its parts: models, slices, stages, modules
    models.py       how it names a model
    parameters.py   weight, density, t, ...: a number, a gradient, values by the tensor's name
    output.py       how the result is written: dtype, tokenizer, chat template
    calibration.py  the texts by which methods that need data measure models
    tokenizer.py    whose tokens it has, and whose row stands for single ones
    templates.py    chat templates that a recipe names
    settings.py     parameters, read from plain values
    reading.py      a recipe, read from plain values: mergekit's format, as people write it
    several.py      several documents in one file
    document.py     a recipe, written as plain values
"""

from .calibration import Calibration
from .output import AS_GIVEN, DTYPES, OUTPUT_KEYS, Output
from .parameters import Conditional, Parameters, Scalar, Setting, value_at
from .templates import TEMPLATES, Template
from .tokenizer import BASE, SHORTEST, UNION, TokenizerBlock, TokenRow
from .values import FaultyRecipe, ModelEntry, Module, Recipe, Slice, SliceSource, Stage

__all__ = [
    "AS_GIVEN",
    "BASE",
    "DTYPES",
    "OUTPUT_KEYS",
    "SHORTEST",
    "TEMPLATES",
    "UNION",
    "Calibration",
    "Conditional",
    "FaultyRecipe",
    "ModelEntry",
    "Module",
    "Output",
    "Parameters",
    "Recipe",
    "Scalar",
    "Setting",
    "Slice",
    "SliceSource",
    "Stage",
    "Template",
    "TokenRow",
    "TokenizerBlock",
    "value_at",
]
