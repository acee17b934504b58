"""From vectors of numbers, which searchers propose, to candidates.

squash.py      from a number on the real line to a value in a range
families.py    which tensors of a family's layers a path's scales go into
layer_path.py  a path through the layers of several models, and its export as a recipe
candidate.py   what a genome makes of a vector: a recipe or such a path
genome.py      what every genome can do
recipes.py     the genome of recipes: values of a merge method's parameters
scalings.py    how a path's scales follow from genes
paths.py       what both genomes of such paths share
data_flow.py   the paper's genome of such paths; a path at random
edits.py       such paths as they stand, to be changed a little
"""
