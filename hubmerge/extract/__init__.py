"""A LoRA out of a model and its base: what the model learnt, as products of thin matrices.

Each weight's difference is read, factored and put away, a tensor of both models at a time; then what was found is
written as a merge is (../stream/), which pushes, resumes and verifies. Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    candidates.py   which tensors a LoRA can say, and what is said of those that it cannot
    factoring.py    the differences, read and factored on all cores
    kept.py         what was factored already, on disk until all of it is written
    lowrank.py      the best product of two thin matrices for one difference
    adapter.py      what is written: factors by peft's names, adapter_config.json, the plan of it
    summary.py      how near it comes, by kinds of modules
    asked.py        what is asked for, of which tensors, and what that takes
    card.py         the card of a LoRA: of what it is, and how near it comes
"""

EXTRACT = "extract_lora"
"""What a recipe calls it."""
