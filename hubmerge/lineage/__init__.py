"""Where models come from: what cards and manifests say, and what headers and a few sampled numbers show.

claims.py     what a model says of its parents
likeness.py   how alike two models are, by a few numbers of each
likely.py     which models of the Hub may be the parent of one that names none
tree.py       models and all that they come from, their common ancestors, and the base that fits them
"""
