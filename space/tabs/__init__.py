"""The tabs of the page: components and what they do.

pick.py     search the Hub, choose models and a base, see whether they fit together
merge.py    the recipe as a form, a drawing and YAML; its plan; the merge
sliders.py  the controls of a recipe's parameters
evolve_form.py  the form of a search
evolve.py   what may vary and how a candidate is judged; the search live
answer.py  what a model says to a question, in turns
drawing.py  what a pipeline draws of prompts, in turns
chat.py     talk to a model, token by token
prompts.py  the prompt box of models that draw, and the gallery
publish.py  the card, a name, the link at the end
tools.py    a LoRA, a mixture of experts, another tokenizer, a GGUF file
panel.py    a job: how far, how it ended, Cancel and Resume
"""
