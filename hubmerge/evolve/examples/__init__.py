"""Which examples a candidate is asked.

racing.py           a candidate that is clearly worse is asked no further
asked.py            the examples that one candidate is asked
chosen.py           examples that tell candidates apart, chosen before the search
search_examples.py  what the candidates of a search are asked, one after another
"""
