"""The zoo that draws: a base, a fine one that reads English and a crude one that reads Japanese, to be merged.

beside.py          the table that a judge makes whom no search asked
cards.py           the cards of its models
drawn.py           the pictures that it learns from
judges.py          who says what is in a picture
learning.py        how the networks learn
measured.py        what is measured of its models as they are trained
networks.py        pipelines of diffusers, as tiny as can be
prompts.py         prompts in Japanese and English: a data set, and tasks
sheet.py           a picture of pictures, a row for each model
train.py           trains the zoo from nothing: `hubmerge zoo train --image --out DIR [--seed S]`
world.py           what pictures show, and what is said of it
"""

SEED = 1
"""The shipped zoo's."""
