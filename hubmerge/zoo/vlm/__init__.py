"""The zoo that sees: a base, a Japanese expert and a VLM that answers in English, as tiny as can be, to be merged.

beside.py          rows beside the table of a search: told, without pictures
cards.py           the cards of its models
corpora.py         what the models are trained on
drawn.py           the pictures
eyes.py            the VLM, and how it learns to see
questions.py       questions about pictures: a data set, and tasks
sheet.py           a picture of pictures with answers
tokenizer.py       one token a word
train.py           trains the zoo from nothing: `hubmerge zoo train --vlm --out DIR [--seed S]`
world.py           what pictures show, and what is asked and said of it
"""

SEED = 1
"""The shipped zoo's."""
