"""The parts of search.yaml, each a dataclass that is validated at construction.

fields.py     what messages call the document, and the error that a wrong one raises
genes.py      what of a recipe varies, and how finely
data_flow.py  what a path through the layers may be
searcher.py   how candidates are proposed, and how many
fitness.py    what counts as better
economy.py    how a search saves tokens
baselines.py  what a search is compared with
document.py   all of it, from plain values
"""
