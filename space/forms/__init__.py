"""What a form says, in the words of a recipe or a search: without a component of gradio.

recipe.py  the merge form and a recipe, each made of the other
parts.py   the parts of a pipeline in it, and the blocks of a network that draws
search.py  the Evolve form, as a search
tools.py   the Tools form, as what a job makes
filled.py  a form's fields as one value
share.py   a recipe as a link
upload.py  a small text file that a visitor sent
"""
