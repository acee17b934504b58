"""What a visitor looks at.

plan.py    a plan: what is fetched and written, and what stands in the way
search.py  a search: figures, curve, scores, candidates, pictures of the best
draw.py    drawings as SVG: a recipe as ribbons, a score on its interval
"""
