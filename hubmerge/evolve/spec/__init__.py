"""The parts of search.yaml, each a dataclass that is validated at construction.

fields.py     the search as a kind of document, whose fields are read with their types
genes.py      what of a recipe varies, and how finely
data_flow.py  what a path through the layers may be
searcher.py   how candidates are proposed, and how many
fitness.py    what counts as better
economy.py    how a search saves tokens
"""
