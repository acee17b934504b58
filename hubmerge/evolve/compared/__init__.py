"""What the winner of a search is compared with.

baselines.py    merges that people make without a search
contestants.py  base, models and these, by the names that tables give them
scales.py       the merge that people make with a few tries
answers.py      what all of these answer before a search that chooses its examples
verdict.py      whether the winner is one of the models
table.py        the final table, on the test split
"""
