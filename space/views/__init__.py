"""What a visitor looks at.

models.py  the models that were chosen, as cards
plan.py    a plan: what is fetched and written, and what stands in the way
search.py  a search: figures, curve, scores, candidates, pictures of the best
job.py     a job: state, bar, figures, error
draw.py    drawings as SVG: a recipe as ribbons, a score on its interval
parts.py   the templates in `templates/`, and the lines that all tabs have
"""
