"""Mixtures of experts made of dense models: one model's attention, the MLPs of several, and gates that choose.

The plan is one of a merge that copies (../stream/): experts' tensors byte for byte, gates as they are made here.

    document.py   what to make of which models: mergekit-moe's YAML
    layouts.py    how families call the tensors of a mixture, and what their configurations say
    gates.py      the gates: from hidden states, from embeddings, random; and other tensors that no model has
    prompts.py    what a model sees in prompts, layer by layer
    mixture.py    the plan of a mixture
"""
