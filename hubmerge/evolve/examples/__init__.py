"""Which examples a candidate is asked.

racing.py     a candidate that is clearly worse is asked no further
job.py        what one candidate is asked
items.py      examples that tell candidates apart, chosen before the search
questions.py  what each candidate of a search is asked
"""
